# SPDX-License-Identifier: Apache-2.0
"""Which deployments are for whom: worked out once for each change of policy, so that a decision looks it up.

All that a decision needs of a known computer lies together, found by one look at its MAC: at a site of thousands of computers
each further table would cost a look at memory that is in no cache.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dpd.site.known_computers import KnownComputers
from dpd.site.membership import Membership
from dpd.site.records import ALL_COMPUTERS, UNKNOWN_COMPUTERS, Deployment
from dpd.site.schedule import ranked


@dataclass(frozen=True, slots=True)
class Standing:
    """A known computer as a decision sees it: `key` is its name in lower case, `deployments` are those for it, its collections
    and all known ones, in the order of `schedule.ranked`."""

    name: str
    key: str
    boot_image: str
    deployments: tuple[Deployment, ...]


class Aims:
    """A map that nobody changes: whoever holds it sees one moment."""

    def __init__(
        self,
        deployments: Iterable[Deployment] = (),
        computers: KnownComputers | None = None,
        membership: Membership | None = None,
    ) -> None:
        self._of_target: dict[str, tuple[Deployment, ...]] = {}
        aimed: dict[str, list[Deployment]] = {}  # by computer
        for each in deployments:
            key = each.target.lower()
            self._of_target[key] = (*self._of_target.get(key, ()), each)
            if (name := each.collection) and membership is not None:
                for computer in membership.keys_in(name):
                    aimed.setdefault(computer, []).append(each)
            elif not name and key not in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
                aimed.setdefault(key, []).append(each)
        self.of_unknown = ranked(self._of_target.get(UNKNOWN_COMPUTERS, ()))
        self._stand(computers or KnownComputers(), aimed, self._of_target.get(ALL_COMPUTERS, ()))

    def _stand(
        self, computers: KnownComputers, aimed: dict[str, list[Deployment]], everybodys: tuple[Deployment, ...]
    ) -> None:
        made: dict[tuple[int, ...], tuple[Deployment, ...]] = {}  # most computers of a room have the same ones
        self._by_name: dict[str, Standing] = {}
        self._by_mac: dict[str, Standing] = {}
        self._by_guid: dict[str, Standing] = {}
        for name, computer in computers.by_name.items():
            key = sys.intern(name)  # the string that runs are kept under, so that a look for one compares no letters
            own = aimed.get(key, ())
            ids = tuple([each.id for each in own])
            if ids not in made:
                made[ids] = ranked((*own, *everybodys))
            self._by_name[key] = standing = Standing(computer.name, key, computer.boot_image, made[ids])
            for mac in computer.macs:
                self._by_mac[mac] = standing
            if computer.guid:
                self._by_guid[computer.guid] = standing

    def identify(self, mac: str, guid: str, shared: Collection[str] = ()) -> Standing | None:
        """By MAC or GUID, one hit is enough and the MAC's goes first; identities that several machines share tell nothing."""
        if mac not in shared and (found := self._by_mac.get(mac)) is not None:
            return found
        return self._by_guid.get(guid) if guid and guid not in shared else None

    def of_target(self, target: str) -> tuple[Deployment, ...]:
        """Those with exactly this target, which is given in lower case, the oldest first."""
        return self._of_target.get(target, ())

    def of_computer(self, key: str) -> tuple[Deployment, ...]:
        """Those for a known computer, by its name in lower case; () where there is none."""
        found = self._by_name.get(key)
        return found.deployments if found is not None else ()
