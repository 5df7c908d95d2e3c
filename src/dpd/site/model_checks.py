# SPDX-License-Identifier: Apache-2.0
"""The form in which a site's model is kept, part by part and as a whole, and what keeps one from being kept."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dpd.bus_settings import NAME as POINT_NAME
from dpd.site.known_computers import KnownComputers, plan_changes
from dpd.site.membership import in_order
from dpd.site.model import SiteModel
from dpd.site.records import (
    ALL_COMPUTERS,
    COLLECTION_TARGET,
    UNKNOWN_COMPUTERS,
    ApprovalRule,
    Boundary,
    Collection,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    SiteConflict,
    SiteError,
    SiteNotFound,
    Variable,
    check_name,
    normal_computer,
    normal_mac_prefix,
    normal_rule_value,
)
from dpd.site.sequences import SequenceVersion, check_room, normal_sequence, numbers_of, sequence_order
from dpd.site.variables import MAX_VARIABLES, check_sequence, normal_variable, targets_of, variable_key

MAX_PRIORITY = 1000
MAX_PATTERN, MAX_DESCRIPTION = 100, 400

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class ModelProblem:
    """What stands against one item: `kind` is computer, collection, deployment, boundary, point, rule, variable or sequence, `place`
    counts among its kind from 0, as it was given."""

    kind: str
    place: int
    error: SiteError

    @property
    def message(self) -> str:
        return str(self.error)


def normal_model(model: SiteModel, *, now: float = 0.0) -> SiteModel:
    """The model in the form and order in which it is kept; what has no moment of its own was added `now`. Raises the first
    problem's SiteError."""
    normal, problems = examine(model, now=now)
    if problems:
        raise problems[0].error
    return normal


def examine(model: SiteModel, *, now: float = 0.0) -> tuple[SiteModel, list[ModelProblem]]:
    """The model in its normal form without the items that cannot be, and why they cannot."""
    return _Examination(model, now).whole()


class _Examination:
    """One model, part by part: each may speak of those before it."""

    def __init__(self, model: SiteModel, now: float) -> None:
        self.model, self.now = model, now
        self.problems: list[ModelProblem] = []

    def whole(self) -> tuple[SiteModel, list[ModelProblem]]:
        model, now = self.model, self.now
        computers = self._part("computer", model.computers, lambda c: normal_computer(c.name, c.macs, c.guid, c.boot_image, c.added_at or now))  # fmt: skip
        for each in plan_changes(KnownComputers(), [c for _, c in computers]).problems:
            self._note("computer", computers[each.place][0], SiteConflict(each.message))
        known = {c.name.lower(): c.name for _, c in computers}
        collections = self._collections(known)
        names = {c.name.lower(): c.name for c in collections}
        deployments = self._deployments(known, names)
        points = self._part("point", model.points, normal_point)
        self._once("point", points, lambda each: each.name.lower(), lambda each: f"point {each.name}")
        there = {each.name.lower(): each.name for _, each in points}
        boundaries = self._part("boundary", model.boundaries, lambda each: normal_boundary(each, there))
        self._once("boundary", boundaries, lambda each: each.network, lambda each: f"boundary {each.network}")
        rules = self._part("rule", model.rules, lambda each: _normal_rule(each, now))
        self._once("rule", rules, lambda each: (each.kind, each.value), lambda each: f"{each.kind} {each.value}")
        self._once("rule", [each for each in rules if each[1].id], lambda each: each.id, lambda each: f"rule {each.id}")
        normal = SiteModel(
            tuple(sorted((each for _, each in computers), key=lambda each: each.name.lower())),
            tuple(sorted(collections, key=lambda each: each.name.lower())),
            tuple(sorted(deployments, key=lambda each: each.id or float("inf"))),
            tuple(sorted((each for _, each in boundaries), key=lambda each: network_order(each.network))),
            tuple(sorted((each for _, each in points), key=lambda each: each.name.lower())),
            tuple(sorted((each for _, each in rules), key=lambda each: each.id or float("inf"))),
            model.maintenance.strip(),
            model.affinity_mode,
            tuple(sorted(self._variables(known, names), key=variable_key)),
            tuple(sequences := sorted(self._sequences(), key=sequence_order)),
            numbers_of(model.sequence_numbers, sequences),
        )
        return normal, self.problems

    def _collections(self, known: dict[str, str]) -> list[Collection]:
        """`known` are the computers' names by their names in lower case."""
        given = {each.name.lower(): each.name for each in self.model.collections}
        found = self._part("collection", self.model.collections, lambda each: normal_collection(each, known, given, self.now))  # fmt: skip
        self._once("collection", found, lambda each: each.name.lower(), lambda each: f"collection {each.name}")
        try:
            in_order([each for _, each in found])
        except SiteConflict as error:
            self._note("collection", next((place for place, each in found if each.include or each.exclude), 0), error)
        return [each for _, each in found]

    def _deployments(self, known: dict[str, str], collections: dict[str, str]) -> list[Deployment]:
        found = self._part("deployment", self.model.deployments, lambda each: normal_deployment(each, known, collections, self.now))  # fmt: skip
        named, numbered = [each for each in found if each[1].name], [each for each in found if each[1].id]
        self._once("deployment", named, lambda each: each.name.lower(), lambda each: f"deployment {each.name}")
        self._once("deployment", numbered, lambda each: each.id, lambda each: f"deployment {each.id}")
        return [each for _, each in found]

    def _variables(self, computers: dict[str, str], collections: dict[str, str]) -> list[Variable]:
        targets = targets_of(computers.values(), collections.values())
        found = self._part("variable", self.model.variables, lambda each: normal_variable(each, targets))
        self._once("variable", found, variable_key, lambda each: f"variable {each.name} for {each.target}")
        counted: dict[str, int] = {}
        for place, each in found:
            counted[each.target] = counted.get(each.target, 0) + 1
            if counted[each.target] == MAX_VARIABLES + 1:
                self._note("variable", place, too_many_variables(each.target))
        return [each for _, each in found]

    def _sequences(self) -> list[SequenceVersion]:
        found = self._part("sequence", self.model.sequences, lambda each: normal_sequence(each, self.now))
        self._once("sequence", found, sequence_order, lambda each: f"task sequence {each.reference}")
        try:
            check_room(each for _, each in found)
        except SiteConflict as error:
            self._note("sequence", found[-1][0], error)
        return [each for _, each in found]

    def _part(self, kind: str, items: Sequence[_Part], form: Callable[[_Part], _Part]) -> list[tuple[int, _Part]]:
        """Each item that can be with its place."""
        found = []
        for place, item in enumerate(items):
            try:
                found.append((place, form(item)))
            except SiteError as error:
                self._note(kind, place, error)
        return found

    def _once(self, kind: str, items: Iterable[tuple[int, _Part]], key: Callable[[_Part], Hashable], words: Callable[[_Part], str]) -> None:  # fmt: skip
        seen: set[Hashable] = set()
        for place, item in items:
            if key(item) in seen:
                self._note(kind, place, SiteConflict(f"{words(item)}: given more than once"))
            seen.add(key(item))

    def _note(self, kind: str, place: int, error: SiteError) -> None:
        self.problems.append(ModelProblem(kind, place, error))


def normal_collection(
    collection: Collection, computers: dict[str, str], collections: dict[str, str], now: float = 0.0
) -> Collection:
    """`computers` and `collections` are the names there are by their names in lower case. Raises SiteError, SiteNotFound."""
    name = check_name(collection.name)
    words = f"collection {name}"
    include, exclude = (
        _other_collections(name, others, collections) for others in (collection.include, collection.exclude)
    )
    if both := set(include) & set(exclude):
        raise SiteConflict(f"{words}: {min(both)} is both included and excluded; take one out")
    return Collection(
        name,
        _names_there(collection.computers, computers, f"{words}: no computer", "`dpd computer list`"),
        tuple(dict.fromkeys(normal_membership_rule(each) for each in collection.rules)),
        include,
        exclude,
        _description(collection.description, words),
        collection.added_at or now,
    )


def _other_collections(name: str, others: Iterable[str], collections: dict[str, str]) -> tuple[str, ...]:
    found = _names_there(others, collections, f"collection {name}: no collection", "`dpd collection list`")
    if name.lower() in (each.lower() for each in found):
        raise SiteConflict(f"collection {name}: expected another collection to include or exclude, not itself")
    return found


def _names_there(given: Iterable[str], known: dict[str, str], words: str, where: str) -> tuple[str, ...]:
    """As they are written where they are known, each once."""
    found: dict[str, None] = {}
    for each in given:
        name = known.get(each.strip().lower())
        if name is None:
            raise SiteNotFound(f"{words} {each[:70]}; {where} shows those there are")
        found[name] = None
    return tuple(found)


def normal_membership_rule(rule: MembershipRule) -> MembershipRule:
    """Raises SiteError."""
    value = rule.value.strip()
    if rule.kind is MemberKind.MAC_PREFIX:
        return MembershipRule(rule.kind, normal_mac_prefix(value))
    if not 1 <= len(value) <= MAX_PATTERN or not value.isprintable():
        example = "LAB-*" if rule.kind is MemberKind.NAME else "4c4c4544-*"
        raise SiteError(
            f"{rule.kind} {value[:60]!r}: expected a pattern of 1 to {MAX_PATTERN} characters such as {example}"
        )
    return MembershipRule(rule.kind, value.lower() if rule.kind is MemberKind.GUID else value)


def normal_deployment(
    deployment: Deployment, computers: dict[str, str], collections: dict[str, str], now: float = 0.0
) -> Deployment:
    """Raises SiteNotFound where its target is not there, SiteError for what cannot be."""
    name = deployment.name.strip()
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise SiteError(
            f"deployment {name[:70]!r}: expected 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
        )
    target = deployment.target.strip()
    if (collection := deployment.collection) or target.lower().startswith(COLLECTION_TARGET):
        (found,) = _names_there((collection,), collections, "no collection", "`dpd collection list`")
        target = COLLECTION_TARGET + found
    elif target.lower() in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
        target = target.lower()
    else:
        (target,) = _names_there((target,), computers, "no computer", "`dpd computer list`")
    if 0 < deployment.expires_at <= deployment.available_from:
        raise SiteError("expires_at: expected a moment after available_from")
    if abs(deployment.priority) > MAX_PRIORITY:
        raise SiteError(f"priority {deployment.priority}: expected -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return replace(
        deployment,
        name=name,
        target=target,
        boot_image=deployment.boot_image.strip(),
        sequence=check_sequence(deployment.sequence),
        added_at=deployment.added_at or now,
    )


def too_many_variables(target: str) -> SiteConflict:
    """Why a target gets no more of them."""
    return SiteConflict(f"{target}: has {MAX_VARIABLES} variables, and no more are taken")


def normal_point(point: Point) -> Point:
    """Raises SiteError."""
    for what, name in (("point", point.name), *(("group", each) for each in point.groups)):
        if POINT_NAME.fullmatch(name) is None:
            raise SiteError(
                f"{what} {name[:70]!r}: expected 1 to 63 of A-Z a-z 0-9 _ - beginning with a letter or digit"
            )
    url = point.url.strip().rstrip("/")
    if url and not (url.isprintable() and re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url)):
        raise SiteError(
            f"point {point.name}: url: expected such as http://branch-1.example:8080, without a user, a password or a query"
        )
    groups = tuple(dict.fromkeys(point.groups))
    return Point(point.name, groups, url, _description(point.description, f"point {point.name}"))


def normal_boundary(boundary: Boundary, points: dict[str, str]) -> Boundary:
    """`points` are the names there are by their names in lower case. Raises SiteError, SiteNotFound."""
    network = normal_network(boundary.network)
    words = f"boundary {network}"
    if not boundary.points:
        raise SiteError(f"{words}: expected at least one distribution point, the best first")
    named = _names_there(boundary.points, points, f"{words}: no point", "`dpd point list`")
    return Boundary(network, named, _description(boundary.description, words))


def normal_network(text: str) -> str:
    """A network in its shortest form. Raises SiteError."""
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        raise SiteError(f"network {text[:60]!r}: expected such as 10.1.0.0/16 or fd00:1::/64") from None


def network_order(network: str) -> tuple[int, int, int]:
    """IPv4 first, then by address, the wider before the narrower."""
    parsed = ipaddress.ip_network(network)
    return parsed.version, int(parsed.network_address), parsed.prefixlen


def _normal_rule(rule: ApprovalRule, now: float) -> ApprovalRule:
    return ApprovalRule(rule.id, rule.kind, normal_rule_value(rule.kind, rule.value), rule.added_at or now)


def _description(text: str, words: str) -> str:
    text = text.strip()
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        raise SiteError(f"{words}: description: expected one line of at most {MAX_DESCRIPTION} characters")
    return text
