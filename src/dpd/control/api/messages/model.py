# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about collections, boundaries and points, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from dpd.control.api.messages.message import Request
from dpd.control.operations.model import CollectionStatus, Member
from dpd.site.records import Boundary, MemberKind, Point

CollectionName = Annotated[str, Meta(min_length=1, max_length=63, description="A collection's name")]
PointName = Annotated[str, Meta(min_length=1, max_length=63, description="A distribution point's name")]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
Names = Annotated[list[Name], Meta(max_length=10_000)]
PointNames = Annotated[list[PointName], Meta(max_length=100, description="The best first")]
Groups = Annotated[list[Name], Meta(max_length=100, description="Names by which several points are steered at once")]
Description = Annotated[str, Meta(max_length=400)]
Network = Annotated[str, Meta(min_length=3, max_length=60, description="Such as 10.1.0.0/16 or fd00:1::/64")]
Url = Annotated[str, Meta(max_length=400, description="Where others fetch content from it")]
Confirm = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="How many known computers it reaches, to confirm that so many are meant")
]


class RuleOfMembership(Request):
    """`name` and `guid` are compared with a shell pattern in any case, `mac_prefix` with the first bytes."""

    kind: MemberKind
    value: Annotated[str, Meta(min_length=1, max_length=100)]


MembershipRules = Annotated[list[RuleOfMembership], Meta(max_length=1000)]


class CollectionParameters(Request):
    collection: CollectionName


class MemberParameters(Request):
    collection: CollectionName
    computer: Name


class CollectionRequest(Request):
    """Known computers that are spoken of as one: those that are named, those that a rule finds, and the members of the
    collections that are included; who belongs to one that is excluded does not belong here, whatever else says so."""

    name: CollectionName
    computers: Names = field(default_factory=list)
    rules: MembershipRules = field(default_factory=list)
    include: Names = field(default_factory=list)
    exclude: Names = field(default_factory=list)
    description: Description = ""


class CollectionChangeRequest(Request):
    """What is not given stays as it is. Where a required deployment would reach many computers more, `confirm` says how many it
    reaches then."""

    computers: Names | None = None
    rules: MembershipRules | None = None
    include: Names | None = None
    exclude: Names | None = None
    description: Description | None = None
    confirm: Confirm | None = None


class MembersRequest(Request):
    """Computers to name in the collection beside those that it names."""

    computers: Annotated[list[Name], Meta(min_length=1, max_length=10_000)]
    confirm: Confirm | None = None


class CollectionList(Struct):
    collections: list[CollectionStatus]


class CollectionMembers(Struct):
    members: list[Member]


class BoundaryParameters(Request):
    network: Network


class LookupParameters(Request):
    address: Annotated[str, Meta(min_length=2, max_length=60, description="An IP address")]


class BoundaryRequest(Request):
    """A network's machines find content at these points."""

    network: Network
    points: Annotated[list[PointName], Meta(min_length=1, max_length=100, description="The best first")]
    description: Description = ""


class BoundaryChangeRequest(Request):
    """What is not given stays as it is."""

    points: Annotated[list[PointName], Meta(min_length=1, max_length=100)] | None = None
    description: Description | None = None


class BoundaryList(Struct):
    boundaries: list[Boundary]


class PointParameters(Request):
    point: PointName


class PointRequest(Request):
    """A distribution point of the site, under the name by which it says hello on the bus."""

    name: PointName
    groups: Groups = field(default_factory=list)
    url: Url = ""
    description: Description = ""


class PointChangeRequest(Request):
    """What is not given stays as it is."""

    groups: Groups | None = None
    url: Url | None = None
    description: Description | None = None


class PointList(Struct):
    points: list[Point]
