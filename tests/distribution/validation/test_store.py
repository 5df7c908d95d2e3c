# SPDX-License-Identifier: Apache-2.0
"""What validation remembers, over a restart too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd.distribution.validation.store import (
    KEPT_DAMAGE,
    KEPT_RUNS,
    DamageState,
    RunState,
    ValidationStore,
)

A, B = 64 * "a", 64 * "b"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[ValidationStore]:
    store = ValidationStore(tmp_path / "validation.db", clock=clock)
    yield store
    store.close()


def test_a_run_goes_on_where_its_job_left_it(store: ValidationStore, tmp_path: Path, clock: Clock) -> None:
    run = store.begin(7, "")
    store.advance(run, "LAB00001", 3, 500)
    store.end(run, RunState.STOPPED)
    store.close()
    again = ValidationStore(tmp_path / "validation.db", clock=clock)
    resumed = again.begin(7, "")
    again.close()
    assert (resumed.id, resumed.state, resumed.ended_at) == (run.id, RunState.RUNNING, 0)
    assert (resumed.contents, resumed.read_bytes, resumed.after_package, resumed.after_version) == (
        1,
        500,
        "LAB00001",
        3,
    )


def test_only_a_whole_run_that_ended_counts_for_the_age(store: ValidationStore, clock: Clock) -> None:
    clock.now = 2000.0
    assert store.age_s() == pytest.approx(1000, abs=2)  # since the file was made
    one, everything = store.begin(1, "LAB00001"), store.begin(2, "")
    store.end(one, RunState.DONE)
    store.end(everything, RunState.STOPPED)
    assert store.validated_at() == 0
    store.end(everything, RunState.DONE)
    at = clock.now
    assert store.validated_at() == at
    clock.now = at + 60
    assert store.age_s() == pytest.approx(61)


def test_old_runs_go(store: ValidationStore) -> None:
    for job in range(1, KEPT_RUNS + 6):
        store.begin(job, "")
    assert [run.job_id for run in store.runs(1000)] == list(range(KEPT_RUNS + 5, 5, -1))
    assert [run.job_id for run in store.runs(2)] == [KEPT_RUNS + 5, KEPT_RUNS + 4]


def test_the_run_that_tells_the_age_outlives_any_number_of_small_ones(store: ValidationStore, clock: Clock) -> None:
    for job in (1, 2):
        store.end(store.begin(job, ""), RunState.DONE)
    at = store.validated_at()
    for job in range(3, KEPT_RUNS + 10):
        store.end(store.begin(job, "LAB00001"), RunState.DONE)
    assert at > 0
    assert store.validated_at() == at
    assert [run.job_id for run in store.runs(1000)][-1] == 2


def test_times_from_before_the_first_start_were_not_missed(store: ValidationStore) -> None:
    since = store.last_ordered_at()
    assert since == 1001
    store.note_ordered(5000)
    assert store.last_ordered_at() == 5000


def test_damage_is_new_once(store: ValidationStore) -> None:
    assert store.note_damage(A, "LAB00001", 1, "slab 3 differs", 10)
    first = store.open_damage()[0]
    assert not store.note_damage(A, "LAB00002", 4, "slab 3 and 4 differ", 10)
    (known,) = store.open_damage()
    assert (known.package_id, known.source_version, known.reason) == ("LAB00002", 4, "slab 3 and 4 differ")
    assert known.found_at == first.found_at


def test_damage_that_comes_back_is_new_again(store: ValidationStore) -> None:
    store.note_damage(A, "LAB00001", 1, "missing", 10)
    assert store.end_damage(A, DamageState.REPAIRED, "from dp2")
    assert not store.end_damage(A, DamageState.REPAIRED, "twice")
    assert store.damage(5)[0].note == "from dp2"
    assert store.note_damage(A, "LAB00001", 1, "slab 0 differs", 10)
    assert store.damage_counts() == {"damaged": 1, "repaired": 0, "removed": 0}


def test_what_is_damaged_comes_first(store: ValidationStore) -> None:
    store.note_damage(A, "LAB00001", 1, "missing", 10)
    store.note_damage(B, "LAB00001", 1, "missing", 10)
    store.explain(B, "no source has it")
    store.end_damage(A, DamageState.REMOVED, "")
    assert [(each.sha256, each.state, each.note) for each in store.damage(5)] == [
        (B, DamageState.DAMAGED, "no source has it"),
        (A, DamageState.REMOVED, ""),
    ]
    assert [each.sha256 for each in store.damage(1)] == [B]


def test_of_old_damage_the_latest_stays(store: ValidationStore) -> None:
    store.note_damage(A, "LAB00001", 1, "missing", 10)
    for number in range(KEPT_DAMAGE + 3):
        sha256 = f"{number:064x}"
        store.note_damage(sha256, "LAB00002", 1, "missing", 10)
        store.end_damage(sha256, DamageState.REPAIRED, "")
    kept = [each.sha256 for each in store.damage(5000)]
    assert kept[0] == A
    assert (kept[1], kept[-1], len(kept)) == (f"{KEPT_DAMAGE + 2:064x}", f"{3:064x}", KEPT_DAMAGE + 1)
