# SPDX-License-Identifier: Apache-2.0
"""The site store's variables: set and removed one by one, each change with its line in the audit, which tells no value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dpd.site.database import SiteDatabase
from dpd.site.model_checks import too_many_variables
from dpd.site.model_rows import read_variables, write_variable
from dpd.site.records import Variable
from dpd.site.variables import MAX_VARIABLES, VariableMap, normal_variable, variable_key


class VariableBook:
    """`map` is replaced as a whole; whoever holds it sees one moment."""

    def __init__(self, database: SiteDatabase) -> None:
        self._database = database
        self.map = VariableMap({})

    def load(self) -> None:
        """Read them anew, after something else of the store has changed them."""
        self.map = VariableMap.of(read_variables(self._database))

    def all(self) -> tuple[Variable, ...]:
        """By target and name."""
        return self.map.all()

    def fresh(self, variables: Sequence[Variable], targets: Mapping[str, str]) -> list[Variable]:
        """Those of these that say something new, in their normal form. Raises SiteError, SiteNotFound, SiteConflict."""
        wanted = [normal_variable(each, targets) for each in variables]
        known = {variable_key(each): each for each in self.map.all()} if wanted else {}
        fresh = [each for each in wanted if known.get(variable_key(each)) != each]
        counted = Counter(target for target, _ in {*known, *map(variable_key, fresh)})
        for each in fresh:
            if counted[each.target.lower()] > MAX_VARIABLES:
                raise too_many_variables(each.target)
        return fresh

    def set(self, variable: Variable, targets: Mapping[str, str], actor: str) -> Variable:
        """A new one, or in the place of the one of that name; `targets` as `normal_variable` takes them. Raises SiteError,
        SiteNotFound for a target that is not there, SiteConflict."""
        with self._database.own():
            normal = normal_variable(variable, targets)
            there = self.map.at(normal.target)
            is_new = all(each.name.lower() != normal.name.lower() for each in there)
            if is_new and len(there) >= MAX_VARIABLES:
                raise too_many_variables(normal.target)
            detail = f"{normal.name} for {normal.target}"
            self._database.change(actor, "variable set", detail, lambda c: write_variable(c, normal), self.load)
            return normal

    def remove(self, target: str, name: str, actor: str) -> Variable:
        """Raises SiteNotFound, SiteConflict."""
        with self._database.own():
            found = self.map.find(target, name)
            self._database.change(
                actor,
                "variable removed",
                f"{found.name} for {found.target}",
                lambda c: c.execute("DELETE FROM variables WHERE target = ? AND name = ?", (found.target, found.name)),
                self.load,
            )
            return found

    def merged(self, targets: Sequence[str]) -> tuple[Variable, ...]:
        """What a machine gets that is all of these targets, the most general first. Raises SiteConflict where it is too much."""
        return self.map.merged(targets)
