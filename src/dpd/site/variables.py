# SPDX-License-Identifier: Apache-2.0
"""Variables of computers and collections: the form in which they are kept, and which of them a machine gets.

From the general to the special, each in the place of one of the same name before it: those for "all" (or "unknown") computers,
those of the machine's collections, those of the computer itself. Of several collections that say the same name, the last by name
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dpd.sequence import variables as rules
from dpd.sequence.records import SequenceError
from dpd.sequence.reference import parse_reference, write_reference
from dpd.site.records import (
    ALL_COMPUTERS,
    COLLECTION_TARGET,
    UNKNOWN_COMPUTERS,
    SiteConflict,
    SiteError,
    SiteNotFound,
    Variable,
)

MAX_VARIABLES = rules.MAX_VARIABLES  # of one target, and of one machine


def check_variable_name(name: str) -> str:
    """Raises SiteError."""
    try:
        return rules.check_name(name)
    except rules.VariableError as error:
        raise SiteError(str(error)) from None


def check_variable_value(name: str, value: str) -> str:
    """Raises SiteError, which does not tell the value."""
    try:
        return rules.check_value(name, value)
    except rules.VariableError as error:
        raise SiteError(str(error)) from None


def check_sequence(text: str) -> str:
    """ "NAME", "NAME@3" or "" for none. Raises SiteError."""
    text = text.strip()
    try:
        return write_reference(*parse_reference(text)) if text else ""
    except SequenceError as error:
        raise SiteError(str(error)) from None


def normal_variable(variable: Variable, targets: Mapping[str, str]) -> Variable:
    """`targets`: what there is, as it is written, by its form in lower case, collections as targets. Raises SiteError, and
    SiteNotFound for a target that is not there."""
    name, target = check_variable_name(variable.name), find_target(variable.target, targets)
    check_variable_value(f"{name} for {target}", variable.value)
    if variable.secret and not variable.value:
        raise SiteError(f"variable {name} for {target}: is secret and has no value yet; expected one")
    return replace(variable, name=name, target=target)


def find_target(text: str, targets: Mapping[str, str]) -> str:
    """One of `targets` as it is written. Raises SiteNotFound."""
    text = text.strip()
    target = targets.get(text.lower())
    if target is None:
        kind = "collection" if text.lower().startswith(COLLECTION_TARGET) else "computer"
        shown = text[len(COLLECTION_TARGET) :] if kind == "collection" else text
        raise SiteNotFound(f"no {kind} {shown[:70]}; `dpd {kind} list` shows those there are")
    return target


def targets_of(computers: Iterable[str], collections: Iterable[str]) -> dict[str, str]:
    """Whom variables may be for, for `normal_variable`."""
    named = [*computers, *(COLLECTION_TARGET + each for each in collections), ALL_COMPUTERS, UNKNOWN_COMPUTERS]
    return {each.lower(): each for each in named}


def variable_key(variable: Variable) -> tuple[str, str]:
    """What a variable is known by."""
    return variable.target.lower(), variable.name.lower()


@dataclass(frozen=True, slots=True)
class VariableMap:
    """All of them, looked up by target; nobody changes it."""

    of_target: Mapping[str, tuple[Variable, ...]]

    @classmethod
    def of(cls, variables: Iterable[Variable]) -> VariableMap:
        found: dict[str, list[Variable]] = {}
        for each in sorted(variables, key=variable_key):
            found.setdefault(each.target.lower(), []).append(each)
        return cls({target: tuple(each) for target, each in found.items()})

    def all(self) -> tuple[Variable, ...]:
        """By target and name."""
        return tuple(each for target in sorted(self.of_target) for each in self.of_target[target])

    def at(self, target: str) -> tuple[Variable, ...]:
        """Those of one target, in any case, by name."""
        return self.of_target.get(target.lower(), ())

    def find(self, target: str, name: str) -> Variable:
        """Raises SiteNotFound."""
        found = next((each for each in self.at(target) if each.name.lower() == name.lower()), None)
        if found is None:
            raise SiteNotFound(f"no variable {name[:70]} for {target[:80]}")
        return found

    def merged(self, targets: Sequence[str]) -> tuple[Variable, ...]:
        """What a machine gets that is all of these targets, the most general first; each tells whose it is. Raises SiteConflict
        where these are too many."""
        found = {each.name.lower(): each for target in targets for each in self.at(target)}
        if len(found) > MAX_VARIABLES:
            raise SiteConflict(
                f"{targets[-1]}: {len(found)} variables come together; expected at most {MAX_VARIABLES}: take some out of its collections"
            )
        return tuple(found[name] for name in sorted(found))


def targets_for(computer: str, collections: Sequence[str]) -> tuple[str, ...]:
    """The targets whose variables a machine gets, the most general first; `computer` "" is an unknown one."""
    if not computer:
        return (UNKNOWN_COMPUTERS,)
    ordered = sorted(collections, key=str.lower)
    return (ALL_COMPUTERS, *(COLLECTION_TARGET + each for each in ordered), computer)
