# SPDX-License-Identifier: Apache-2.0
"""What a sender says beside its symbols, as it is read at the other end."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.announcements import Announcements, nack_ms
from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.message import ControlCode, ControlReason, Flag, MessageType, decode_message

SESSION, EPOCH, SPEED_CLASS = 77, 5, 2
IDS = [0x1_0000_0001, 0xFFFF_FFFF_0000_0002]


@pytest.fixture
def announcements() -> Announcements:
    return Announcements(SESSION, EPOCH, SPEED_CLASS, is_sealed=False)


@pytest.mark.parametrize(("members", "width"), [(0, 2), (1, 2), (59, 2), (60, 3), (500, 25), (1000, 50), (100_000, 50)])
def test_the_back_off_is_as_wide_as_the_group_needs(members: int, width: int) -> None:
    assert nack_ms(members) == width


def test_a_header_says_whose_it_is_and_when(announcements: Announcements) -> None:
    header = announcements.header(MessageType.DATA, 1.5, 9, 400, slab=3, row=4, column=5, promised=6)
    assert (header.session, header.epoch, header.speed_class) == (SESSION, EPOCH, SPEED_CLASS)
    assert (header.slab, header.row, header.column, header.promised_rows) == (3, 4, 5, 6)
    assert (header.tx_seq, header.tx_time, header.nack_ms) == (9, 1_500_000, 20)
    assert not header.flags


def test_symbols_alone_are_sealed() -> None:
    sealed = Announcements(SESSION, EPOCH, SPEED_CLASS, is_sealed=True)
    for kind in (MessageType.DATA, MessageType.PARITY):
        assert sealed.header(kind, 1.0, 9, 1, flags=Flag.REPAIR).flags == Flag.REPAIR | Flag.SEALED
    assert not sealed.header(MessageType.BEAT, 1.0, 9, 1).flags


@pytest.mark.parametrize("is_end_of_pass", [False, True])
def test_a_beat_tells_where_the_sender_is_and_who_reports_fast(
    announcements: Announcements, is_end_of_pass: bool
) -> None:
    beat = announcements.beat(1.0, 9, 40, 3, 2, IDS, is_end_of_pass=is_end_of_pass)
    assert decode_message(beat.encode()) == beat
    assert (beat.position, beat.pass_number, beat.members, beat.header.tx_seq) == (3, 2, 40, 9)
    assert beat.representatives == (1, 2)
    assert bool(beat.header.flags & Flag.END_OF_PASS) == is_end_of_pass


def test_an_ncf_tells_what_is_coming(announcements: Announcements) -> None:
    ncf = announcements.ncf(1.0, 9, 40, [(3, bytes([2]) * COLUMNS), (7, bytes(COLUMNS))])
    assert decode_message(ncf.encode()) == ncf
    assert [(s.slab, s.deficits[0]) for s in ncf.slabs] == [(3, 2), (7, 0)]
    assert ncf.header.tx_seq == 9


def test_an_order_names_members_by_the_low_halves_of_their_ids(announcements: Announcements) -> None:
    control = announcements.control(-1, ControlCode.MOVE, ControlReason.SLOW, IDS)
    read = decode_message(control.encode())
    assert (control.code, control.reason, control.members) == (ControlCode.MOVE, ControlReason.SLOW, (1, 2))
    assert read.header.tx_seq == 0xFFFFFFFF, "before the first symbol"
