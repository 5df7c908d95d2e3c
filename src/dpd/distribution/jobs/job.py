# SPDX-License-Identifier: Apache-2.0
"""A job of distribution: what is to be done with a package here, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from dpd.errors import JobError

OptionValue = str | int | float | bool


class JobKind(StrEnum):
    """What a job does. The first five are the original's verbs for one package; the others are long work of the library."""

    DISTRIBUTE = "distribute"
    UPDATE = "update"
    REDISTRIBUTE = "redistribute"
    REMOVE = "remove"
    VALIDATE = "validate"
    DRAIN = "drain"
    GC = "gc"
    EXPORT = "export"
    IMPORT = "import"


BRINGING = frozenset({JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REDISTRIBUTE})  # a package comes here from a source
NEW_CONTENT = BRINGING | {JobKind.IMPORT}  # held back in maintenance


class JobState(StrEnum):
    """`queued`: may run as soon as a worker is free. `waiting`: not before `next_try_at`, `message` tells why."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.WAITING})


class Priority(IntEnum):
    """As the original numbers a package's priority; the lower number goes first, then the older job."""

    HIGH = 1
    NORMAL = 2
    LOW = 3


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What somebody asks for. Two orders that differ in nothing but priority, actor and via are the same order.

    `source_version` None is the newest that the sources have. `options` are the kind's own. `via` are the ids of the dpds
    that it is made for: who finds itself among them is not asked.
    """

    kind: JobKind
    package_id: str = ""
    source_version: int | None = None
    priority: Priority = Priority.NORMAL
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    actor: str = ""
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        version = "" if self.source_version is None else f" version {self.source_version}"
        return f"{self.kind} {self.package_id}{version}".rstrip()


@dataclass(frozen=True, slots=True)
class Job:
    """One job, open or ended. Moments are seconds since the epoch, 0 where they have not come.

    `attempts` counts the tries begun since it was last put in the queue. `stopping` tells why a running job is to end
    ("" it is not). `message` is what it does or waits for, `error` what its last try failed of ("" nothing).
    `rate_mbit_s` and `eta_s` (None unknown) are of the moment, and only while it runs.
    """

    id: int
    kind: JobKind
    package_id: str
    source_version: int | None
    priority: Priority
    state: JobState
    created_at: float
    started_at: float = 0.0
    ended_at: float = 0.0
    attempts: int = 0
    next_try_at: float = 0.0
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""
    error: str = ""
    stopping: str = ""
    actor: str = ""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    via: tuple[str, ...] = ()
    rate_mbit_s: float = 0.0
    eta_s: float | None = None

    @property
    def is_open(self) -> bool:
        """It runs, or will."""
        return self.state in OPEN

    def __str__(self) -> str:
        version = "" if self.source_version is None else f" version {self.source_version}"
        return f"job {self.id} ({f'{self.kind} {self.package_id}{version}'.rstrip()})"


class JobPostponed(JobError):
    """This try ends early and counts for nothing; the job goes on `after_s` seconds from now from where it was."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s
