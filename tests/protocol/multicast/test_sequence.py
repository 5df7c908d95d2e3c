# SPDX-License-Identifier: Apache-2.0
"""Which numbers are believed, and what counts as lost, late and reordered."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS
from dpd.protocol.multicast.sequence import MAX_LATE, RANGES_REMEMBERED, TRUSTED, VOTES_BACK, Sequence


class Stream:
    """A sequence that follows a stream of trains."""

    def __init__(self, at: int = 0) -> None:
        self.counters = ReceiverCounters()
        self.sequence = Sequence(self.counters)
        self.next = at

    def trains(self, count: int) -> list[bool]:
        taken = []
        for _ in range(count):
            taken.append(self.sequence.count(self.next & 0xFFFFFFFF, COLUMNS))
            self.next += COLUMNS
        return taken

    def is_followed(self) -> bool:
        return self.sequence.seen == (self.next - 1) & 0xFFFFFFFF


@pytest.mark.parametrize("start", [0, 12_345, 2**32 - 3 * COLUMNS])
def test_a_whole_stream_is_followed_from_anywhere_over_the_wrap(start: int) -> None:
    stream = Stream(start)
    assert all(stream.trains(100))
    assert stream.is_followed()
    assert (stream.counters.symbols, stream.counters.lost, stream.counters.reordered) == (100 * COLUMNS, 0, 0)


@pytest.mark.parametrize("lost", [1, 31, TRUSTED, TRUSTED + 1, 5000, 1_000_000])
def test_a_burst_that_is_lost_is_counted(lost: int) -> None:
    stream = Stream()
    stream.trains(10)
    stream.next += lost
    assert all(stream.trains(3))
    assert stream.is_followed()
    assert stream.counters.lost == lost


def test_lone_symbols_behind_a_long_loss_are_believed_from_the_second_on() -> None:
    stream = Stream()
    stream.trains(10)
    stream.next += 1000
    assert [stream.sequence.count(stream.next + i, 1) for i in range(3)] == [False, True, True]
    assert stream.counters.lost == 1000


def test_what_comes_late_is_reordered_and_not_lost_and_comes_late_only_once() -> None:
    stream = Stream()
    stream.trains(4)
    stream.next += COLUMNS
    stream.trains(4)
    assert stream.counters.lost == COLUMNS
    for first, count in [(5, 3), (0, 5), (8, COLUMNS - 8)]:
        stream.sequence.count(4 * COLUMNS + first, count)
    assert (stream.counters.lost, stream.counters.reordered) == (0, COLUMNS)
    stream.sequence.count(4 * COLUMNS, COLUMNS)
    assert (stream.counters.lost, stream.counters.reordered) == (0, COLUMNS)


def test_duplicates_are_neither_lost_nor_reordered() -> None:
    stream = Stream()
    stream.trains(4)
    for _ in range(3):
        stream.sequence.count(2 * COLUMNS, COLUMNS)
    assert (stream.counters.lost, stream.counters.reordered) == (0, 0)
    assert stream.is_followed()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 2**32 - 1))
def test_any_share_of_loss_and_reordering_is_counted_exactly(seed: int, start: int) -> None:
    """Lone symbols, each lost with 10 % and late with 10 % by up to 100 places."""
    rng = random.Random(seed)
    counters = ReceiverCounters()
    sequence = Sequence(counters)
    sent = [i for i in range(1500) if i in (0, 1499) or rng.random() >= 0.1]
    order = sorted(sent, key=lambda i: i + rng.random() * 100 * (rng.random() < 0.1 and 0 < i < 1390))
    newest, late = -1, 0
    for number in order:
        late += number < newest
        newest = max(newest, number)
        sequence.count((start + number) & 0xFFFFFFFF, 1)
    assert counters.lost == 1500 - len(sent)
    assert counters.reordered == late
    assert sequence.seen == (start + 1499) & 0xFFFFFFFF


# ---- numbers that are wrong


@pytest.mark.parametrize("ahead", [TRUSTED + 1, 5000, 3 * MAX_LATE, 1 << 21, 1 << 31, -5000, -TRUSTED - 40])
def test_one_wrong_number_changes_nothing(ahead: int) -> None:
    stream = Stream(10_000)
    stream.trains(10)
    assert not stream.sequence.count((stream.next + ahead) & 0xFFFFFFFF, 1)
    assert all(stream.trains(10))
    assert stream.is_followed()
    assert stream.counters.lost == 0


@pytest.mark.parametrize("ahead", [5000, 1 << 20, 1 << 30])
def test_a_forged_leap_is_outvoted_by_the_stream_and_leaves_no_loss_behind(ahead: int) -> None:
    stream = Stream()
    stream.trains(10)
    for i in range(2):
        stream.sequence.count(stream.next + ahead + i, 1)
    assert stream.sequence.seen == stream.next + ahead + 1, "or the test shows nothing"
    taken = stream.trains(10)
    assert taken.index(True) <= VOTES_BACK // COLUMNS
    assert all(taken[VOTES_BACK // COLUMNS :])
    assert stream.is_followed()
    assert stream.counters.lost <= 0
    assert stream.sequence.leapt == 0


def test_the_stream_holds_its_own_against_a_forger_in_the_minority() -> None:
    """Two forged neighbours somewhere before every tenth train: 0.6 % of all symbols."""
    rng = random.Random(1)
    stream = Stream()
    stream.trains(10)
    taken: list[bool] = []
    for _ in range(200):
        at = rng.randrange(1 << 32)
        for i in range(2):
            stream.sequence.count((at + i) & 0xFFFFFFFF, 1)
        taken += stream.trains(10)
    assert sum(taken) / len(taken) >= 0.7
    longest = max(len(late) for late in "".join("01"[t] for t in taken).split("1"))
    assert longest <= 4


def test_small_leaps_ahead_one_after_the_other_do_not_lead_away_for_long() -> None:
    stream = Stream()
    stream.trains(10)
    for _ in range(50):
        for _ in range(5):
            stream.sequence.count((stream.sequence.seen + TRUSTED) & 0xFFFFFFFF, 1)
        taken = stream.trains(10)
        assert True in taken[:4]
    stream.trains(10)
    assert stream.is_followed()


# ---- BEATs


def test_a_beat_ahead_shows_a_tail_that_was_lost() -> None:
    stream = Stream()
    stream.trains(2)
    assert stream.sequence.believe(stream.next + 99, False)
    assert stream.counters.lost == 100
    assert not stream.sequence.believe(stream.next + 50, False)
    assert stream.sequence.seen == stream.next + 99


@pytest.mark.parametrize(
    ("behind", "is_end", "is_believed"), [(100, False, False), (100, True, True), (MAX_LATE + 1, False, True)]
)
def test_a_beat_far_behind_corrects_what_was_seen(behind: int, is_end: bool, is_believed: bool) -> None:
    stream = Stream(100_000)
    stream.trains(10)
    newest = stream.sequence.seen
    assert not stream.sequence.believe(newest - behind, is_end)
    assert stream.sequence.seen == (newest - behind if is_believed else newest)


def test_losses_that_beats_do_not_bear_out_are_taken_back_and_told() -> None:
    """Numbers forged a little ahead, each of them believed: the gaps that they make were none."""
    stream = Stream()
    for beat in range(5):
        for _ in range(200):
            stream.trains(1)
            for step in (1, 2, 3):
                stream.sequence.count(stream.next + 100 * step, 1)
        stream.next += 50
        stream.sequence.believe(stream.next - 1, False)
        assert stream.sequence.is_misled == (beat > 0)
    assert stream.counters.lost - stream.sequence.leapt <= 5 * 50 + 200 * COLUMNS, "of the first BEAT nothing is known"


def test_honest_losses_duplicates_and_late_symbols_mislead_nobody() -> None:
    rng = random.Random(3)
    stream = Stream()
    for _ in range(20):
        late: list[int] = []
        for _ in range(100):
            if len(late) > 3:
                stream.sequence.count(late.pop(0), COLUMNS)
            if rng.random() < 0.1:
                stream.next += COLUMNS
            elif rng.random() < 0.1:
                late.append(stream.next)
                stream.next += COLUMNS
            else:
                stream.trains(1)
            if rng.random() < 0.1:
                stream.sequence.count(stream.sequence.seen, 1)
        for first in late:
            stream.sequence.count(first, COLUMNS)
            stream.trains(2)
        before = stream.counters.lost
        stream.sequence.believe(stream.next - 1, False)
        assert not stream.sequence.is_misled
        assert stream.counters.lost >= before


def test_a_beat_before_the_first_symbol_counts_as_none_lost() -> None:
    stream = Stream(500_000)
    stream.sequence.believe(stream.next - 1, False)
    stream.trains(1)
    assert stream.counters.lost == 0


def test_memory_does_not_grow_with_the_losses() -> None:
    stream = Stream()
    for _ in range(5000):
        stream.trains(1)
        stream.next += 3
    assert stream.counters.lost == 4999 * 3
    assert len(stream.sequence._missing) <= RANGES_REMEMBERED
