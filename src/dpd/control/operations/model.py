# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the site's model: collections, boundaries, points, and whose policy it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dpd.site.boundaries import BoundaryAnswer
from dpd.site.high_risk import Reach, check_confirmed, risks_between
from dpd.site.membership import Membership
from dpd.site.model_checks import normal_network
from dpd.site.policy import BootPolicy
from dpd.site.records import (
    AffinityMode,
    Authority,
    Boundary,
    Collection,
    Computer,
    MembershipRule,
    Point,
    SiteConflict,
    SiteNotFound,
)


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection, how many computers belong to it now, and the deployments that are for it."""

    collection: Collection
    members: int
    deployments: list[int]


@dataclass(frozen=True, slots=True)
class Member:
    """A computer of a collection, and by what it belongs to it."""

    computer: Computer
    why: str


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """What to change of a collection; None stays as it is."""

    computers: tuple[str, ...] | None = None
    rules: tuple[MembershipRule, ...] | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class BoundaryChange:
    """What to change of a boundary; None stays as it is."""

    points: tuple[str, ...] | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class PointChange:
    """What to change of a point; None stays as it is."""

    groups: tuple[str, ...] | None = None
    url: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Policy at a glance. `authority` is the site that it comes from, None where it is this point's own."""

    policy_version: int
    authority: Authority | None
    affinity_mode: AffinityMode
    maintenance: str
    computers: int
    collections: int
    deployments: int
    boundaries: int
    points: int
    sequences: int


class ModelOperations:
    """The verbs over one policy's model. `actor` is who asks, for the audit. Safe to use from any thread."""

    def __init__(self, policy: BootPolicy) -> None:
        self._policy = policy
        self._store = policy.store
        self.followed_site = ""  # whose policy comes over the bus, again and again

    # ---- collections

    def collections(self) -> list[CollectionStatus]:
        """By name."""
        return [self._status(each) for each in self._store.membership.collections.values()]

    def collection(self, name: str) -> CollectionStatus:
        """Raises SiteNotFound."""
        return self._status(self._store.membership.find(name))

    def members(self, name: str) -> list[Member]:
        """By name. Raises SiteNotFound."""
        membership = self._store.membership
        return [Member(each, membership.why(name, each.name)) for each in membership.members(name)]

    def add_collection(self, collection: Collection, actor: str) -> CollectionStatus:
        """Raises SiteError, SiteNotFound for what it speaks of, SiteConflict."""
        return self._status(self._store.add_collection(collection, actor))

    def change_collection(
        self, name: str, change: CollectionChange, actor: str, confirm: int | None = None
    ) -> CollectionStatus:
        """Raises SiteError, SiteNotFound, SiteConflict, NotConfirmed where required deployments would reach many more."""
        with self._store.changing():
            known = self._store.membership.find(name)
            wanted = replace(
                known,
                computers=known.computers if change.computers is None else change.computers,
                rules=known.rules if change.rules is None else change.rules,
                include=known.include if change.include is None else change.include,
                exclude=known.exclude if change.exclude is None else change.exclude,
                description=known.description if change.description is None else change.description,
            )
            return self._write_collection(wanted, actor, confirm)

    def add_members(
        self, name: str, computers: tuple[str, ...], actor: str, confirm: int | None = None
    ) -> CollectionStatus:
        """Name these computers in it too. Raises as `change_collection`."""
        with self._store.changing():
            known = self._store.membership.find(name)
            return self._write_collection(replace(known, computers=(*known.computers, *computers)), actor, confirm)

    def remove_member(self, name: str, computer: str, actor: str) -> CollectionStatus:
        """Name this computer in it no longer. Raises SiteNotFound, SiteConflict for one that a rule or another collection brings."""
        with self._store.changing():
            membership = self._store.membership
            known = membership.find(name)
            named = tuple(each for each in known.computers if each.lower() != computer.lower())
            if len(named) == len(known.computers):
                if why := membership.why(name, computer):
                    raise SiteConflict(
                        f"computer {computer}: belongs to collection {known.name} by {why}, not by name; change that"
                    )
                raise SiteNotFound(f"collection {known.name} names no computer {computer[:70]}")
            return self._write_collection(replace(known, computers=named), actor, None)

    def _write_collection(self, wanted: Collection, actor: str, confirm: int | None) -> CollectionStatus:
        _, membership = self._store.plan_collection(wanted)
        self._check_reach(membership, confirm)
        return self._status(self._store.change_collection(wanted, actor))

    def _check_reach(self, membership: Membership, confirm: int | None) -> None:
        """Raises NotConfirmed."""
        before, deployments = self._store.reach(), self._store.deployments.values()
        after = Reach(deployments, membership, before.computers)
        limit = self._policy.high_risk_computers
        check_confirmed(risks_between(before, after, deployments, limit), confirm, limit)

    def remove_collection(self, name: str, actor: str) -> Collection:
        """Raises SiteNotFound, SiteConflict while a deployment or another collection speaks of it."""
        return self._store.remove_collection(name, actor)

    def _status(self, collection: Collection) -> CollectionStatus:
        aimed = self._store.aimed_at(f"collection:{collection.name.lower()}")
        members = len(self._store.membership.keys_in(collection.name))
        return CollectionStatus(collection, members, [each.id for each in aimed])

    # ---- boundaries

    def boundaries(self) -> list[Boundary]:
        """By address, the wider before the narrower."""
        return list(self._store.boundaries.values())

    def look_up(self, address: str) -> BoundaryAnswer:
        """Where an address is to fetch content, and why. Raises SiteError for what is no address."""
        return self._store.boundary_map.look_up(address)

    def add_boundary(self, boundary: Boundary, actor: str) -> Boundary:
        """Raises SiteError, SiteNotFound for a point that is not there, SiteConflict."""
        return self._store.add_boundary(boundary, actor)

    def change_boundary(self, network: str, change: BoundaryChange, actor: str) -> Boundary:
        """Raises SiteError, SiteNotFound."""
        with self._store.changing():
            known = self._store.boundary(normal_network(network))
            wanted = replace(
                known,
                points=known.points if change.points is None else change.points,
                description=known.description if change.description is None else change.description,
            )
            return self._store.change_boundary(wanted, actor)

    def remove_boundary(self, network: str, actor: str) -> Boundary:
        """Raises SiteError, SiteNotFound."""
        return self._store.remove_boundary(normal_network(network), actor)

    # ---- points

    def points(self) -> list[Point]:
        """By name."""
        return list(self._store.points.values())

    def point(self, name: str) -> Point:
        """Raises SiteNotFound."""
        return self._store.point(name)

    def add_point(self, point: Point, actor: str) -> Point:
        """Raises SiteError, SiteConflict."""
        return self._store.add_point(point, actor)

    def change_point(self, name: str, change: PointChange, actor: str) -> Point:
        """Raises SiteError, SiteNotFound."""
        with self._store.changing():
            known = self._store.point(name)
            wanted = Point(
                known.name,
                known.groups if change.groups is None else change.groups,
                known.url if change.url is None else change.url,
                known.description if change.description is None else change.description,
            )
            return self._store.change_point(wanted, actor)

    def remove_point(self, name: str, actor: str) -> Point:
        """Raises SiteNotFound, SiteConflict while a boundary names it."""
        return self._store.remove_point(name, actor)

    # ---- the whole

    def policy(self) -> PolicyStatus:
        """At a glance."""
        store = self._store
        return PolicyStatus(
            store.policy_version,
            store.authority,
            store.affinity_mode,
            store.maintenance,
            len(store.computers.by_name),
            len(store.membership.collections),
            len(store.deployments),
            len(store.boundaries),
            len(store.points),
            len(store.sequences.by_name),
        )

    def release(self, actor: str) -> PolicyStatus:
        """Policy stays as its site last said it, and is this point's own from now on. Raises SiteConflict."""
        if self.followed_site:
            raise SiteConflict(
                f"this point follows site {self.followed_site} by bus.url, and would have its policy again in a moment; take bus.url out of the settings, restart dpd and release then"
            )
        self._store.release(actor)
        return self.policy()
