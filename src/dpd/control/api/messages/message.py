# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API: requests, replies and failures, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.content.library import Content
from dpd.service.multicast.roster import MemberStatus
from dpd.service.multicast.session_status import SessionStatus
from dpd.telemetry.events import Event
from dpd.telemetry.journal import BootEvent

_END = r"(?![\s\S])"  # of the text in Python's and ECMA's dialect alike; Python's $ would let a newline pass

PackageId = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}", description="The package's ID, such as LAB00001")
]
SourceVersion = Annotated[int, Meta(ge=1, le=2**31 - 1, description="The package's source version")]
SessionId = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{1,32}}{_END}", description="The multicast session's ID")]
MemberId = Annotated[
    str, Meta(pattern=rf"^[0-9a-f]{{8}}{_END}", description="A receiver, by the 8 digits that members are listed under")
]
MinimumClients = Annotated[int, Meta(ge=0, le=10000, description="Receivers to wait for; 0 is autocast")]
WaitSeconds = Annotated[float, Meta(ge=0, le=86400, description="How long after the first join they may take")]
StartAt = Annotated[
    float, Meta(ge=0, le=2**40, description="Not before this moment, in seconds since the epoch; 0 or past is at once")
]
MegabitPerSecond = Annotated[float, Meta(ge=0, le=400000, description="Mbit/s on the wire; 0 is no ceiling")]
MaxClients = Annotated[int, Meta(ge=1, le=10000, description="Receivers in the session's multicast")]
SpeedClass = Annotated[int, Meta(ge=0, le=2, description="0 is the fastest stream")]
AbsolutePath = Annotated[
    str, Meta(pattern=rf"^/[^\x00]*{_END}", max_length=4095, description="A file as the daemon sees it")
]
FileName = Annotated[
    str,
    Meta(
        pattern=rf"^[^/.\x00-\x1f][^/\x00-\x1f]{{0,199}}{_END}", description="The plain name of the file that is sent"
    ),
]
Mac = Annotated[str, Meta(min_length=12, max_length=17, description="Six bytes such as 52:54:00:12:34:56")]

# msgspec's own sentence for a pattern that does not match would show the pattern.
EXPECTED = {
    "package_id": "1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001",
    "image_id": "1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00005",
    "after": "where the page before ended, as its reply tells",
    "tags": 'words or "key=value" with a comma between them, such as lab,language=de-DE',
    "architecture": "x86, x64 or arm64",
    "execution": "16 hex digits, as `dpd deploy list` shows them",
    "sequence": "1 to 50 of A-Z a-z 0-9 . _ - beginning with a letter or digit, as `dpd sequence list` shows them",
    "before": "16 hex digits, the last one of the page before",
    "session_id": "hex digits, as `dpd session list` shows them",
    "member": "8 hex digits, as `dpd session members` shows them",
    "path": "an absolute path as the daemon sees it",
    "source": "1 to 64 of A-Z a-z 0-9 . _ -, a name in [[distribution.source]]",
    "sdi": "an absolute path as the daemon sees it",
    "name": "a plain file name of 1 to 200 characters, without / and not beginning with a dot",
    "kinds": "kinds of a declaration with a comma between them, such as computer,deployment",
}


class Request(Struct, forbid_unknown_fields=True):
    """Whatever is not named is refused, so that a mistyped key is not taken for its absence."""


class PackageParameters(Request):
    package_id: PackageId
    source_version: SourceVersion | None = None


class SessionParameters(Request):
    session_id: SessionId


class MemberParameters(Request):
    session_id: SessionId
    member: MemberId


class EventParameters(Request):
    """Events with an id above `after`; without it, from now on."""

    after: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0.0


class MachineParameters(Request):
    mac: Mac


class StartRequest(Request):
    """Open a session. Without a version it sends the newest; what else is not given is as in the settings. An open session
    takes what is given. Nothing is sent before `start_at`; then, as soon as `minimum_clients` wait or `wait_s` have
    passed since the first of them joined."""

    package_id: PackageId
    source_version: SourceVersion | None = None
    minimum_clients: MinimumClients | None = None
    wait_s: WaitSeconds | None = None
    start_at: StartAt | None = None
    rate_mbit_s: MegabitPerSecond | None = None
    max_clients: MaxClients | None = None


class ChangeRequest(Request):
    """What to change of a session; the rest stays. A ceiling holds at once."""

    rate_mbit_s: MegabitPerSecond | None = None
    minimum_clients: MinimumClients | None = None
    wait_s: WaitSeconds | None = None
    start_at: StartAt | None = None
    max_clients: MaxClients | None = None


class MoveRequest(Request):
    speed_class: SpeedClass


class KickRequest(Request):
    """With `fall_back` the receiver goes on by HTTP; else it fails, and cannot join until the session has ended."""

    fall_back: bool = True


class MulticastRequest(Request):
    """What to change for all sessions together, until the setting changes or dpd restarts."""

    uplink_mbit_s: MegabitPerSecond


class SessionList(Struct):
    sessions: list[SessionStatus]


class MemberList(Struct):
    """Receivers that are gone, the last 1000, then those that are there."""

    members: list[MemberStatus]


class MulticastStatus(Struct):
    uplink_mbit_s: float


class EventList(Struct):
    """`latest` is what to give as `after` the next time."""

    events: list[Event]
    latest: int


class MachineList(Struct):
    machines: list[str]


class PxeStory(Struct):
    mac: str
    events: list[BootEvent]


class Failure(Struct):
    code: str
    message: str


class Refusal(Struct):
    error: Failure


class Progress(Struct):
    done_bytes: int
    total_bytes: int


class JobLine(Struct, omit_defaults=True):
    """One line of a long reply: exactly one of the three is there; the last line has no `progress`."""

    progress: Progress | None = None
    content: Content | None = None
    error: Failure | None = None
