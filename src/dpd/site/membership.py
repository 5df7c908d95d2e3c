# SPDX-License-Identifier: Apache-2.0
"""Who belongs to which collection, worked out once for each change of policy so that a decision looks it up."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from dpd.site.records import Collection, Computer, MemberKind, MembershipRule, SiteConflict, SiteNotFound


class Membership:
    """A map that nobody changes: whoever holds it sees one moment. Keys are names in lower case."""

    def __init__(
        self,
        collections: Iterable[Collection] = (),
        computers: Mapping[str, Computer] | None = None,
        before: Membership | None = None,
    ) -> None:
        """`computers` by name in lower case; `before` spares what has not changed since. Raises SiteConflict where collections
        include or exclude each other in a circle; what they speak of and is not there adds nothing."""
        ordered = sorted(collections, key=lambda each: each.name.lower())
        self.collections = {each.name.lower(): each for each in ordered}
        self._computers = {} if computers is None else computers
        self._matched = _matched(self.collections, self._computers, before)
        self._members: dict[str, frozenset[str]] = {}
        for key in in_order(ordered):
            if key in self.collections:
                self._members[key] = self._work_out(key)

    def _work_out(self, key: str) -> frozenset[str]:
        collection = self.collections[key]
        named = {each.lower() for each in collection.computers}
        included = [self._members.get(each.lower(), frozenset()) for each in collection.include]
        excluded = [self._members.get(each.lower(), frozenset()) for each in collection.exclude]
        found = self._matched[key].union(named & self._computers.keys(), *included)
        return found.difference(*excluded) if excluded else found

    def find(self, name: str) -> Collection:
        """By name, in any case. Raises SiteNotFound."""
        found = self.collections.get(name.lower())
        if found is None:
            raise SiteNotFound(f"no collection {name[:70]}; `dpd collection list` shows those there are")
        return found

    def keys_in(self, collection: str) -> frozenset[str]:
        """The names in lower case of a collection's members; none where there is no such collection."""
        return self._members.get(collection.lower(), frozenset())

    def members(self, collection: str) -> list[Computer]:
        """By name. Raises SiteNotFound."""
        return [self._computers[key] for key in sorted(self._members[self.find(collection).name.lower()])]

    def collections_of(self, computer: str) -> list[str]:
        """The names of the collections that a computer belongs to."""
        key = computer.lower()
        return [each.name for each in self.collections.values() if key in self._members[each.name.lower()]]

    def why(self, collection: str, computer: str) -> str:
        """By what a member belongs to a collection, in words; "" for one that does not. Raises SiteNotFound."""
        found, key = self.find(collection), computer.lower()
        if key not in self.keys_in(collection):
            return ""
        if key in (each.lower() for each in found.computers):
            return "named"
        if key in self._matched[found.name.lower()]:
            one = {key: self._computers[key]}
            rule = next(each for each in found.rules if _finds((each,), one))
            return f"{rule.kind} {rule.value}"
        return next(f"collection {each}" for each in found.include if key in self.keys_in(each))


def in_order(collections: Sequence[Collection]) -> list[str]:
    """Names in lower case, each behind those that it includes or excludes. Raises SiteConflict for a circle."""
    needed = {c.name.lower(): {other.lower() for other in (*c.include, *c.exclude)} for c in collections}
    try:
        return list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise SiteConflict(
            f"collections include or exclude each other in a circle: {circle}; take one step out"
        ) from None


def _matched(
    collections: Mapping[str, Collection], computers: Mapping[str, Computer], before: Membership | None
) -> dict[str, frozenset[str]]:
    """Whom the rules of each collection find."""
    changed, gone = _differences(computers, before)
    found = {}
    for key, collection in collections.items():
        known = before.collections.get(key) if before is not None else None
        if before is None or known is None or known.rules != collection.rules:
            found[key] = _finds(collection.rules, computers)
        elif changed or gone:
            kept = before._matched[key].difference(gone, changed)
            found[key] = kept | _finds(collection.rules, changed)
        else:
            found[key] = before._matched[key]
    return found


def _differences(
    computers: Mapping[str, Computer], before: Membership | None
) -> tuple[dict[str, Computer], frozenset[str]]:
    """The computers that are new or others, and the names of those that are there no more."""
    if before is None:
        return dict(computers), frozenset()
    if before._computers is computers:
        return {}, frozenset()
    known = before._computers
    changed = {key: each for key, each in computers.items() if known.get(key) != each}
    return changed, frozenset(known.keys() - computers.keys())


def _finds(rules: Iterable[MembershipRule], computers: Mapping[str, Computer]) -> frozenset[str]:
    return frozenset[str]().union(*(_found(rule, computers) for rule in rules))


def _found(rule: MembershipRule, computers: Mapping[str, Computer]) -> Iterable[str]:
    """Of which computers a rule in its normal form speaks: 200 rules look at 4,000 computers when a site is loaded."""
    if rule.kind is MemberKind.MAC_PREFIX:
        prefix = rule.value
        return [key for key, each in computers.items() for mac in each.macs if mac.startswith(prefix)]
    matches = re.compile(fnmatch.translate(rule.value.lower())).match
    if rule.kind is MemberKind.GUID:
        return [key for key, each in computers.items() if each.guid and matches(each.guid)]
    return filter(matches, computers)
