# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the variables that task sequences read at machines. What is secret goes in here, and never out."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.site.policy import BootPolicy
from dpd.site.records import Variable


@dataclass(frozen=True, slots=True)
class ShownVariable:
    """A variable as people may see it: `value` is "" where it is `secret`. `target` is whose it is."""

    target: str
    name: str
    value: str
    secret: bool


class VariableOperations:
    """The verbs over one policy. `actor` is who asks, for the audit. Safe to use from any thread."""

    def __init__(self, policy: BootPolicy) -> None:
        self._store = policy.store

    def variables(self, target: str = "") -> list[ShownVariable]:
        """Those of one target, or all, by target and name. Raises SiteNotFound for a target that is not there."""
        found = self._store.variables_at(target) if target else self._store.variables.all()
        return [_shown(each) for each in found]

    def variables_of(self, computer: str) -> list[ShownVariable]:
        """What a computer's task sequence begins with, by name, and whose each of them is. Raises SiteNotFound, SiteConflict where
        it is too much."""
        name = self._store.computers.find(computer).name
        return [_shown(each) for each in self._store.variables_for(name)]

    def set_variable(self, variable: Variable, actor: str) -> ShownVariable:
        """A new one, or in the place of the one of that name. Raises SiteError, SiteNotFound, SiteConflict."""
        return _shown(self._store.set_variable(variable, actor))

    def remove_variable(self, target: str, name: str, actor: str) -> ShownVariable:
        """Raises SiteNotFound, SiteConflict."""
        return _shown(self._store.variables.remove(target, name, actor))


def _shown(variable: Variable) -> ShownVariable:
    value = "" if variable.secret else variable.value
    return ShownVariable(variable.target, variable.name, value, variable.secret)
