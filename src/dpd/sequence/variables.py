# SPDX-License-Identifier: Apache-2.0
"""Variables of a task sequence, with Configuration Manager's rules: names in any case, one beginning with `_` only the engine sets,
a computer's stands before a collection's and what a run sets before both. What a secret one holds is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dpd.sequence.records import SequenceError

MAX_NAME_CHARACTERS = 256
MAX_VALUE_CHARACTERS = 4000
MAX_VARIABLES = 1000
MAX_TEXT_CHARACTERS = 1 << 20  # of a text with its variables put in, so that a hundred of them make no gigabyte
HIDDEN = "••••"
SHORTEST_MASKED = 3  # a secret of one letter would hide each such letter of a log, and be told by that

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,255}")
_USE = re.compile(r"%(?:%|([A-Za-z_][A-Za-z0-9_-]{0,255})%)")

BUILT_IN: Final = {
    "_DPDArchitecture": "of the processor: x64 or arm64",
    "_DPDComputer": "the computer's name, empty for an unknown one",
    "_DPDDeployment": "the number of the deployment that runs",
    "_DPDFirmware": "how the machine was started: uefi or bios",
    "_DPDGuid": "the SMBIOS GUID",
    "_DPDLastActionSucceeded": "true or false: how the last step that ran ended",
    "_DPDLastActionResult": "the exit code of the last command line or script",
    "_DPDMac": "the network address that the machine booted by",
    "_DPDMachine": "how the site calls the machine: the computer's name in lower case, or the address of an unknown one",
    "_DPDModel": "of the machine, as its firmware says",
    "_DPDRamBytes": "the machine's memory",
    "_DPDSequence": "the name of the sequence that runs",
    "_DPDSerial": "the machine's serial number",
    "_DPDServer": "the distribution point's URL",
    "_DPDStep": "the name of the step that runs",
    "_DPDVendor": "of the machine, as its firmware says",
    "_DPDVersion": "the version of the sequence that runs",
}


class VariableError(SequenceError):
    """A variable that cannot be: its name, never what it was to hold."""


@dataclass(frozen=True, slots=True, repr=False)
class Variable:
    """One variable; as text it is its name, and what it holds unless that is secret."""

    name: str
    value: str
    secret: bool = False

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, {HIDDEN if self.secret else self.value!r})"

    def __str__(self) -> str:
        return f"{self.name}={HIDDEN if self.secret else self.value}"


def check_name(name: str, *, may_be_built_in: bool = False) -> str:
    """A variable's name that people give. Raises VariableError."""
    if not _NAME.fullmatch(name):
        raise VariableError(
            f"variable {name[:60]!r}: expected 1 to {MAX_NAME_CHARACTERS} of A-Z a-z 0-9 _ - beginning with a letter"
        )
    if name.startswith("_") and not may_be_built_in:
        raise VariableError(
            f"variable {name[:60]!r}: names that begin with _ are read-only; expected one that begins with a letter"
        )
    return name


def check_value(name: str, value: str) -> str:
    """What it is to hold. Raises VariableError, which does not say it."""
    if len(value) > MAX_VALUE_CHARACTERS:
        raise VariableError(
            f"variable {name}: {len(value)} characters, expected at most {MAX_VALUE_CHARACTERS}; write a file by a step instead"
        )
    if "\0" in value or not _is_whole(value):
        raise VariableError(f"variable {name}: expected characters that a file can have, no NUL and no half of a pair")
    return value


def checked(name: str, value: str, secret: bool = False) -> Variable:
    """A variable that people give. Raises VariableError."""
    return Variable(check_name(name), check_value(name, value), secret)


def merge(*layers: Iterable[Variable]) -> tuple[Variable, ...]:
    """The variables of several layers, of which the later one counts: first the sequence's, then collections', then the computer's.
    What is secret in any of them stays so. Sorted by name. Raises VariableError where there are too many."""
    found: dict[str, Variable] = {}
    for each in (variable for layer in layers for variable in layer):
        before = found.get(each.name.lower())
        secret = each.secret or (before is not None and before.secret)
        found[each.name.lower()] = Variable(each.name, each.value, secret)
    if len(found) > MAX_VARIABLES:
        raise VariableError(
            f"{len(found)} variables, expected at most {MAX_VARIABLES}; take some out of the computer or its collections"
        )
    return tuple(found[key] for key in sorted(found))


def uses(text: str) -> tuple[str, ...]:
    """The names that a text has between percent signs, each once, as it is written first."""
    found: dict[str, str] = {}
    for use in _USE.finditer(text):
        if use[1]:
            found.setdefault(use[1].lower(), use[1])
    return tuple(found.values())


class Variables:
    """What a run knows. Iterating gives each variable, sorted by name."""

    def __init__(self, known: Iterable[Variable] = ()) -> None:
        self._known = {each.name.lower(): each for each in known}
        self._secrets = {each.value for each in self._known.values() if each.secret}

    def __iter__(self) -> Iterator[Variable]:
        return iter([self._known[key] for key in sorted(self._known)])

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._known

    def get(self, name: str) -> str:
        """What it holds; "" where it is not there."""
        found = self._known.get(name.lower())
        return found.value if found else ""

    def put(self, name: str, value: str, *, secret: bool = False) -> None:
        """A step sets it; a secret one stays secret. Raises VariableError."""
        self._keep(checked(name, value, secret))

    def put_built_in(self, name: str, value: str) -> None:
        """The engine sets one that documents only read. Raises VariableError."""
        self._keep(Variable(check_name(name, may_be_built_in=True), check_value(name, value)))

    def substitute(self, text: str) -> str:
        """With what they hold in place of each %NAME%, once: what a variable holds is not looked at again. %% is a percent sign, and
        one alone stays. Raises VariableError for a name that is not set."""
        size = 0

        def held(use: re.Match[str]) -> str:
            nonlocal size
            if not use[1]:
                return "%"
            found = self._known.get(use[1].lower())
            if found is None:
                raise VariableError(
                    f"%{use[1]}%: no such variable; set it for the computer or its collection or by a step before, or write %% for a percent sign"
                )
            size += len(found.value)
            if size > MAX_TEXT_CHARACTERS:
                raise VariableError(
                    f"%{use[1]}%: the text with its variables has more than {MAX_TEXT_CHARACTERS} characters"
                )
            return found.value

        return _USE.sub(held, text)

    def mask(self, text: str) -> str:
        """For logs and reports: whatever a secret variable holds or held, hidden."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            for each in dict.fromkeys((secret, *secret.splitlines())):
                if len(each) >= SHORTEST_MASKED:
                    text = text.replace(each, HIDDEN)
        return text

    def _keep(self, variable: Variable) -> None:
        key = variable.name.lower()
        before = self._known.get(key)
        if before is None and len(self._known) >= MAX_VARIABLES + len(BUILT_IN):
            raise VariableError(f"variable {variable.name}: there are {len(self._known)} already, as many as may")
        secret = variable.secret or (before is not None and before.secret)
        kept = Variable(before.name if before else variable.name, variable.value, secret)
        self._known[key] = kept
        if secret:
            self._secrets.add(kept.value)


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
