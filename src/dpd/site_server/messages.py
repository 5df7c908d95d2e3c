# SPDX-License-Identifier: Apache-2.0
"""What goes over the site server's own API: requests and replies beside those of a distribution point."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from dpd.control.api.messages.message import Failure, PackageId, Request, SourceVersion
from dpd.site_server.assignments import Assignment
from dpd.site_server.lease import LeaseStatus
from dpd.site_server.points import PointStatus

_END = r"(?![\s\S])"

PointName = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9_-]{{0,62}}{_END}", description="A distribution point's name")
]
GroupName = Annotated[
    str, Meta(min_length=1, max_length=63, description='A group of distribution points; "all" is every one')
]
Target = Annotated[
    str,
    Meta(
        pattern=rf"^(dp|group):[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}{_END}",
        description="A point as dp:NAME, or a group as group:NAME",
    ),
]


class PointParameters(Request):
    point: PointName


class PointListParameters(Request):
    group: GroupName = "all"


class AtPoint(Request, kw_only=True):
    """The point of a request that is passed on."""

    dp: PointName


class AtGroup(Request, kw_only=True):
    """The group of a request that is passed on to each of its points."""

    dp_group: GroupName


class AssignmentRequest(Request):
    """Content that a point or each point of a group is to hold. Without a version: the newest that its sources have. The
    lower priority goes first."""

    target: Target
    package_id: PackageId
    source_version: SourceVersion | None = None
    priority: Annotated[int, Meta(ge=1, le=3)] = 2


class AssignmentParameters(Request):
    target: Target
    package_id: PackageId


class PointStatusList(Struct):
    points: list[PointStatus]


class AssignmentList(Struct):
    assignments: list[Assignment]


class PointAnswer(Struct, omit_defaults=True):
    """What one point of a group answered: `reply` where it was done, else `error`."""

    point: str
    status: int
    reply: Any = None
    error: Failure | None = None


class GroupAnswer(Struct):
    """One answer for each point, in the order of their names."""

    points: list[PointAnswer]


class BusStatus(Struct):
    """The connection to the NATS server; `trouble` says why there is none."""

    connected: bool
    server: str
    since: float
    trouble: str


class SiteStatus(Struct):
    """The site server at a glance. `policy_version` is the newest that points are told, `policy_is_out` whether that is all that
    the site says by now; `lease` whether this server steers the site, and who else does; points count by state."""

    role: str
    site: str
    version: str
    pid: int
    state: str
    started_at: float
    settings_path: str
    bus: BusStatus
    lease: LeaseStatus
    policy_version: int
    policy_is_out: bool
    computers: int
    collections: int
    deployments: int
    sequences: int
    points: dict[str, int]
    points_behind: int
    messages: int
