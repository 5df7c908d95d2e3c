# SPDX-License-Identifier: Apache-2.0
"""One read, datagram by datagram: options, windows, wrap, repeated ACKs, timeouts, verdicts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.protocol.tftp.extents import extent_of

from dpd.errors import MisuseError
from dpd.protocol.machine import Transmit
from dpd.protocol.tftp.blocks import Extent
from dpd.protocol.tftp.events import ExtentNeeded, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Ack, Data, Error, ErrorCode, Message, OptionAck, ReadRequest, decode, encode
from dpd.protocol.tftp.retransmission import MIN_INTERVAL_S
from dpd.protocol.tftp.transfer import UNANSWERED_ATTEMPTS, ReadTransfer

CLIENT = ("192.0.2.9", 2070)
STRANGER = ("192.0.2.66", 4444)
RTT_S = 0.05
LIMITS = Limits(max_blksize=1468, max_windowsize=64, timeout_s=1.0, attempts=3)


def split(transmit: Transmit) -> list[Message]:
    """The datagrams of a train, as the kernel would cut it."""
    gathered = b"".join(transmit.pieces)
    size = transmit.segment_size or len(gathered)
    return [decode(gathered[start : start + size]) for start in range(0, len(gathered), size)]


class Conversation:
    """A transfer with its disk beside it; `said` is what it sent since last asked, `facts` what it told."""

    def __init__(self, content: bytes, *, limits: Limits = LIMITS, **options: int) -> None:
        asked = tuple((name, str(value)) for name, value in options.items())
        self.content = content
        self.now = 100.0
        self.facts: list[object] = []
        self.extents: list[ExtentNeeded] = []
        self.strays: list[Message] = []
        self.transfer = ReadTransfer(ReadRequest("f", "octet", asked), CLIENT, len(content), limits)

    def said(self) -> list[Message]:
        messages: list[Message] = []
        while True:
            while transmit := self.transfer.poll_transmit(self.now):
                (messages if transmit.destination == CLIENT else self.strays).extend(split(transmit))
            event = self.transfer.next_event()
            if event is None:
                return messages
            if isinstance(event, ExtentNeeded):
                self.extents.append(event)
                self.transfer.provide_extent(*extent_of(self.content, event))
            else:
                self.facts.append(event)

    def hear(self, message: Message | bytes, source: tuple[str, int] = CLIENT) -> list[Message]:
        wire = message if isinstance(message, bytes) else encode(message)
        self.transfer.receive_datagram(wire, source, self.now)
        return self.said()

    def wait(self) -> list[Message]:
        """Sleep until the machine's own deadline."""
        deadline = self.transfer.next_timeout()
        assert deadline is not None
        self.now = max(self.now, deadline)
        self.transfer.handle_timeout(self.now)
        return self.said()


def numbers(messages: list[Message]) -> list[int]:
    return [message.block_number for message in messages if isinstance(message, Data)]


def windowed(blocks: int = 40, windowsize: int = 4) -> Conversation:
    """A transfer behind its OACK, with the first window on the way."""
    conversation = Conversation(bytes(512) * blocks, windowsize=windowsize)
    conversation.said()
    conversation.now += RTT_S
    assert numbers(conversation.hear(Ack(0))) == list(range(1, windowsize + 1))
    return conversation


def test_without_options_block_one_comes_at_once() -> None:
    talk = Conversation(b"x" * 700)
    assert talk.said() == [Data(1, b"x" * 512)]
    assert talk.hear(Ack(1)) == [Data(2, b"x" * 188)]
    assert talk.hear(Ack(2)) == []
    assert talk.facts == [Finished(Verdict.COMPLETED)]
    assert talk.transfer.next_timeout() is None
    assert talk.transfer.bytes_acked == 700


@pytest.mark.parametrize("size", [0, 512, 1024, 8 * 512])
def test_a_multiple_of_blksize_ends_with_an_empty_block(size: int) -> None:
    talk = Conversation(bytes(size))
    blocks = talk.said()
    while not talk.transfer.finished:
        blocks += talk.hear(Ack(numbers(blocks)[-1]))
    assert blocks[-1] == Data(size // 512 + 1, b"")
    assert b"".join(block.payload for block in blocks if isinstance(block, Data)) == bytes(size)


def test_options_are_offered_first_and_then_hold() -> None:
    talk = Conversation(bytes(10_000), tsize=0, blksize=1468, windowsize=4)
    assert talk.said() == [OptionAck((("tsize", "10000"), ("blksize", "1468"), ("windowsize", "4")))]
    window = talk.hear(Ack(0))
    assert [len(block.payload) for block in window if isinstance(block, Data)] == [1468] * 4


def test_the_five_byte_ack_of_bootmgr_counts_as_an_ack() -> None:
    talk = Conversation(bytes(1000))
    talk.said()
    assert numbers(talk.hear(Ack(1, next_window=16))) == [2]


def test_a_window_leaves_as_one_train_whose_last_datagram_alone_is_shorter() -> None:
    talk = Conversation(bytes(512 * 3 + 5), windowsize=16)
    talk.said()
    talk.transfer.receive_datagram(encode(Ack(0)), CLIENT, talk.now)
    assert talk.transfer.poll_transmit(talk.now) is None  # the disk first
    request = talk.transfer.next_event()
    assert request == ExtentNeeded(1, 4, 512, 512 * 3 + 5)
    assert isinstance(request, ExtentNeeded)
    talk.transfer.provide_extent(*extent_of(talk.content, request))
    train = talk.transfer.poll_transmit(talk.now)
    assert train is not None
    assert train.segment_size == 516
    assert [len(piece) for piece in train.pieces] == [516, 516, 516, 9]
    assert talk.transfer.poll_transmit(talk.now) is None


def test_no_train_is_more_than_one_system_call_takes() -> None:
    talk = Conversation(bytes(1 << 20), windowsize=64, blksize=1468)
    talk.said()
    talk.transfer.receive_datagram(encode(Ack(0)), CLIENT, talk.now)
    talk.transfer.poll_transmit(talk.now)
    request = talk.transfer.next_event()
    assert isinstance(request, ExtentNeeded)
    talk.transfer.provide_extent(*extent_of(talk.content, request))
    trains = []
    while train := talk.transfer.poll_transmit(talk.now):
        trains.append(sum(map(len, train.pieces)))
    assert trains == [44 * 1472, 20 * 1472]


def test_block_numbers_wrap_to_zero_and_the_file_goes_on() -> None:
    content = bytes(range(256)) * 2800  # 89600 blocks of 8 bytes
    talk = Conversation(content, blksize=8, windowsize=64)
    talk.said()
    received = bytearray()
    window = talk.hear(Ack(0))
    seen_zero = False
    while not talk.transfer.finished:
        received += b"".join(block.payload for block in window if isinstance(block, Data))
        seen_zero |= 0 in numbers(window)
        window = talk.hear(Ack(numbers(window)[-1]))
    assert seen_zero
    assert received == content


def test_the_disk_is_asked_for_many_windows_at_once() -> None:
    talk = Conversation(bytes(1 << 20), windowsize=16, blksize=1456)
    talk.said()
    window = talk.hear(Ack(0))
    while not talk.transfer.finished:
        window = talk.hear(Ack(numbers(window)[-1]))
    assert len(talk.extents) <= 7
    assert talk.transfer.retransmits == 0


def test_a_repeated_ack_never_sends_data_with_windowsize_one() -> None:
    talk = Conversation(bytes(5000))
    talk.said()
    assert numbers(talk.hear(Ack(1))) == [2]
    for _ in range(3):
        assert talk.hear(Ack(1)) == []
    assert talk.facts == [Ignored("duplicate_ack")] * 3
    assert talk.hear(Ack(0)) == []
    assert talk.facts[-1] == Ignored("stale_ack")


def test_repeated_acks_do_not_put_off_the_retransmission() -> None:
    talk = Conversation(bytes(5000))
    talk.said()
    talk.hear(Ack(1))
    deadline = talk.transfer.next_timeout()
    talk.now += 0.1
    talk.hear(Ack(1))
    assert talk.transfer.next_timeout() == deadline


def test_an_ack_inside_the_window_restarts_behind_it_once_however_often_it_comes() -> None:
    talk = windowed()
    assert numbers(talk.hear(Ack(2))) == [3, 4, 5, 6]
    for _ in range(10):  # EDK2: one ACK for each datagram out of order
        assert talk.hear(Ack(2)) == []
    assert talk.transfer.retransmits == 2
    assert numbers(talk.hear(Ack(6))) == [7, 8, 9, 10]


def test_a_lost_first_block_restarts_the_window_once_after_two_round_trips() -> None:
    talk = windowed()
    talk.now += RTT_S
    talk.hear(Ack(4))
    sent_at = talk.now
    for _ in range(3):
        assert talk.hear(Ack(4)) == []
    assert numbers(talk.wait()) == [5, 6, 7, 8]
    assert talk.now - sent_at == pytest.approx(2 * RTT_S)
    assert talk.hear(Ack(4)) == []
    assert numbers(talk.hear(Ack(8))) == [9, 10, 11, 12]


def test_an_ack_that_only_came_twice_costs_nothing() -> None:
    talk = windowed()
    talk.hear(Ack(4))
    assert talk.hear(Ack(4)) == []
    assert numbers(talk.hear(Ack(8))) == [9, 10, 11, 12]
    assert talk.transfer.retransmits == 0


def test_an_ack_that_got_further_during_recovery_extends_instead_of_repeating() -> None:
    talk = windowed()
    assert numbers(talk.hear(Ack(1))) == [2, 3, 4, 5]
    assert numbers(talk.hear(Ack(2))) == [6]  # two swapped datagrams look like this
    assert numbers(talk.hear(Ack(6))) == [7, 8, 9, 10]


def test_a_restarted_window_that_may_be_hit_again_restarts_after_two_round_trips() -> None:
    talk = windowed()
    talk.now += RTT_S
    talk.hear(Ack(4))
    talk.now += RTT_S
    assert numbers(talk.hear(Ack(5))) == [6, 7, 8, 9]
    talk.now += RTT_S / 2  # too soon for an answer to the restart
    assert numbers(talk.hear(Ack(6))) == [10]
    started = talk.now
    assert numbers(talk.wait()) == [7, 8, 9, 10]
    assert talk.now - started == pytest.approx(2 * RTT_S)


def test_the_apprentice_stays_quiet_after_a_needless_retransmission() -> None:
    talk = windowed()
    assert numbers(talk.wait()) == [4]  # only the ACK was late: the client now answers both copies
    assert numbers(talk.hear(Ack(4))) == [5, 6, 7, 8]
    assert talk.hear(Ack(4)) == []
    assert numbers(talk.hear(Ack(8))) == [9, 10, 11, 12]


def test_silence_is_asked_by_the_last_block_and_then_by_the_whole_window() -> None:
    talk = windowed()
    assert numbers(talk.wait()) == [4]
    assert numbers(talk.wait()) == [1, 2, 3, 4]
    assert numbers(talk.wait()) == [1, 2, 3, 4]
    assert numbers(talk.hear(Ack(4))) == [5, 6, 7, 8]
    assert numbers(talk.wait()) == [8]


@pytest.mark.parametrize(("stands_at", "window"), [(0, [1, 2, 3, 4]), (2, [3, 4, 5, 6]), (4, [5, 6, 7, 8])])
def test_the_answer_to_the_probe_is_followed_at_once(stands_at: int, window: list[int]) -> None:
    talk = windowed()
    talk.wait()
    assert numbers(talk.hear(Ack(stands_at))) == window
    assert talk.hear(Ack(stands_at)) == []


def test_a_lost_last_block_costs_a_few_milliseconds_on_a_fast_lan() -> None:
    talk = windowed()
    for block in range(4, 40, 4):
        talk.now += 0.0002
        talk.hear(Ack(block))
    lost_at = talk.now
    assert numbers(talk.wait()) == [40]
    assert talk.now - lost_at < 0.5  # the first round trip took 50 ms and is still remembered
    fast = Conversation(bytes(512) * 40, windowsize=4)
    fast.said()
    for block in (0, 4, 8):
        fast.now += 0.0002
        fast.hear(Ack(block))
    lost_at = fast.now
    assert numbers(fast.wait()) == [12]
    assert fast.now - lost_at == pytest.approx(MIN_INTERVAL_S)


def test_a_client_that_stops_for_a_while_is_waited_for() -> None:
    """Quick repetitions are no reason to give up: firmware that writes to a slow disk is away for seconds."""
    talk = windowed()
    started = talk.now
    while not talk.transfer.finished:
        talk.wait()
    assert talk.now - started > LIMITS.attempts * LIMITS.timeout_s
    assert talk.transfer.datagrams_sent < 100


def test_a_client_that_is_often_away_is_not_probed_each_time() -> None:
    """Firmware in a virtual machine that gets no processor for 50 ms now and then, but loses nothing."""
    talk = Conversation(bytes(512) * 4000, windowsize=4)
    talk.said()
    talk.hear(Ack(0))
    probes = 0
    for block in range(4, 4000, 4):
        away_until = talk.now + (0.05 if block % 16 == 0 else 0.001)
        copies = 1
        while (deadline := talk.transfer.next_timeout()) is not None and deadline < away_until:
            copies += len(talk.wait())
        talk.now = away_until
        for _ in range(copies):  # it answers the probe as well
            talk.hear(Ack(block))
        probes += copies - 1
    assert probes < 25  # of 250 times away


@pytest.mark.parametrize("windowsize", [1, 4])
def test_losses_one_after_the_other_do_not_make_it_wait_longer(windowsize: int) -> None:
    """Each was answered once, so that each was one."""
    talk = Conversation(bytes(512) * 4000, windowsize=windowsize)
    talk.said()
    talk.hear(Ack(0))
    for block in range(windowsize, 4000, windowsize):
        talk.now += 0.001
        if block > 8 * windowsize and block % (8 * windowsize) == 0:
            lost_at = talk.now
            assert numbers(talk.wait()) == [block]
            assert talk.now - lost_at <= MIN_INTERVAL_S
            talk.now += 0.001
        talk.hear(Ack(block))


def test_a_variable_window_follows_the_client() -> None:
    talk = Conversation(bytes(512) * 100, windowsize=4, msftwindow=31416)
    assert talk.said() == [OptionAck((("windowsize", "4"), ("msftwindow", "27182")))]
    assert numbers(talk.hear(Ack(0, next_window=2))) == [1, 2]
    assert numbers(talk.hear(Ack(2, next_window=6))) == list(range(3, 9))
    assert numbers(talk.hear(Ack(8, next_window=255))) == list(range(9, 73))  # the operator's 64 at most
    assert numbers(talk.hear(Ack(72, next_window=1))) == [73]
    assert numbers(talk.hear(Ack(73))) == [74]


def test_a_fifth_byte_that_was_not_agreed_means_nothing() -> None:
    talk = windowed()
    assert numbers(talk.hear(Ack(4, next_window=64))) == [5, 6, 7, 8]


def test_silence_behind_the_offer_points_at_the_packet_size() -> None:
    talk = Conversation(bytes(5000), blksize=1468)
    talk.said()
    talk.hear(Ack(0))
    while not talk.transfer.finished:
        talk.wait()
    (fact,) = talk.facts
    assert isinstance(fact, Finished)
    assert fact.detail == (
        "no answer after block 0 of 4, and none to the first of 1468 bytes: packets of that size may be lost on the way (MTU)"
    )


def test_a_restarted_window_that_is_hit_again_restarts_at_once_when_the_answer_can_be_to_it() -> None:
    talk = windowed()
    talk.now += RTT_S
    talk.hear(Ack(4))
    talk.now += RTT_S
    assert numbers(talk.hear(Ack(5))) == [6, 7, 8, 9]
    talk.now += RTT_S
    assert numbers(talk.hear(Ack(6))) == [7, 8, 9, 10]
    assert numbers(talk.hear(Ack(7))) == [11]  # too soon for that


class TestShortWay:
    """`answer` does what `receive_datagram` does, but shorter."""

    @pytest.mark.parametrize("windowsize", [1, 4, 16])
    def test_nearly_every_window_goes_the_short_way(self, windowsize: int) -> None:
        content = bytes(range(256)) * 400 + b"end"
        talk = Conversation(content, windowsize=windowsize)
        talk.said()
        received, short, window = bytearray(), 0, talk.hear(Ack(0))
        while True:
            received += b"".join(message.payload for message in window if isinstance(message, Data))
            ack = encode(Ack(numbers(window)[-1]))
            talk.now += 0.001
            train = talk.transfer.answer(ack, talk.now)
            if train is not None:
                short += 1
                window = split(Transmit((train,), CLIENT, 516))
                continue
            window = talk.hear(ack)
            if not window:
                break
        assert received == content
        long_ways = 2 + len(talk.extents)  # the first window, the one with the last block, and where the file is read
        assert short >= talk.transfer.last_block // windowsize - long_ways
        assert talk.transfer.datagrams_sent == talk.transfer.last_block + 1
        assert talk.transfer.bytes_acked == len(content)
        assert talk.facts == [Finished(Verdict.COMPLETED)]

    def test_only_the_ack_that_is_waited_for_is_taken(self) -> None:
        talk = Conversation(bytes(5000))
        talk.said()
        assert not talk.transfer.answered
        assert talk.transfer.answer(encode(Ack(1)), talk.now) is None  # who has not said anything may be anybody
        talk.hear(Ack(1))
        assert talk.transfer.answered
        for wire in (encode(Ack(1)), encode(Ack(3)), encode(Ack(2, next_window=1)), encode(Error(0, "x")), b""):
            assert talk.transfer.answer(wire, talk.now) is None
        train = talk.transfer.answer(encode(Ack(2)), talk.now)
        assert train is not None
        assert decode(train) == Data(3, bytes(512))
        assert talk.transfer.answer(encode(Ack(2)), talk.now) is None  # a copy

    def test_acks_that_name_the_next_window_are_answered_as_long_as_it_stays(self) -> None:
        """bootmgr's: each has a fifth byte."""
        talk = Conversation(bytes(512) * 100, windowsize=4, msftwindow=31416)
        talk.said()
        talk.hear(Ack(0, next_window=6))
        train = talk.transfer.answer(encode(Ack(6, next_window=6)), talk.now)
        assert train is not None
        assert numbers(split(Transmit((train,), CLIENT, 516))) == list(range(7, 13))
        assert talk.transfer.answer(encode(Ack(12, next_window=8)), talk.now) is None
        assert numbers(talk.hear(Ack(12, next_window=8))) == list(range(13, 21))
        talk.hear(Ack(12, next_window=2))  # an old one, but it changes the window
        assert talk.transfer.answer(encode(Ack(20, next_window=2)), talk.now) is None
        assert numbers(talk.hear(Ack(20, next_window=2))) == [21, 22]
        assert talk.transfer.answer(encode(Ack(22, next_window=2)), talk.now) is not None
        assert talk.transfer.datagrams_sent == 1 + 24

    def test_a_retransmission_is_due_when_it_would_be_otherwise(self) -> None:
        talk = Conversation(bytes(50_000))
        talk.said()
        talk.hear(Ack(1))
        for block in range(2, 50):
            talk.now += 0.0005
            assert talk.transfer.answer(encode(Ack(block)), talk.now) is not None
        lost_at = talk.now
        assert numbers(talk.wait()) == [50]
        assert talk.now - lost_at == pytest.approx(MIN_INTERVAL_S)
        assert talk.transfer.answer(encode(Ack(50)), talk.now) is None  # the answer to which of the two?
        assert numbers(talk.hear(Ack(50))) == [51]
        assert talk.transfer.answer(encode(Ack(51)), talk.now) is not None

    @pytest.mark.parametrize("disturbance", [Ack(0), Ack(2)])
    def test_what_is_lost_is_looked_at_the_long_way(self, disturbance: Ack) -> None:
        talk = windowed()
        talk.hear(disturbance)
        assert talk.transfer.answer(encode(Ack(4)), talk.now) is None
        assert talk.transfer.answer(encode(Ack(6)), talk.now) is None

    def test_a_window_of_several_trains_goes_the_long_way(self) -> None:
        talk = Conversation(bytes(1 << 20), windowsize=64, blksize=1468)
        talk.said()
        talk.hear(Ack(0))
        assert talk.transfer.answer(encode(Ack(64)), talk.now) is None

    def test_block_numbers_wrap(self) -> None:
        talk = Conversation(bytes(8 * 70_000), blksize=8)
        talk.said()
        talk.hear(Ack(0))
        talk.hear(Ack(1))
        block = 2
        while not talk.transfer.finished:
            wire = encode(Ack(block & 0xFFFF))
            if talk.transfer.answer(wire, talk.now) is None:
                talk.hear(wire)
            block += 1
        assert talk.facts == [Finished(Verdict.COMPLETED)]
        assert talk.transfer.bytes_acked == 8 * 70_000


def test_a_lost_window_is_sent_again_with_growing_waits_and_then_given_up() -> None:
    talk = Conversation(bytes(100))
    assert numbers(talk.said()) == [1]
    moments = [talk.now]
    for _ in range(LIMITS.attempts):
        assert numbers(talk.wait()) == [1]
        moments.append(talk.now)
    assert [late - early for early, late in pairwise(moments)] == [1.0, 2.0, 4.0]
    assert talk.wait() == []
    assert talk.facts == [Finished(Verdict.TIMEOUT, "no answer after block 0 of 1")]
    assert talk.transfer.datagrams_sent == 1 + LIMITS.attempts


def test_before_the_first_ack_only_the_small_offer_is_repeated() -> None:
    talk = Conversation(bytes(1 << 20), windowsize=64, blksize=1468)
    offer = talk.said()
    for _ in range(LIMITS.attempts):
        assert talk.wait() == offer
    assert talk.wait() == []
    assert talk.transfer.datagrams_sent == 1 + LIMITS.attempts
    assert not talk.extents


@pytest.mark.parametrize("options", [{}, {"windowsize": 64, "blksize": 1468}])
def test_an_address_that_never_answers_gets_little(options: dict[str, int]) -> None:
    """Whoever is named as the source of a forged request: however patient the settings are with real clients."""
    talk = Conversation(bytes(1 << 20), limits=Limits(1468, 64, 1.0, 30), **options)
    first = talk.said()
    started = talk.now
    while not talk.transfer.finished:
        talk.wait()
    assert talk.transfer.datagrams_sent == 1 + UNANSWERED_ATTEMPTS
    assert talk.now - started <= 15
    assert len(first) == 1
    assert len(encode(first[0])) <= 516


KNOWN = Limits(max_blksize=1468, max_windowsize=64, timeout_s=1.0, attempts=3, first_wait_s=0.02)


def test_a_lost_offer_costs_a_client_that_is_known_little() -> None:
    talk = Conversation(bytes(512) * 40, limits=KNOWN, windowsize=4)
    offer = talk.said()
    started = talk.now
    assert talk.wait() == offer
    assert talk.now - started == pytest.approx(0.02)
    assert talk.wait() == offer
    assert talk.now - started == pytest.approx(1.02)
    assert numbers(talk.hear(Ack(0))) == [1, 2, 3, 4]
    asked = talk.now
    assert numbers(talk.wait()) == [4]  # a probe of the first window, long before a second is over
    assert talk.now - asked < 0.1


def test_an_address_that_never_answers_gets_no_more_for_being_known() -> None:
    talk = Conversation(bytes(1 << 20), limits=KNOWN, windowsize=64)
    talk.said()
    while not talk.transfer.finished:
        talk.wait()
    assert talk.transfer.datagrams_sent == 1 + UNANSWERED_ATTEMPTS


def test_what_a_transfer_has_found_is_there_for_the_next_one() -> None:
    talk = windowed()
    assert talk.transfer.known_wait_s == pytest.approx(3 * RTT_S)
    assert Conversation(bytes(100)).transfer.known_wait_s is None


def test_a_needless_repetition_in_lock_step_is_waited_for_longer_next_time() -> None:
    talk = Conversation(bytes(512) * 500)
    talk.said()
    for block in range(1, 300):
        talk.now += 0.0002
        talk.hear(Ack(block))
    talk.now += 0.0002
    assert numbers(talk.wait()) == [300]
    talk.now += 0.02  # its client was away, and says both times where it stands
    assert numbers(talk.hear(Ack(300))) == [301]
    assert talk.hear(Ack(300)) == []
    sent_at = talk.now
    talk.wait()
    assert talk.now - sent_at > 0.03


def test_the_timeout_option_sets_the_first_wait() -> None:
    talk = Conversation(bytes(100), limits=KNOWN, timeout=7)
    started = talk.now
    talk.said()
    assert talk.transfer.next_timeout() == started + 7


def test_abort_after_the_offer_is_a_probe() -> None:
    talk = Conversation(bytes(1000), tsize=0)
    talk.said()
    assert talk.hear(Error(ErrorCode.OPTION_REFUSED, "User aborted the transfer")) == []
    assert talk.facts == [Finished(Verdict.PROBE, "client error 8: User aborted the transfer")]


def test_abort_after_a_block_is_an_abort() -> None:
    talk = Conversation(bytes(5000))
    talk.said()
    talk.hear(Ack(1))
    assert talk.hear(Error(3, "")) == []
    assert talk.facts == [Finished(Verdict.ABORTED, "client error 3: no text")]


def test_a_stranger_gets_error_5_and_the_transfer_goes_on() -> None:
    talk = Conversation(bytes(5000))
    talk.said()
    assert talk.hear(Ack(1), STRANGER) == []
    assert talk.strays == [Error(ErrorCode.UNKNOWN_TID, "unknown transfer")]
    assert talk.facts == [Ignored("stray_tid")]
    assert talk.hear(Error(0, "stop"), STRANGER) == []  # neither obeyed nor answered
    assert len(talk.strays) == 1
    assert numbers(talk.hear(Ack(1))) == [2]


@pytest.mark.parametrize(
    ("wire", "fact"),
    [
        (b"\0\4\0", Malformed("too_short")),
        (b"\0\x09\0\0", Malformed("opcode")),
        (encode(Data(1, b"")), Ignored("unexpected")),
        (encode(ReadRequest("f")), Ignored("unexpected")),
        (encode(Ack(4711)), Ignored("stale_ack")),
    ],
)
def test_nonsense_changes_nothing(wire: bytes, fact: object) -> None:
    talk = Conversation(bytes(5000))
    talk.said()
    deadline = talk.transfer.next_timeout()
    assert talk.hear(wire) == []
    assert talk.facts == [fact]
    assert talk.transfer.next_timeout() == deadline
    assert numbers(talk.hear(Ack(1))) == [2]


def test_an_ack_other_than_zero_does_not_accept_the_offer() -> None:
    talk = Conversation(bytes(5000), windowsize=4)
    talk.said()
    assert talk.hear(Ack(3)) == []
    assert talk.transfer.untouched
    assert numbers(talk.hear(Ack(0))) == [1, 2, 3, 4]
    assert not talk.transfer.untouched


def test_a_file_that_shrank_ends_with_an_error_to_the_client() -> None:
    talk = Conversation(bytes(5000))
    assert talk.transfer.poll_transmit(talk.now) is None
    request = talk.transfer.next_event()
    assert isinstance(request, ExtentNeeded)
    talk.transfer.provide_extent(Extent(request), 600)
    assert talk.said() == [Error(0, "the file became shorter while it was read")]
    assert talk.facts == [Finished(Verdict.ABORTED, "the file became shorter while it was read")]


def test_acks_while_the_disk_reads_are_harmless_and_nothing_times_out() -> None:
    talk = Conversation(bytes(5000))
    talk.transfer.poll_transmit(talk.now)
    request = talk.transfer.next_event()
    assert talk.transfer.next_timeout() is None
    talk.transfer.receive_datagram(encode(Ack(0)), CLIENT, talk.now)
    assert talk.transfer.next_event() == Ignored("duplicate_ack")
    assert isinstance(request, ExtentNeeded)
    talk.transfer.provide_extent(*extent_of(bytes(5000), request))
    assert numbers(talk.said()) == [1]


def test_fail_tells_the_client_and_a_late_extent_is_dropped() -> None:
    talk = Conversation(bytes(5000))
    talk.transfer.poll_transmit(talk.now)
    request = talk.transfer.next_event()
    assert isinstance(request, ExtentNeeded)
    talk.transfer.fail("the server is stopping")
    talk.transfer.provide_extent(*extent_of(bytes(5000), request))
    assert Error(0, "the server is stopping") in talk.said()
    assert Finished(Verdict.ABORTED, "the server is stopping") in talk.facts


def test_an_extent_nobody_asked_for_is_our_bug() -> None:
    talk = Conversation(bytes(5000), tsize=0)
    with pytest.raises(MisuseError):
        talk.transfer.provide_extent(Extent(ExtentNeeded(1, 1, 512, 1)), 1)


def test_after_the_end_everything_is_ignored() -> None:
    talk = Conversation(b"")
    talk.said()
    talk.hear(Ack(1))
    assert talk.hear(Ack(1)) == []
    assert talk.hear(Error(0, "late")) == []
    talk.transfer.handle_timeout(talk.now + 1000)
    assert talk.said() == []
    assert talk.facts == [Finished(Verdict.COMPLETED)]
