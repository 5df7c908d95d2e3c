# SPDX-License-Identifier: Apache-2.0
"""Which slab comes next: beside a look at every member's every slab."""

from __future__ import annotations

import random

import pytest
from tests.sim.clock import seeded

from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import Header, MessageType, Report, Tally
from dpd.protocol.multicast.pacing import Credit, Standing

SLABS = 12
EVERY = (1 << SLABS) - 1


def make_member(number: int = 1, verified: int = 0) -> Member:
    return Member(number, Credit(1000, -1), Standing(), 4, verified, verified == EVERY, 0.0)


@pytest.fixture
def carousel() -> Carousel:
    return Carousel(Geometry((SLABS - 1) * SLAB_BYTES + 2 * ROW_BYTES))


def report(verified: int, held: tuple[int, ...]) -> Report:
    return Report(Header(MessageType.REPORT, 1, 1), 1, 0, 0, 0, 4, Tally(), held, 0, SLABS, verified)


def test_without_members_nothing_is_lacking(carousel: Carousel) -> None:
    assert carousel.choose([]) is None


def test_a_slab_is_its_rows_and_then_those_promised(carousel: Carousel) -> None:
    carousel.begin(0, 0, promised=2, first_promised=5)
    pieces = []
    while not carousel.is_done:
        pieces.append(carousel.take(COLUMNS))
    assert pieces == [(row, 0, COLUMNS) for row in [*range(ROWS), ROWS + 5, ROWS + 6]]


@pytest.mark.parametrize("limit", [1, 4, 5, 11, 16, 32])
def test_a_row_may_come_in_pieces(carousel: Carousel, limit: int) -> None:
    carousel.begin(SLABS - 1, 0, promised=1, first_promised=0)
    symbols: list[tuple[int, int]] = []
    ends: list[int] = []
    while not carousel.is_done:
        if carousel.ends_source_with(limit):
            ends.append(len(symbols))
        row, column, count = carousel.take(limit)
        assert 0 < count <= limit
        symbols += [(row, column + i) for i in range(count)]
    assert symbols == [(row, column) for row in (0, 1, ROWS) for column in range(COLUMNS)]
    assert len(ends) == 1
    assert ends[0] + min(limit, COLUMNS) >= 2 * COLUMNS


def lacked_by(carousel: Carousel, members: list[Member]) -> int | None:
    """The same choice, the long way."""
    for step in range(1, SLABS + 1):
        slab = (carousel.position + step) % SLABS
        if any(carousel.sent.lacking(m) >> slab & 1 for m in members if m.is_wanting):
            return slab
    return None


@pytest.mark.parametrize("seed", range(20))
def test_what_it_chooses_is_what_a_look_at_everything_finds(carousel: Carousel, seed: int) -> None:
    rng = seeded(seed)
    members: list[Member] = []
    seq = turns = 0
    for _ in range(400):
        if rng.random() < 0.05 and len(members) < 9:
            members.append(make_member(len(members), rng.getrandbits(SLABS)))
            members[-1].reported_seen = seq - 1
            carousel.note(members[-1])
        slab = carousel.choose([m for m in members if m.is_wanting])
        assert slab == lacked_by(carousel, members)
        if slab is not None:
            turns += 1
            carousel.begin(slab, seq, 0, 0)
            seq += 10
            carousel.sent.end(seq - 1)
        for member in members:
            if rng.random() < 0.4:
                _report(carousel, member, rng, seq)
    assert turns > SLABS


def _report(carousel: Carousel, member: Member, rng: random.Random, seq: int) -> None:
    """A report as of some moment since the last one: what came is verified, held or gone."""
    arrived = carousel.sent.ever & ~member.verified & rng.getrandbits(SLABS)
    held = tuple(slab for slab in range(SLABS) if rng.random() < 0.2)
    seen = rng.randint(member.reported_seen, seq - 1) if seq > member.reported_seen else member.reported_seen
    member.take_report(report(member.verified | arrived & rng.getrandbits(SLABS), held), seen, EVERY, 1.0)
    if member.is_wanting:
        carousel.note(member)


def test_a_second_time_round_is_a_second_pass(carousel: Carousel) -> None:
    member = make_member()
    carousel.note(member)
    for slab in range(SLABS):
        assert carousel.choose([member]) == slab
        carousel.begin(slab, slab, 0, 0)
        carousel.sent.end(slab)
    assert carousel.choose([member]) is None
    assert carousel.pass_number == 1
    member.take_report(report(EVERY & ~0b100, ()), SLABS, EVERY, 1.0)
    carousel.note(member)
    assert carousel.choose([member]) == 2
    carousel.begin(2, SLABS, 0, 0)
    assert carousel.pass_number == 2


def test_what_is_to_come_first_comes_once_and_then_all_by_their_numbers() -> None:
    carousel = Carousel(Geometry((SLABS - 1) * SLAB_BYTES + 2 * ROW_BYTES), first=1 << 0 | 1 << 10 | 1 << 11 | 1 << 40)
    member = make_member(verified=1 << 3)
    carousel.note(member)
    found = []
    for seq in range(SLABS - 1):
        slab = carousel.choose([member])
        assert slab is not None
        carousel.begin(slab, seq, 0, 0)
        found.append(slab)
    assert found == [0, 10, 11, 1, 2, 4, 5, 6, 7, 8, 9]
    assert carousel.pass_number == 1
    late = make_member(2)
    carousel.note(late)
    assert carousel.choose([late]) == 3
    carousel.begin(3, SLABS, 0, 0)
    assert carousel.pass_number == 2
