# SPDX-License-Identifier: Apache-2.0
"""The known computers by name, MAC and GUID, and what adding or changing some of them would do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from dpd.site.records import Computer, SiteNotFound


class KnownComputers:
    """A map that nobody changes: whoever holds it sees one moment."""

    def __init__(self, computers: Iterable[Computer] = ()) -> None:
        self.by_name = {each.name.lower(): each for each in sorted(computers, key=lambda each: each.name.lower())}
        self._by_mac = {mac: each for each in self.by_name.values() for mac in each.macs}
        self._by_guid = {each.guid: each for each in self.by_name.values() if each.guid}

    def find(self, name: str) -> Computer:
        """By name, in any case. Raises SiteNotFound."""
        found = self.by_name.get(name.lower())
        if found is None:
            raise SiteNotFound(f"no computer {name[:70]}; `dpd computer list` shows those there are")
        return found

    def identify(self, mac: str, guid: str, shared: Collection[str] = ()) -> Computer | None:
        """By MAC or GUID, one hit is enough and the MAC's goes first; identities that several machines share tell nothing."""
        if mac not in shared and (found := self._by_mac.get(mac)) is not None:
            return found
        return self._by_guid.get(guid) if guid and guid not in shared else None


@dataclass(frozen=True, slots=True)
class Problem:
    """What stands against one of the computers that were given, by its place among them."""

    place: int
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done; nothing is while there are problems. `changed` are pairs of old and new."""

    added: tuple[Computer, ...] = ()
    changed: tuple[tuple[Computer, Computer], ...] = ()
    unchanged: tuple[Computer, ...] = ()
    problems: tuple[Problem, ...] = ()


def plan_changes(known: KnownComputers, wanted: Sequence[Computer]) -> Plan:
    """The steps from what is known to what is wanted. A MAC may move between computers that are both among the wanted."""
    names = {each.name.lower() for each in wanted}
    owners = {identity: each.name for each in known.by_name.values() if each.name.lower() not in names for identity in _identities(each)}  # fmt: skip
    added, changed, unchanged, problems = [], [], [], []
    seen: set[str] = set()
    for place, computer in enumerate(wanted):
        key = computer.name.lower()
        if key in seen:
            problems.append(Problem(place, f"computer {computer.name}: given more than once"))
        seen.add(key)
        for identity in _identities(computer):
            owner = owners.setdefault(identity, computer.name)
            if owner.lower() != key:
                problems.append(Problem(place, f"computer {computer.name}: {identity} is {owner}'s already"))
        old = known.by_name.get(key)
        if old is None:
            added.append(computer)
        elif (new := replace(computer, name=old.name, added_at=old.added_at)) == old:
            unchanged.append(old)
        else:
            changed.append((old, new))
    return Plan(tuple(added), tuple(changed), tuple(unchanged), tuple(problems))


def _identities(computer: Computer) -> tuple[str, ...]:
    return (*computer.macs, computer.guid) if computer.guid else computer.macs
