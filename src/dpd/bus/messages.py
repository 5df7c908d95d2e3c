# SPDX-License-Identifier: Apache-2.0
"""What goes over the bus, as JSON: asks and their answers, presence, policy, runs, desired content, status."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from dpd.errors import BusError

PART_BYTES = 256 << 10  # of text in one part of an answer; a NATS message holds 1 MiB
MAX_ASK_BYTES = 400 << 10  # of a body, which JSON may make twice as long

_T = TypeVar("_T")

AskId = Annotated[str, Meta(min_length=8, max_length=64)]
Count = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]  # what every store and every JSON reader can hold
Moment = Annotated[float, Meta(ge=0, lt=1e11)]  # seconds since 1970, of a clock that may be wrong by centuries


class BusCaller(Struct):
    """For whom the site server asks; `role` as `control.access.Role` has it."""

    name: str
    role: str


class Ask(Struct, omit_defaults=True):
    """A request of the API for one point, sent with a reply subject. `target` is the path with its query.

    An id stands for one request for ever: asked again, the point sends the parts after `after` once more and does nothing
    twice. `is_over`: the asker reads no more of it; the point answers nothing, and ends what only tells."""

    id: AskId
    method: str = "GET"
    target: str = ""
    body: str = ""
    content_type: str = "application/json"
    caller: BusCaller | None = None
    after: int = -1
    is_over: bool = False


class Answer(Struct, omit_defaults=True):
    """One part of an answer. Part 0 has `status` and `headers`; the texts of all parts are the body; after the one with
    `is_last` nothing comes. `is_waiting`: no part, but a sign that the point is at it; `sequence` is that of the next part.
    `is_broken`: what came before is not the whole answer, and no more of it comes; the text is a refusal, which says why."""

    sequence: int
    status: int = 0
    headers: dict[str, str] = {}
    body: str = ""
    is_last: bool = False
    is_waiting: bool = False
    is_broken: bool = False


class Hello(Struct):
    """A point is there. `policy_version` is the site's version that it holds, 0 for none."""

    point: str
    site: str
    version: str
    state: str
    started_at: float
    policy_version: Count
    policy_age_s: float
    epoch: str
    backlog: int
    url: str
    counts: dict[str, int]


class Notice(Struct):
    """The site server is there, and this is its policy."""

    version: int
    sha256: str
    at: float


class SiteLease(Struct):
    """Which site server steers the site; put again and again by it, each time with another `mark`. `server` is the series of its
    archive, which a backup of its state keeps; `process` as `running_process.sign_of_process` has it, "" where nobody can tell."""

    mark: str
    server: str
    host: str
    pid: int
    process: str
    since: Moment
    is_released: bool = False


class PolicyHead(Struct):
    """The policy's document: its chunks joined and unpacked by zlib are `size_bytes` of JSON with this hash."""

    site: str
    version: Count
    sha256: str
    size_bytes: int
    chunks: int
    slot: int
    at: float


class SharedRun(Struct):
    """A machine that was given a required deployment at a point, or a run that has been `is_cleared`.

    Of two words about one machine that holds which says more: the later `started_at`; of equal ones the cleared one, then
    the finished one. So it does not matter in which order they come, or how often."""

    deployment: Count
    machine: str
    mac: str
    started_at: Moment
    finished_at: Moment = 0.0
    point: str = ""
    is_cleared: bool = False

    @property
    def weight(self) -> tuple[float, bool, float]:
        return self.started_at, self.is_cleared, self.finished_at


class DesiredPackage(Struct, frozen=True):
    """Without a version: the newest that the point's sources have, once."""

    package_id: str
    source_version: Annotated[int, Meta(ge=1)] | None = None
    priority: Annotated[int, Meta(ge=1, le=3)] = 2


class Desired(Struct):
    """What a point is to hold."""

    packages: list[DesiredPackage] = []


class StatusReport(Struct):
    """A status message of a point. The three of them, `epoch` being that of its spool, are its only name."""

    point: str
    epoch: str
    sequence: Count
    at: Moment
    event: str
    message_id: Count
    severity: str
    fields: dict[str, str | int | float | bool]

    @property
    def name(self) -> str:
        """As JetStream is told, so that a message sent again is stored once."""
        return f"{self.point}-{self.epoch}-{self.sequence}"


def encode(message: Struct) -> bytes:
    return msgspec.json.encode(message)


def decode(kind: type[_T], data: bytes | None) -> _T:
    """Raises BusError that names the field."""
    try:
        return msgspec.json.decode(data or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BusError(f"{kind.__name__.lower()}: {error}") from None
