# SPDX-License-Identifier: Apache-2.0
"""What the sender did not sign is refused, and what it said long ago, too."""

from __future__ import annotations

import hashlib

import pytest

from dpd.protocol.multicast.authenticity import Authenticity
from dpd.protocol.multicast.message import Beat, Control, ControlCode, Header, MessageType

MINUTE_S = 60.0


def sign(body: bytes) -> bytes:
    """Stands for a signature: of the right length, and different for every body."""
    return hashlib.sha512(b"secret" + body).digest()


def verify(body: bytes, signature: bytes) -> bool:
    return sign(body) == signature


def beat(time_us: int) -> Beat:
    return Beat(Header(MessageType.BEAT, 1, 1, tx_time=time_us & 0xFFFFFFFF), 0, 1, 1)


def order() -> Control:
    return Control(Header(MessageType.CONTROL, 1, 1, row=ControlCode.KICK), 0, (7,))


@pytest.fixture
def authenticity() -> Authenticity:
    return Authenticity(verify)


@pytest.mark.parametrize("message", [beat(5), order()], ids=["BEAT", "CONTROL"])
def test_what_the_sender_signed_is_believed_and_every_changed_bit_refused(
    authenticity: Authenticity, message: Beat | Control
) -> None:
    datagram = message.encode(sign)
    assert authenticity.refusal(message, datagram, 1.0) is None
    for position in (0, 3, 20, 30, len(datagram) - 64, len(datagram) - 1):
        changed = bytearray(datagram)
        changed[position] ^= 4
        assert authenticity.refusal(message, changed, 1.0) == "forged"
    assert authenticity.refusal(message, message.encode(), 1.0) == "forged"


def test_where_no_key_is_known_signatures_are_not_asked_for() -> None:
    assert Authenticity(None).refusal(beat(5), beat(5).encode(), 1.0) is None


def test_an_older_beat_is_refused_and_the_same_once_more_is_not(authenticity: Authenticity) -> None:
    """Two BEATs may leave in the same microsecond; a duplicate does no harm."""
    said = {time: (beat(time), beat(time).encode(sign)) for time in (1_000_000, 2_000_000)}
    assert authenticity.refusal(*said[2_000_000], now=2.0) is None
    assert authenticity.refusal(*said[1_000_000], now=2.0) == "replayed"
    assert authenticity.refusal(*said[2_000_000], now=2.1) is None


def test_a_forged_beat_from_the_future_shuts_nobody_out(authenticity: Authenticity) -> None:
    future = beat(60_000_000)
    assert authenticity.refusal(future, future.encode(), 1.0) == "forged"
    present = beat(1_000_000)
    assert authenticity.refusal(present, present.encode(sign), 1.0) is None


def test_beats_go_on_after_the_clock_has_wrapped_and_those_before_are_still_old(authenticity: Authenticity) -> None:
    for tenth in range(-20, 20):
        message = beat(tenth * 100_000)
        assert authenticity.refusal(message, message.encode(sign), 100 + tenth / 10) is None
    for tenth in range(-20, 19):
        message = beat(tenth * 100_000)
        assert authenticity.refusal(message, message.encode(sign), 102.0) == "replayed"


@pytest.mark.parametrize("minutes", [1, 30, 40, 60, 71, 72, 100, 1000])
def test_after_any_silence_the_sender_is_believed_again(authenticity: Authenticity, minutes: int) -> None:
    """A receiver that went on by unicast for an hour: half a turn of the clock has passed, or more than one."""
    first = beat(123)
    assert authenticity.refusal(first, first.encode(sign), 0.0) is None
    later = beat(123 + int(minutes * MINUTE_S * 1e6))
    assert authenticity.refusal(later, later.encode(sign), minutes * MINUTE_S + 0.001) is None


@pytest.mark.parametrize("silence_minutes", [0, 10, 30])
def test_what_was_said_in_the_last_minutes_is_refused_after_a_silence(
    authenticity: Authenticity, silence_minutes: int
) -> None:
    newest = beat(3_000_000_000)
    assert authenticity.refusal(newest, newest.encode(sign), 0.0) is None
    for seconds_before in (1, 60, 300):
        old = beat(3_000_000_000 - seconds_before * 1_000_000)
        now = silence_minutes * MINUTE_S
        assert authenticity.refusal(old, old.encode(sign), now) == "replayed"


def test_a_receiver_that_slept_believes_the_clock_that_went_on(authenticity: Authenticity) -> None:
    """Its own clock stands still in suspend."""
    first, later = beat(0), beat(20 * 60_000_000)
    assert authenticity.refusal(first, first.encode(sign), 5.0) is None
    assert authenticity.refusal(later, later.encode(sign), 5.1) is None
