# SPDX-License-Identifier: Apache-2.0
"""The room of the representatives, and who is waited for."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.brake import PROBE_S, WINDOW_SHARE, Brake
from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.member import Member, SlabsSent, Wait
from dpd.protocol.multicast.membership import Membership
from dpd.protocol.multicast.pacing import STALL_S, Credit, Standing


@pytest.fixture
def membership() -> Membership:
    return Membership(timeout_s=10.0)


@pytest.fixture
def brake(membership: Membership) -> Brake:
    return Brake(membership)


def join(membership: Membership, number: int, window: int = 1000, slots: int = 4) -> Member:
    member = Member(number, Credit(window, -1), Standing(), slots, 0, False, 0.0)
    membership.add(member)
    return member


def test_a_train_fits_into_the_smallest_window_or_waits(membership: Membership, brake: Brake) -> None:
    join(membership, 1)
    small = join(membership, 2, window=10 * COLUMNS)
    assert not brake.holds_train(9 * COLUMNS - 1, 1.0)
    assert brake.holds_train(9 * COLUMNS, 1.0)
    assert Wait.CREDIT in brake.waiting
    small.hear(COLUMNS, 1.1)
    assert not brake.holds_train(9 * COLUMNS, 1.1)
    assert not brake.waiting


def test_one_that_is_not_to_be_waited_for_holds_nothing(membership: Membership, brake: Brake) -> None:
    join(membership, 1, window=64).heard_at = 0.5  # before it became a representative, and not since
    assert not brake.holds_train(5000, 1.0)
    assert not brake.holds_slab(SlabsSent(), 5000, 1.0)


def test_a_slab_waits_for_a_buffer_of_every_representative(membership: Membership, brake: Brake) -> None:
    join(membership, 1)
    full = join(membership, 2, slots=1)
    sent = SlabsSent()
    assert not brake.holds_slab(sent, -1, 1.0)
    sent.begin(0, 0)
    assert brake.holds_slab(sent, 100, 1.0)
    assert Wait.SLABS in brake.waiting
    full.verified = 1
    assert not brake.holds_slab(sent, 100, 1.1)


def seconds_held(brake: Brake, member: Member, latest_seq: int) -> float:
    """While it shows progress and has no room; up to 30."""
    now = 1.0
    while brake.holds_train(latest_seq, now) and now < 31.0:
        now += 0.125
        member.standing.progress()
    return now - 1.0


def test_those_who_have_nothing_to_do_are_kept_for_a_second(membership: Membership, brake: Brake) -> None:
    slow = join(membership, 1, window=64)
    join(membership, 2).credit.seen = 500
    assert seconds_held(brake, slow, 500) == pytest.approx(STALL_S, abs=0.2)


def test_those_at_work_are_not_kept(membership: Membership, brake: Brake) -> None:
    slow = join(membership, 1, window=64)
    join(membership, 2, window=900).credit.seen = 40
    assert seconds_held(brake, slow, 500) == 30.0


@pytest.mark.parametrize(
    ("window", "under_way", "rows"),
    [(1 << 20, 0, 8), (WINDOW_SHARE * 5 * COLUMNS, 0, 5), (1024, 1024 - 2 * COLUMNS, 2), (1024, 1024 - 10, 0)],
)
def test_several_rows_fit_everybody(
    membership: Membership, brake: Brake, window: int, under_way: int, rows: int
) -> None:
    join(membership, 1, window=1 << 20)
    join(membership, 2, window=window)
    assert brake.rows_allowed(8, under_way - 1, 1.0) == rows


def test_where_none_is_heard_a_train_leaves_now_and_then(membership: Membership, brake: Brake) -> None:
    for number in (1, 2):
        join(membership, number, window=64).standing.stalled_s = STALL_S
    asked = [1.0 + tenth / 200 for tenth in range(200)]
    sent = [now for now in asked if not brake.holds_train(500, now)]
    assert len(sent) == pytest.approx(1.0 / PROBE_S, abs=1)
    join(membership, 3, window=1000)
    assert not any(brake.holds_train(500, now) for now in (3.0, 3.001, 3.002))
