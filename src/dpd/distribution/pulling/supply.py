# SPDX-License-Identifier: Apache-2.0
"""The sources as one pull uses them: in order of priority, equals shuffled; when one fails the next is asked.

Who lied is not asked again in this pull, who stalled or did not answer comes last from then on. A Supply is shared by the
threads of a pull, each of which has a Lane with connections of its own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from dpd.distribution.jobs.events import Tell
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure, Terms
from dpd.errors import SourceUnavailable
from dpd.telemetry.events import Value

READ_BYTES = 1 << 20
_LIARS = frozenset({Outcome.WRONG, Outcome.REFUSED})  # asking again in the same pull brings the same
_LAST = frozenset({Outcome.STALLED, Outcome.TRUNCATED, Outcome.UNREACHABLE, Outcome.CHANGED})

T = TypeVar("T")


def in_order(sources: Sequence[Source], rng: random.Random) -> list[Source]:
    """By priority, equals in random order."""
    return sorted(rng.sample(sources, len(sources)), key=lambda source: source.priority)


class Supply:
    """The sources of one pull. `told` goes with each event: what is pulled."""

    def __init__(
        self, sources: Sequence[Source], rng: random.Random, stats: PullStats, tell: Tell, told: Mapping[str, Value]
    ) -> None:
        self.stats = stats
        self._order = in_order(sources, rng)
        self._tell = tell
        self._told = dict(told)
        self._lock = threading.Lock()
        self._excluded: dict[str, SourceFailure] = {}
        self._said: set[tuple[str, Outcome]] = set()

    def candidates(self) -> list[Source]:
        """Who may be asked, in the order of this moment."""
        with self._lock:
            return [source for source in self._order if source.name not in self._excluded]

    def excluded(self) -> list[SourceFailure]:
        """Who is not asked any more, and why."""
        with self._lock:
            return list(self._excluded.values())

    def prefer(self, source: Source) -> None:
        """It has what is pulled: ask it first from now on."""
        with self._lock:
            self._order = [source, *(each for each in self._order if each.name != source.name)]

    def failed(self, source: Source, failure: SourceFailure, *, is_told: bool = True) -> None:
        """Take the consequence, and tell it: once for each source and outcome, or a tree of 20,000 files would flood the log."""
        self.stats.ended(failure.outcome)
        with self._lock:
            if failure.outcome in _LIARS:
                self._excluded[source.name] = failure
            elif failure.outcome in _LAST:
                self._order = [*(each for each in self._order if each.name != source.name), source]
            is_new = (source.name, failure.outcome) not in self._said
            if is_told:
                self._said.add((source.name, failure.outcome))
        if is_new and is_told:
            event = "source.lied" if failure.outcome is Outcome.WRONG else "source.failed"
            fields = {"source": source.name, "outcome": failure.outcome.value, "why": failure.why}
            self._tell(event, {**self._told, **fields})


class Lane:
    """One thread's way to the sources. A context manager: its connections are closed at the end."""

    def __init__(self, supply: Supply, terms: Terms) -> None:
        self.supply = supply
        self.terms = terms
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *error: object) -> None:
        for session in self._sessions.values():
            session.close()

    def ask(self, what: str, work: Callable[[Source, Session], T], *, is_optional: bool = False) -> T:
        """What `work` makes of the first source that can. Raises SourceUnavailable that names each and why; whatever else
        `work` raises passes. What is optional and not there is no event."""
        failures = {each.source: each for each in self.supply.excluded()}
        for source in self.supply.candidates():
            self.terms.check()
            try:
                found = work(source, self._session(source))
            except SourceFailure as failure:
                is_told = not (is_optional and failure.outcome is Outcome.NOT_FOUND)
                self.supply.failed(source, failure, is_told=is_told)
                failures[source.name] = failure
            else:
                self.supply.stats.ended(Outcome.OK)
                return found
        raise SourceUnavailable(f"{what}: {_all_failed(list(failures.values()))}")

    def ask_nearest(self, what: str, work: Callable[[Source, Session], T]) -> list[T]:
        """What `work` makes of each source of the first priority that has one which can. Raises as `ask`."""
        failures = {each.source: each for each in self.supply.excluded()}
        found: list[T] = []
        priority: int | None = None
        for source in sorted(self.supply.candidates(), key=lambda each: each.priority):
            if found and source.priority != priority:
                break
            priority = source.priority
            self.terms.check()
            try:
                found.append(work(source, self._session(source)))
            except SourceFailure as failure:
                self.supply.failed(source, failure)
                failures[source.name] = failure
        if not found:
            raise SourceUnavailable(f"{what}: {_all_failed(list(failures.values()))}")
        return found

    def read_range(self, path: str, begin: int, end: int, size_bytes: int) -> Iterator[memoryview]:
        """The bytes of a file in pieces, good until the next one is asked for; where a source fails in the middle the next goes on.
        Raises SourceUnavailable. What came is not compared with any hash."""
        buffer = memoryview(bytearray(READ_BYTES))
        barren = 0  # answers in a row that brought nothing
        while begin < end:
            if barren > len(self.supply.candidates()):
                raise SourceUnavailable(f"{path}: no source brings it: each answers and then breaks off")
            barren += 1
            stream, source = self.ask(
                path,
                lambda source, session: (session.open(path, begin, end, size_bytes), source),  # noqa: B023
            )
            try:
                while count := stream.readinto(buffer):
                    self.supply.stats.came(source.kind, count)
                    begin, barren = begin + count, 0
                    yield buffer[:count]
            except SourceFailure as failure:
                self.supply.failed(source, failure)
            finally:
                stream.close()

    def _session(self, source: Source) -> Session:
        session = self._sessions.get(source.name)
        if session is None:
            session = self._sessions[source.name] = source.session(self.terms)
        return session


def _all_failed(failures: Sequence[SourceFailure]) -> str:
    if not failures:
        return "no source is in the settings; add [[distribution.source]] with a name and a url"
    said = "; ".join(f"{each.source}: {each.why}" for each in failures)
    return f"no source has it now: {said}"
