# SPDX-License-Identifier: Apache-2.0
"""Which deployments are for whom: worked out once for each change of policy, so that a decision looks it up."""

from __future__ import annotations

from collections.abc import Iterable

from dpd.site.membership import Membership
from dpd.site.records import ALL_COMPUTERS, UNKNOWN_COMPUTERS, Deployment
from dpd.site.schedule import ranked


class Aims:
    """A map that nobody changes: whoever holds it sees one moment. Each answer is in the order of `schedule.ranked`."""

    def __init__(self, deployments: Iterable[Deployment] = (), membership: Membership | None = None) -> None:
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
        everybody = self._of_target.get(ALL_COMPUTERS, ())
        self._of_all = ranked(everybody)
        self.of_unknown = ranked(self._of_target.get(UNKNOWN_COMPUTERS, ()))
        made: dict[tuple[int, ...], tuple[Deployment, ...]] = {}  # most computers of a room have the same ones
        self._of_computer: dict[str, tuple[Deployment, ...]] = {}
        for computer, own in aimed.items():
            ids = tuple(each.id for each in own)
            if ids not in made:
                made[ids] = ranked((*own, *everybody))
            self._of_computer[computer] = made[ids]

    def of_target(self, target: str) -> tuple[Deployment, ...]:
        """Those with exactly this target, which is given in lower case, the oldest first."""
        return self._of_target.get(target, ())

    def of_computer(self, key: str) -> tuple[Deployment, ...]:
        """Those for a known computer, its collections and all known ones; `key` is its name in lower case."""
        return self._of_computer.get(key, self._of_all)
