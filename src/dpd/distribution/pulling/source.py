# SPDX-License-Identifier: Apache-2.0
"""What a source of content is to a pull: documents, and streams of bytes from any place of a file on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from dpd.distribution.pulling.rate import RateLimit
from dpd.errors import SourceUnavailable

Check: TypeAlias = Callable[[], object]  # raises where the pull is to end


class Outcome(StrEnum):
    """How a request to a source ended."""

    OK = "ok"
    NOT_FOUND = "not_found"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    WRONG = "wrong_hash"  # it gave what is not what it should be: bytes, a length, a signature
    CHANGED = "changed"  # the file under the URL is another one than at the begin of the pull
    NO_RANGES = "no_ranges"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class SourceFailure(SourceUnavailable):
    """One source could not give what was asked of it. `why` may quote the source, and goes to terminals: what cannot be
    printed is a question mark in it."""

    def __init__(self, source: str, outcome: Outcome, why: str) -> None:
        why = "".join(each if each.isprintable() else "?" for each in why)
        super().__init__(f"{source}: {why}")
        self.source = source
        self.outcome = outcome
        self.why = why


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a thread of a pull talks to sources. `via` are the ids of dpds that it pulls for, and ours."""

    check: Check
    limit: RateLimit
    stall_s: float
    via: tuple[str, ...] = ()


class Stream(Protocol):
    """The bytes of a file from some place on, as they come."""

    def readinto(self, buffer: memoryview) -> int:
        """At least one byte; 0 at the end that was asked for, not before. Raises SourceFailure, and what `check` raises."""
        ...

    def close(self) -> None:
        """Idempotent; the rest is not wanted."""
        ...


class Session(Protocol):
    """Talk of one thread with one source."""

    def read(self, path: str, limit_bytes: int) -> bytes:
        """A small document of the repository. Raises SourceFailure."""
        ...

    def open(self, path: str, begin: int, end: int, size_bytes: int) -> Stream:
        """The bytes from `begin` up to `end` of a file of `size_bytes`. Raises SourceFailure."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Source(Protocol):
    """A place that content is pulled from. `kind`: "dpd" or "http" or "s3", for the counters."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def public_key(self) -> str:
        """64 hexadecimal digits; "" to pin what is found first."""
        ...

    def session(self, terms: Terms) -> Session:
        """Talks to nobody yet. Raises SourceFailure where the source's own settings are of no use, such as a CA file."""
        ...


def in_time(source: Source, seconds: float, check: Check) -> Check:
    """A check that also ends what takes longer: who sends on and on, however little it means, is no source that stalls."""
    ends_at = time.monotonic() + seconds

    def look() -> None:
        check()
        if time.monotonic() > ends_at:
            raise SourceFailure(source.name, Outcome.STALLED, f"has not answered a small question in {seconds:g} s")

    return look
