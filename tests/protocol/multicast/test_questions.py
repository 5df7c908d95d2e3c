# SPDX-License-Identifier: Apache-2.0
"""What is asked for of several slabs at once, and what is not worth a question. How promises and announcements work for a
whole receiver is in test_receiver_suppression.py."""

from __future__ import annotations

import math
import random

import pytest

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.message import MAX_NACK_SLABS
from dpd.protocol.multicast.questions import MAX_NACK_S, REORDER_GRACE_S, Questions
from dpd.protocol.multicast.slabs import Slabs

NOBODY = -1
LATER = 10.0


class Receiver:
    """The slabs and questions of one."""

    def __init__(self, slots: int = 40, seed: int = 1) -> None:
        self.counters = ReceiverCounters()
        self.slabs = Slabs(Geometry(100 * SLAB_BYTES), 0, slots, self.counters)
        self.questions = Questions(self.slabs, self.counters, random.Random(seed))

    def take(self, slab: int, rows: int) -> SlabAssembly:
        """The first rows of a slab came."""
        assembly = self.slabs.assemblies.get(slab) or self.slabs.begin(slab, 0, slab)
        assert assembly is not None
        for row in range(rows):
            assembly.add_sources(row, 0, memoryview(bytes(ROW_BYTES)))
        return assembly


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def test_all_that_is_due_goes_into_one_question(receiver: Receiver) -> None:
    for slab in (3, 5):
        receiver.questions.ask(receiver.take(slab, ROWS - slab), 0.0)
    wanted = receiver.questions.take_due(NOBODY, LATER)
    assert {w.slab: w.deficits for w in wanted} == {3: bytes([3] * COLUMNS), 5: bytes([5] * COLUMNS)}
    assert receiver.questions.take_due(NOBODY, LATER) == ()


def test_what_does_not_fit_one_question_follows_in_the_next() -> None:
    receiver = Receiver()
    for slab in range(MAX_NACK_SLABS + 4):
        receiver.questions.ask(receiver.take(slab, 30), 0.0)
    assert len(receiver.questions.take_due(NOBODY, LATER)) == MAX_NACK_SLABS
    assert len(receiver.questions.take_due(NOBODY, LATER)) == 4


def test_a_slab_of_which_hardly_anything_came_is_left_for_its_next_turn(receiver: Receiver) -> None:
    receiver.questions.ask(receiver.take(3, ROWS // 8 - 1), 0.0)
    receiver.questions.ask(receiver.take(4, ROWS // 8), 0.0)
    assert [w.slab for w in receiver.questions.take_due(NOBODY, LATER)] == [4]
    assert set(receiver.slabs.assemblies) == {4}
    assert receiver.counters.abandoned == 1


def test_the_slab_being_sent_is_let_come_while_it_fills(receiver: Receiver) -> None:
    receiver.questions.ask(receiver.take(3, 20), 0.0)
    receiver.take(3, 30)
    assert receiver.questions.take_due(3, 1.0) == ()
    assert [w.slab for w in receiver.questions.take_due(3, 2.0)] == [3]


def test_a_slab_that_was_given_up_meanwhile_is_not_asked_for() -> None:
    receiver = Receiver(slots=1)
    receiver.questions.ask(receiver.take(3, 1), 0.0)
    receiver.take(4, 1)
    assert set(receiver.slabs.assemblies) == {4}, "or the test shows nothing"
    assert receiver.questions.take_due(4, LATER) == ()
    assert receiver.questions.next_due() == math.inf


def test_the_stream_goes_on_and_the_time_that_an_end_has_set_stays(receiver: Receiver) -> None:
    receiver.questions.ask(receiver.take(3, 100), 0.0)
    due = receiver.questions.next_due()
    receiver.questions.leave(3, 0.001, 5)
    assert receiver.questions.next_due() == due
    receiver.questions.leave(77, 0.001, 0)
    assert receiver.questions.next_due() == due


@pytest.mark.parametrize(("nack_ms", "longest_s"), [(2, 0.002), (50, 0.05), (65535, MAX_NACK_S)])
def test_the_back_off_is_as_wide_as_the_beats_say_within_reason(nack_ms: int, longest_s: float) -> None:
    waits = []
    for seed in range(200):
        receiver = Receiver(seed=seed)
        receiver.questions.note_group(500, nack_ms)
        receiver.questions.ask(receiver.take(0, 100), 0.0)
        waits.append(receiver.questions.next_due())
    assert min(waits) >= REORDER_GRACE_S
    assert REORDER_GRACE_S + 0.8 * longest_s <= max(waits) <= REORDER_GRACE_S + longest_s


def test_who_is_alone_waits_for_reordered_symbols_only(receiver: Receiver) -> None:
    receiver.questions.note_group(1, 50)
    receiver.questions.ask(receiver.take(0, 100), 0.0)
    assert receiver.questions.next_due() == REORDER_GRACE_S
