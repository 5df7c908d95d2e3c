# SPDX-License-Identifier: Apache-2.0
"""One read for many clients, datagram by datagram: who is master, who listens, who leaves, and holes that are closed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.tftp.extents import extent_of

from dpd.protocol.machine import Transmit
from dpd.protocol.tftp.events import ExtentNeeded, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.group import GroupTransfer, MemberFinished, asks_for_multicast, terms_for_group
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Ack, Data, Error, Message, OptionAck, ReadRequest, decode, encode
from dpd.protocol.tftp.transfer import UNANSWERED_ATTEMPTS

GROUP = ("239.255.69.1", 1758)
FIRST, SECOND, THIRD = ("192.0.2.1", 1001), ("192.0.2.2", 1002), ("192.0.2.3", 1003)
LIMITS = Limits(max_blksize=1468, max_windowsize=64, timeout_s=1.0, attempts=2)
REQUEST = ReadRequest("f", "octet", (("multicast", ""), ("blksize", "512"), ("tsize", "0"), ("windowsize", "16")))


class Talk:
    """A group with its disk; `said` is what went to whom since last asked."""

    def __init__(self, content: bytes = bytes(range(256)) * 10, limits: Limits = LIMITS) -> None:
        self.content = content
        self.now = 50.0
        self.facts: list[object] = []
        self.group = GroupTransfer(GROUP, len(content), 512, limits)

    def said(self) -> list[tuple[tuple[str, int], Message]]:
        told = []
        while True:
            while transmit := self.group.poll_transmit(self.now):
                told.append((transmit.destination, read(transmit)))
            event = self.group.next_event()
            if event is None:
                return told
            if isinstance(event, ExtentNeeded):
                self.group.provide_extent(*extent_of(self.content, event))
            else:
                self.facts.append(event)

    def join(self, client: tuple[str, int]) -> list[tuple[tuple[str, int], Message]]:
        self.group.join(REQUEST, client, self.now)
        return self.said()

    def hear(self, client: tuple[str, int], message: Message | bytes) -> list[tuple[tuple[str, int], Message]]:
        self.group.receive_datagram(message if isinstance(message, bytes) else encode(message), client, self.now)
        return self.said()

    def wait(self) -> list[tuple[tuple[str, int], Message]]:
        deadline = self.group.next_timeout()
        assert deadline is not None
        self.now = deadline
        self.group.handle_timeout(self.now)
        return self.said()

    def block(self, number: int) -> tuple[tuple[str, int], Message]:
        return GROUP, Data(number, self.content[(number - 1) * 512 : number * 512])


def read(transmit: Transmit) -> Message:
    return decode(b"".join(transmit.pieces))


def offer(size: int, master: int) -> OptionAck:
    options = (("blksize", "512"), ("tsize", str(size)), ("multicast", f"239.255.69.1,1758,{master}"))
    return OptionAck(options)


def test_the_first_client_is_the_master_and_the_blocks_go_to_the_group() -> None:
    talk = Talk(bytes(700))
    assert talk.join(FIRST) == [(FIRST, offer(700, 1))]
    assert talk.hear(FIRST, Ack(0)) == [talk.block(1)]
    assert talk.hear(FIRST, Ack(1)) == [talk.block(2)]
    assert talk.hear(FIRST, Ack(2)) == []
    assert talk.facts == [MemberFinished(FIRST, Verdict.COMPLETED), Finished(Verdict.COMPLETED)]
    assert talk.group.finished
    assert talk.group.next_timeout() is None


def test_others_listen_and_their_acks_of_the_offer_change_nothing() -> None:
    talk = Talk()
    talk.join(FIRST)
    assert talk.join(SECOND) == [(SECOND, offer(2560, 0))]
    assert talk.hear(SECOND, Ack(0)) == []
    assert talk.hear(FIRST, Ack(0)) == [talk.block(1)]
    assert talk.hear(SECOND, Ack(1)) == []


def test_a_listener_with_everything_leaves_while_the_master_goes_on() -> None:
    talk = Talk(bytes(600))
    talk.join(FIRST)
    talk.join(SECOND)
    talk.hear(FIRST, Ack(0))
    talk.hear(FIRST, Ack(1))
    assert talk.hear(SECOND, Ack(2)) == []
    assert talk.facts[-1] == MemberFinished(SECOND, Verdict.COMPLETED)
    talk.hear(FIRST, Ack(2))
    assert talk.group.finished


def test_the_next_master_says_where_its_hole_is() -> None:
    talk = Talk()
    talk.join(FIRST)
    for block in range(3):
        talk.hear(FIRST, Ack(block))
    talk.join(SECOND)  # hears blocks 4 to 6
    for block in range(3, 6):
        talk.hear(FIRST, Ack(block))
    assert talk.hear(FIRST, Ack(6)) == [(SECOND, offer(2560, 1))]
    assert talk.hear(SECOND, Ack(0)) == [talk.block(1)]
    assert talk.hear(SECOND, Ack(2)) == [talk.block(3)]  # it may name any block
    assert talk.hear(SECOND, Ack(6)) == []
    assert talk.group.finished


def test_a_repeated_ack_of_the_master_sends_nothing() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.hear(FIRST, Ack(0))
    talk.hear(FIRST, Ack(1))
    assert talk.hear(FIRST, Ack(1)) == talk.hear(FIRST, Ack(0)) == []
    assert talk.facts == [Ignored("duplicate_ack")] * 2


def test_a_lost_block_goes_to_the_group_again() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.hear(FIRST, Ack(0))
    assert talk.wait() == [talk.block(1)]
    assert talk.group.retransmits == 1


def test_a_master_that_falls_silent_makes_room_for_the_next() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.join(SECOND)
    talk.hear(FIRST, Ack(0))
    said = []
    while not talk.facts:
        said += talk.wait()
    assert talk.facts == [MemberFinished(FIRST, Verdict.TIMEOUT, "no answer after block 0 of 6")]
    assert said[-1] == (SECOND, offer(2560, 1))
    assert talk.hear(SECOND, Ack(0)) == [talk.block(1)]


def test_an_address_that_never_answers_gets_little_and_only_offers() -> None:
    talk = Talk(limits=Limits(attempts=30))
    said = talk.join(FIRST)
    while not talk.group.finished:
        said += talk.wait()
    assert said == [(FIRST, offer(2560, 1))] * (1 + UNANSWERED_ATTEMPTS)


def test_an_abort_hands_the_mastership_on() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.join(SECOND)
    talk.join(THIRD)
    talk.hear(FIRST, Ack(0))
    assert talk.hear(SECOND, Error(0, "no")) == []
    assert talk.hear(FIRST, Error(3, "disk full")) == [(THIRD, offer(2560, 1))]
    assert talk.facts == [
        MemberFinished(SECOND, Verdict.PROBE, "client error 0: no"),
        MemberFinished(FIRST, Verdict.ABORTED, "client error 3: disk full"),
    ]


def test_a_lost_offer_is_repeated_for_who_asks_again() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.join(SECOND)
    assert talk.join(SECOND) == [(SECOND, offer(2560, 0))]
    assert talk.group.members == 2


def test_a_client_that_asks_for_something_else_leaves_without_a_word() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.join(SECOND)
    talk.group.drop(FIRST, talk.now)
    assert talk.said() == [(SECOND, offer(2560, 1))]
    talk.group.drop(THIRD, talk.now)
    assert talk.said() == []


def test_a_stranger_gets_error_5() -> None:
    talk = Talk()
    talk.join(FIRST)
    assert talk.hear(THIRD, Ack(0)) == [(THIRD, Error(5, "unknown transfer"))]
    assert talk.hear(THIRD, Error(0, "x")) == []
    assert talk.hear(FIRST, b"\0") == []
    assert talk.hear(FIRST, Data(1, b"")) == []
    assert talk.hear(FIRST, Ack(7)) == []
    assert talk.facts == [
        Ignored("stray_tid"),
        Ignored("stray_tid"),
        Malformed("too_short"),
        Ignored("unexpected"),
        Ignored("stale_ack"),
    ]


def test_a_file_that_shrank_ends_it_for_all() -> None:
    talk = Talk()
    talk.join(FIRST)
    talk.join(SECOND)
    talk.content = bytes(10)
    said = talk.hear(FIRST, Ack(0))
    assert said == [(client, Error(0, "the file became shorter while it was read")) for client in (FIRST, SECOND)]
    assert [fact.client for fact in talk.facts if isinstance(fact, MemberFinished)] == [FIRST, SECOND]
    assert talk.group.finished


def test_who_can_read_by_multicast() -> None:
    assert asks_for_multicast(REQUEST)
    assert not asks_for_multicast(ReadRequest("f"))
    terms = terms_for_group(REQUEST, 1000, LIMITS)
    assert terms is not None
    assert terms.granted == (("blksize", "512"), ("tsize", "1000"))  # a window cannot be agreed with all
    assert terms_for_group(REQUEST, 512 * 65535, LIMITS) is None  # an ACK could not name the last block
    assert terms_for_group(REQUEST, 512 * 65535 - 1, LIMITS) is not None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([FIRST, SECOND, THIRD]),
            st.one_of(
                st.integers(0, 70).map(lambda number: encode(Ack(number))),
                st.just(encode(Error(8, "no"))),
                st.just(b"join"),
                st.just(b"wait"),
                st.binary(max_size=12),
            ),
        ),
        max_size=60,
    )
)
def test_whatever_clients_say_each_leaves_once(script: list[tuple[tuple[str, int], bytes]]) -> None:
    talk = Talk()
    talk.join(FIRST)
    inside = {FIRST}
    for client, wire in script:
        if talk.group.finished:
            break
        if wire == b"join":
            talk.join(client)
            inside.add(client)
        elif wire == b"wait":
            if talk.group.next_timeout() is not None:
                talk.wait()
        else:
            talk.hear(client, wire)
        inside -= {fact.client for fact in talk.facts if isinstance(fact, MemberFinished)}
        talk.facts = [fact for fact in talk.facts if not isinstance(fact, MemberFinished)]
        assert talk.group.members == len(inside)
        # Somebody is waited for as long as somebody is there, or the group would hang.
        assert talk.group.finished or talk.group.next_timeout() is not None


@pytest.mark.parametrize("seed", range(20))
def test_every_member_gets_the_whole_file_through_loss_and_late_joins(seed: int) -> None:
    dice = random.Random(seed)
    talk = Talk(dice.randbytes(512 * 60 + 7), Limits(timeout_s=1.0, attempts=30))
    have: dict[tuple[str, int], dict[int, bytes]] = {}
    masters: set[tuple[str, int]] = set()
    left: set[tuple[str, int]] = set()
    last = len(talk.content) // 512 + 1
    waiting = [FIRST, SECOND, THIRD]
    inbox = list(talk.join(FIRST))
    have[waiting.pop(0)] = {}
    for _ in range(5000):
        if talk.group.finished:
            break
        if waiting and dice.random() < 0.05:
            have[waiting[0]] = {}
            inbox += talk.join(waiting.pop(0))
        if not inbox:
            inbox += talk.wait()
            continue
        destination, message = inbox.pop(0)
        for client in [destination] if destination != GROUP else list(have):
            if client in left or dice.random() < 0.1:
                continue
            if isinstance(message, OptionAck) and dict(message.options)["multicast"].endswith(",1"):
                masters.add(client)
            elif isinstance(message, Data):
                have[client][message.block_number] = message.payload
            hole = next((n for n in range(1, last + 1) if n not in have[client]), None)
            if hole is None:
                left.add(client)
            if client in masters or hole is None:
                inbox += talk.hear(client, Ack(last if hole is None else hole - 1))
    assert talk.group.finished
    for client, blocks in have.items():
        assert b"".join(blocks[number] for number in sorted(blocks)) == talk.content, client
