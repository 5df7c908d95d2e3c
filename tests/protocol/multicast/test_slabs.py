# SPDX-License-Identifier: Apache-2.0
"""Slabs come and go; their buffers are as many as were allowed, and each is somewhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.slabs import MAX_DAMAGES, START_ROWS, Slabs

ROW = memoryview(bytes(ROW_BYTES))


def slabs_of(count: int = 9, *, slots: int = 2, verified: int = 0) -> Slabs:
    return Slabs(Geometry(count * 128 * ROW_BYTES), verified, slots, ReceiverCounters())


def begun(slabs: Slabs, slab: int, symbols: int = 0) -> SlabAssembly:
    assembly = slabs.begin(slab, 0, slab)
    assert assembly is not None
    for index in range(symbols):
        assembly.add_source(index // COLUMNS, index % COLUMNS, ROW[:SYMBOL_BYTES])
    return assembly


def test_a_slab_is_begun_by_its_first_rows_only() -> None:
    slabs = slabs_of()
    assert slabs.begin(3, START_ROWS + 1, 3) is None
    assert slabs.begin(3, START_ROWS, 3) is not None
    assert slabs.begin(9, 0, 9) is None, "there is none beyond the last"


def test_what_is_there_or_being_verified_is_not_begun_again() -> None:
    slabs = slabs_of(verified=0b1)
    assert slabs.begin(0, 0, 0) is None
    slabs.complete(begun(slabs, 1))
    assert slabs.begin(1, 0, 1) is None
    assert slabs.candidates() == 0b111111100
    assert slabs.held == (1,)


def test_a_buffer_is_used_again_and_there_are_no_more_than_slots() -> None:
    slabs = slabs_of(slots=2)
    first, second = begun(slabs, 0, 100), begun(slabs, 1, 100)
    assert slabs.begin(2, 0, 2) is None
    slabs.complete(first)
    assert slabs.free_slots == 0
    slabs.release(first)
    assert slabs.free_slots == 1
    assert begun(slabs, 2).storage is first.storage
    assert slabs.buffers == 2
    assert second.storage is not first.storage


def test_the_slab_of_which_least_came_gives_its_buffer_to_the_one_being_sent() -> None:
    slabs = slabs_of(slots=3)
    for slab, symbols in [(0, 2), (1, 1), (2, 500)]:
        begun(slabs, slab, symbols)
    begun(slabs, 3)
    assert set(slabs.assemblies) == {0, 2, 3}


@pytest.mark.parametrize("symbols", [COLUMNS + 1, 1000])
def test_a_slab_of_which_something_came_keeps_its_buffer(symbols: int) -> None:
    slabs = slabs_of(slots=1)
    begun(slabs, 0, symbols)
    assert slabs.begin(1, 0, 1) is None


def test_a_damaged_slab_is_taken_back_a_few_times_and_then_given_up() -> None:
    slabs = slabs_of()
    assembly = begun(slabs, 0)
    for _ in range(MAX_DAMAGES - 1):
        slabs.complete(assembly)
        assert slabs.take_back(assembly)
        assert slabs.assemblies[0] is assembly
    slabs.complete(assembly)
    assert not slabs.take_back(assembly)


def test_a_slab_that_came_otherwise_gives_its_buffer_back_and_counts_once() -> None:
    slabs = slabs_of(slots=1)
    begun(slabs, 4, 1000)
    assert slabs.add_verified(4)
    assert not slabs.add_verified(4)
    assert slabs.verified == 0b10000
    assert slabs.free_slots == 1
    begun(slabs, 5)
    assert slabs.buffers == 1


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_no_buffer_is_lost_or_used_twice(slots: int, seed: int) -> None:
    rng = random.Random(seed)
    slabs = slabs_of(slots=slots)
    out: dict[int, SlabAssembly] = {}
    for _ in range(60):
        slab, act = rng.randrange(9), rng.randrange(5)
        if act == 0 and slab not in slabs.assemblies:
            slabs.begin(slab, 0, slab)
        elif act == 1 and slab in slabs.assemblies:
            out[slab] = slabs.assemblies[slab]
            slabs.complete(out[slab])
        elif act == 2 and slab in out:
            slabs.release(assembly := out.pop(slab))
            if rng.random() < 0.5:
                slabs.add_verified(assembly.slab)
        elif act == 3 and slab in out:
            if slabs.take_back(out[slab]):
                del out[slab]
        elif act == 4 and rng.random() < 0.2:
            slabs.add_verified(slab)
        storages = [a.storage for a in (*slabs.assemblies.values(), *out.values())] + slabs.free
        assert len({id(storage.obj) for storage in storages}) == len(storages) == slabs.buffers <= slots
        assert slabs.verifying == set(out)
