# SPDX-License-Identifier: Apache-2.0
"""What a sender makes of NACKs does not depend on their order, nor on how often each of them comes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.repair import SlabRepair

DEFICITS = st.lists(st.integers(0, 255), min_size=COLUMNS, max_size=COLUMNS).map(bytes)
NACKS = st.lists(st.tuples(DEFICITS, st.integers(0, 400)), min_size=1, max_size=6)
BURSTS = st.lists(st.integers(1, 2 * COLUMNS), max_size=4)


def after(bursts: list[int]) -> SlabRepair:
    """A slab that was asked for and repaired in bursts of these sizes: there is something under way."""
    repair, seq = SlabRepair(ROWS), 0
    repair.merge(bytes([8] * COLUMNS), -1)
    for size in bursts:
        symbols = repair.take(size)
        seq += max(len(symbols), 1)
        repair.note_sent(symbols, seq)
    return repair


@settings(max_examples=60, deadline=None)
@given(NACKS, BURSTS, st.randoms(use_true_random=False))
def test_the_order_of_nacks_does_not_matter(
    nacks: list[tuple[bytes, int]], bursts: list[int], shuffler: random.Random
) -> None:
    one, other = after(bursts), after(bursts)
    for deficits, seen in nacks:
        one.merge(deficits, seen)
    shuffled = list(nacks)
    shuffler.shuffle(shuffled)
    for deficits, seen in shuffled:
        other.merge(deficits, seen)
    assert one.pending == other.pending


@settings(max_examples=60, deadline=None)
@given(NACKS, BURSTS)
def test_a_nack_that_comes_twice_counts_once(nacks: list[tuple[bytes, int]], bursts: list[int]) -> None:
    repair = after(bursts)
    for deficits, seen in nacks:
        repair.merge(deficits, seen)
    before = list(repair.pending)
    assert sum(repair.merge(deficits, seen) for deficits, seen in nacks) == 0
    assert repair.pending == before


@settings(max_examples=60, deadline=None)
@given(NACKS)
def test_what_is_pending_is_the_most_that_anybody_lacks(nacks: list[tuple[bytes, int]]) -> None:
    repair = SlabRepair(ROWS)
    for deficits, seen in nacks:
        repair.merge(deficits, seen)
    assert repair.pending == [min(max(d[column] for d, _ in nacks), ROWS) for column in range(COLUMNS)]
