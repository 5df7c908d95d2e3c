# SPDX-License-Identifier: Apache-2.0
"""What the jobs of a package need of others: somebody who fetches it, somebody who makes it right again, and the hours."""

from __future__ import annotations

from typing import Protocol

from dpd.content.records import Content
from dpd.distribution.jobs.job import Priority
from dpd.distribution.jobs.run import JobRun


class Puller(Protocol):
    """Fetches packages from the sources, in their order."""

    def pull(self, package_id: str, source_version: int | None, run: JobRun) -> Content:
        """Bring this version, or the newest that any source has, into the library; at once where it is there already.

        Calls `run.check` at each piece and lets what it raises pass, with the pieces kept on disk for the next try.
        Raises SourceUnavailable where a later try may help, JobPostponed where it knows when, other DpdErrors where not.
        """
        ...


class Restorer(Protocol):
    """Reads what is stored, and fetches again what is not what it should be."""

    def restore(self, content: Content, run: JobRun) -> None:
        """Afterwards every byte of it has been compared and is right. Raises as `Puller.pull`; ContentCorrupt where no
        source has what is damaged here."""
        ...


class Gate(Protocol):
    """The hours in which content may move."""

    def allows(self, priority: Priority, at: float) -> bool:
        """Whether jobs of this priority may pull at that moment, in seconds since the epoch."""
        ...

    def opens_at(self, priority: Priority, at: float) -> float | None:
        """The first moment from this one on when they may; None where none is seen."""
        ...


class AlwaysOpen:
    """The gate of who has no schedule."""

    def allows(self, priority: Priority, at: float) -> bool:
        """They may."""
        return True

    def opens_at(self, priority: Priority, at: float) -> float:
        """At once."""
        return at
