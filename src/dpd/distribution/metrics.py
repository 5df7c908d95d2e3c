# SPDX-License-Identifier: Apache-2.0
"""What Prometheus hears of the library and of distribution: dpd_library_*, dpd_distribution_*, dpd_validation_* and dpd_pull_*.

All of it is read when Prometheus asks. Sums over a library of 10,000 packages cost tens of milliseconds; so they are kept for
a hundred times as long as they took, and cost a hundredth of a processor at the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from dpd.content.library import Library
from dpd.content.storage.roots import RootStatus
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.job import OPEN, JobState
from dpd.distribution.jobs.queue import Standing
from dpd.distribution.validation.store import DamageState, ValidationStore
from dpd.telemetry.events import Value
from dpd.telemetry.metrics import MetricsRegistry
from dpd.telemetry.stats import bump, counts, gauge, levels

_T = TypeVar("_T")

KEPT_FOR_COST = 100.0
KEPT_AT_MOST_S = 60.0


@dataclass(slots=True)
class LibraryLevels:
    """The library as it is. A root that is missing has no free bytes."""

    contents: int = gauge("Package versions in the library")
    content_bytes: int = gauge("Bytes of all package versions, as if nothing were shared")
    blobs: int = gauge("Different files in the library")
    blob_bytes: int = gauge("Bytes of the different files")
    saved_bytes: int = gauge("Bytes that are not stored twice, since equal files are one")
    damaged_blobs: int = gauge("Files that are damaged, and not given out")
    roots_missing: int = gauge("Storage roots that cannot be read")
    root_free_bytes: dict[str, float] = levels("Bytes that are free in each storage root", "root")
    root_reserve_bytes: dict[str, float] = levels("Bytes that new content leaves free in each storage root", "root")
    root_blob_bytes: dict[str, float] = levels("Bytes of files in each storage root", "root")


@dataclass(slots=True)
class DistributionLevels:
    """Packages and open jobs as they are; every state is there, also with 0."""

    packages: dict[str, float] = levels("Packages by their state here", "state")
    jobs: dict[str, float] = levels("Jobs that have not ended, by state", "state")
    oldest_job_seconds: dict[str, float] = levels("Age of the oldest job that has not ended, by state", "state")
    is_maintenance: int = gauge("1 during maintenance, when no new content comes in")


@dataclass(slots=True)
class ValidationLevels:
    """What validation last saw."""

    age_seconds: float = gauge("Time since everything was read and compared; since dpd began to note it, where never")
    damage: dict[str, float] = levels("Files that were found damaged, by what became of them", "state")


@dataclass(slots=True)
class EventStats:
    """What happened since the start."""

    events: dict[str, int] = counts("What happened to jobs, content and sources", "event")


def counted(tell: Tell, stats: EventStats) -> Tell:
    """The same, with each event counted."""

    def tell_and_count(event: str, fields: Mapping[str, Value]) -> None:
        bump(stats.events, event)
        tell(event, fields)

    return tell_and_count


class Kept(Generic[_T]):
    """What is dear to read: kept for a time in proportion to what it took. From any thread."""

    def __init__(self, read: Callable[[], _T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._value: _T | None = None
        self._until = float("-inf")

    def __call__(self) -> _T:
        begun_at = self._clock()
        if self._value is None or begun_at >= self._until:
            self._value = self._read()
            ended_at = self._clock()
            self._until = ended_at + min(KEPT_FOR_COST * (ended_at - begun_at), KEPT_AT_MOST_S)
        return self._value


def read_library(library: Library) -> LibraryLevels:
    """A few sums in its tables."""
    totals, roots = library.totals(), library.roots()
    return LibraryLevels(
        contents=totals.contents,
        content_bytes=totals.content_bytes,
        blobs=totals.blobs,
        blob_bytes=totals.blob_bytes,
        saved_bytes=totals.saved_bytes,
        damaged_blobs=len(library.damaged_blobs()),
        roots_missing=sum(1 for root in roots if root.problem),
        root_free_bytes=_by_root(roots, lambda root: root.free_bytes),
        root_reserve_bytes=_by_root(roots, lambda root: root.reserve_bytes),
        root_blob_bytes=_by_root(roots, lambda root: root.blob_bytes),
    )


def _by_root(roots: Iterable[RootStatus], value: Callable[[RootStatus], int]) -> dict[str, float]:
    return {str(root.id): value(root) for root in roots}


def read_distribution(
    states: Mapping[str, int], jobs: Mapping[JobState, Standing], *, is_maintenance: bool, now: float
) -> DistributionLevels:
    """`states` counts the packages by state; `jobs` those that have not ended."""
    known = {state: jobs.get(state, Standing()) for state in sorted(OPEN)}
    return DistributionLevels(
        packages=dict(states),
        jobs={state.value: each.jobs for state, each in known.items()},
        oldest_job_seconds={
            state.value: max(0.0, now - each.oldest_at) if each.jobs else 0.0 for state, each in known.items()
        },
        is_maintenance=int(is_maintenance),
    )


def read_validation(store: ValidationStore) -> ValidationLevels:
    """Two look-ups."""
    found = store.damage_counts()
    return ValidationLevels(store.age_s(), {state.value: found[state.value] for state in DamageState})


def add_library(registry: MetricsRegistry, library: Library) -> None:
    """dpd_library_*."""
    registry.add_read("library", Kept(lambda: read_library(library)))


def add_validation(registry: MetricsRegistry, store: ValidationStore, stats: object) -> None:
    """dpd_validation_*."""
    registry.add("validation", stats)
    registry.add_read("validation", lambda: read_validation(store))


def add_distribution(
    registry: MetricsRegistry,
    *,
    states: Callable[[], Mapping[str, int]],
    jobs: Callable[[], Mapping[JobState, Standing]],
    is_maintenance: Callable[[], bool],
    events: EventStats,
    pulls: object,
    clock: Callable[[], float] = time.time,
) -> None:
    """dpd_distribution_* and dpd_pull_*. `states` counts packages by state; `pulls` are the stats of who pulls."""
    kept_states = Kept(states)
    registry.add("distribution", events)
    registry.add("pull", pulls)
    registry.add_read(
        "distribution",
        lambda: read_distribution(kept_states(), jobs(), is_maintenance=is_maintenance(), now=clock()),
    )
