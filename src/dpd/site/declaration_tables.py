# SPDX-License-Identifier: Apache-2.0
"""One table of a declaration while it is read: each key once, by its rule; what is wrong is written down, and reading goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any, TypeVar

from dpd.site.records import SiteError
from dpd.toml_lines import Path, TomlLines

MOMENT = "a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"
MAX_MOMENT = 2.0**40
MAX_PROBLEMS = 1000
_SHOWN_CHARACTERS = 60

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class DeclarationProblem:
    """What is wrong in one line of a declaration, counted from 1, or 0 where it is about what the file does not name; `key` names
    the table and the key, such as "computer.macs"."""

    line: int
    key: str
    message: str


class Problems:
    """The problems of one file, as many as anybody would read."""

    def __init__(self, lines: TomlLines) -> None:
        self.lines = lines
        self.found: list[DeclarationProblem] = []

    def add(self, path: Path, message: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            key = ".".join(part for part in path if isinstance(part, str))
            self.found.append(DeclarationProblem(self.lines.line(path), key, message))


def unchanged(text: str) -> str:
    """For texts that are as they are."""
    return text


class Table:
    """The table at `path`. Each verb gives the key's value in the form of the record, or its default where it is not there or
    wrong; `is_sound` tells whether anything was."""

    def __init__(self, problems: Problems, path: Path, content: Mapping[str, Any], around: Table | None = None) -> None:
        self.path = path
        self.is_sound = True
        self._problems = problems
        self._around = around
        self._asked: list[str] = []
        self._content = content

    def wrong(self, inside: Path, message: str) -> None:
        """Something at or below this table's path cannot be."""
        self._problems.add(self.path + inside, message)
        table: Table | None = self
        while table is not None:
            table.is_sound = False
            table = table._around

    def text(self, key: str, check: Callable[[str], str] = unchanged, *, default: str | None = "") -> str:
        """Without a default the key must be there. `check` gives the form that is kept. Raises nothing."""
        value = self._value(key)
        if value is None:
            if default is None:
                self.wrong((), f'{key} is missing; expected {key} = "..."')
            return default or ""
        return self._text((key,), value, check)

    def texts(self, key: str, check: Callable[[str], str] = unchanged) -> tuple[str, ...]:
        """Each of a list. One that is there twice is a problem, so that the places are those of the file."""
        found: dict[str, int] = {}
        for place, each in self._list(key):
            text = self._text((key, place), each, check)
            if found.setdefault(text, place) != place and text:
                self.wrong((key, place), f"{shown(text)} is there already; expected once")
        return tuple(found)

    def tables(self, key: str) -> list[Table]:
        """Inline tables, or [[table.key]]."""
        name = ".".join((*(part for part in self.path if isinstance(part, str)), key))
        if isinstance(self._content.get(key), dict):
            self._asked.append(key)
            self.wrong((key,), f"expected [[{name}]] for each, with two brackets")
            return []
        found = []
        for place, each in self._list(key):
            if isinstance(each, dict):
                found.append(Table(self._problems, (*self.path, key, place), each, self))
            else:
                self.wrong((key, place), f"{shown(each)}: expected a table, written [[{name}]]")
        return found

    def has(self, key: str) -> bool:
        """Whether the key is there, whatever it says."""
        return key in self._content

    def whole(self, key: str, low: int, high: int) -> int:
        """A whole number; 0 where it is not there."""
        value = self._value(key)
        if value is None:
            return 0
        if type(value) is int and low <= value <= high:
            return value
        self.wrong((key,), f"{shown(value)}: expected a whole number from {low} to {high}")
        return 0

    def flag(self, key: str) -> bool:
        """Yes or no; no where it is not there."""
        value = self._value(key)
        if value is not None and not isinstance(value, bool):
            self.wrong((key,), f"{shown(value)}: expected true or false")
        return value is True

    def choice(self, key: str, choices: type[_E], default: _E | None) -> _E:
        """One of the words of an enumeration. Without a default the key must be there."""
        value = self._value(key)
        words = ", ".join(f'"{each}"' for each in choices)
        if value is None and default is None:
            self.wrong((), f"{key} is missing: expected one of {words}")
        elif value is not None:
            if isinstance(value, str) and value in list(choices):
                return choices(value)
            self.wrong((key,), f"{shown(value)}: expected one of {words}")
        return default or next(iter(choices))

    def moment(self, key: str) -> float:
        """Seconds since the epoch; 0 where it is not there."""
        value = self._value(key)
        if value is None:
            return 0.0
        at = value.timestamp() if isinstance(value, datetime) and value.tzinfo is not None else value
        if isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at <= MAX_MOMENT:
            return float(at)
        self.wrong((key,), f"{shown(value)}: expected {MOMENT}")
        return 0.0

    def finish(self) -> None:
        """What was not asked for cannot be there."""
        for key in self._content:
            if key not in self._asked:
                self.wrong((key,), f"unknown key; expected one of {', '.join(self._asked)}")

    def _value(self, key: str) -> Any:
        self._asked.append(key)
        return self._content.get(key)

    def _list(self, key: str) -> list[tuple[int, Any]]:
        value = self._value(key)
        if value is None:
            return []
        if isinstance(value, list):
            return list(enumerate(value))
        self.wrong((key,), f"{shown(value)}: expected a list, written in brackets")
        return []

    def _text(self, inside: Path, value: Any, check: Callable[[str], str]) -> str:
        if not isinstance(value, str):
            self.wrong(inside, f"{shown(value)}: expected a text in quotes")
            return ""
        try:
            return check(value)
        except SiteError as error:
            self.wrong(inside, str(error))
            return ""


def shown(value: Any) -> str:
    """A value as a message shows it, in TOML's way as far as JSON's is that."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        text = "a list of lists"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
