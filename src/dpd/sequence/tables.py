# SPDX-License-Identifier: Apache-2.0
"""One table of a sequence while it is read: each key by what the catalogue says of it. What is wrong is written down, and reading
goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from dpd.sequence import sizes, variables
from dpd.sequence.catalogue import Key, KeyType
from dpd.sequence.records import SequenceError, SequenceProblem, Value

MAX_PROBLEMS = 200
MAX_LINES_CHARACTERS = 256 << 10
MAX_LIST = 256

Path = tuple[str | int, ...]
LineOf = Callable[[Path], int]

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHOWN_CHARACTERS = 60


class Problems:
    """What is wrong with one document, as many as anybody would read."""

    def __init__(self, line_of: LineOf) -> None:
        self._line_of = line_of
        self.found: list[SequenceProblem] = []

    def add(self, path: Path, place: str, message: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(SequenceProblem(self._line_of(path), place, message))

    def line(self, path: Path) -> int:
        return self._line_of(path)


class Table:
    """The table at `path`, which people know as `place`."""

    def __init__(self, problems: Problems, path: Path, content: Any, place: str) -> None:
        self.path, self.place = path, place
        self.problems = problems
        self.content: Mapping[str, Any] = {}
        self._asked: list[str] = []
        self.is_table = isinstance(content, dict)
        if self.is_table:
            self.content = content
        else:
            self.wrong((), f"{shown(content)}: expected a table")

    @property
    def line(self) -> int:
        return self.problems.line(self.path)

    def lines(self) -> Mapping[str, int]:
        """Of each key that is there."""
        return MappingProxyType({name: self.problems.line((*self.path, name)) for name in self.content})

    def wrong(self, inside: Path, message: str) -> None:
        """Something at or below this table cannot be."""
        key = ".".join(part for part in inside if isinstance(part, str))
        place = ": ".join(part for part in (self.place, key) if part)
        self.problems.add(self.path + inside, place, message)

    def has(self, name: str) -> bool:
        return name in self.content

    def value(self, key: Key) -> Value:
        """Of the key's type; the default, or something empty, where it is not there or wrong."""
        self._asked.append(key.name)
        found = self.content.get(key.name)
        empty = _EMPTY.get(key.type, "")
        if found is None:
            if key.default is None:
                self.wrong((), f"{key.name} is missing: expected {key.type}, {key.words}")
            return empty if key.default is None else key.default
        if key.type is KeyType.TABLES:
            return self._tables(key, found)
        if key.type in (KeyType.TEXTS, KeyType.WHOLES):
            return self._list(key, found)
        return self._one(key, (key.name,), found, empty)

    def text(self, key: Key) -> str:
        """The same of a key that is a text."""
        return str(self.value(key))

    def flag(self, key: Key) -> bool:
        """The same of one that is true or false."""
        return self.value(key) is True

    def whole(self, key: Key) -> int:
        """The same of a whole number."""
        value = self.value(key)
        return value if isinstance(value, int) else 0

    def tables(self, name: str, place: str) -> list[Table]:
        """The tables of a list, each to be finished by who reads it; its place is `place` and its number from 1."""
        self._asked.append(name)
        found = self.content.get(name)
        if not isinstance(found, list):
            if found is not None:
                self.wrong((name,), f"{shown(found)}: expected [[{self._dotted(name)}]] for each, or a list of tables")
            return []
        path = (*self.path, name)
        read = [Table(self.problems, (*path, at), each, f"{place}{at + 1}") for at, each in enumerate(found)]
        return [each for each in read if each.is_table]

    def table(self, name: str) -> Table | None:
        """A table inside, to be finished by who reads it; None where there is none."""
        self._asked.append(name)
        if name not in self.content:
            return None
        place = f"{self.place}: {name}" if self.place else name
        return Table(self.problems, (*self.path, name), self.content[name], place)

    def ask(self, name: str) -> Any:
        """A value as it is, to be judged by who asks."""
        self._asked.append(name)
        return self.content.get(name)

    def finish(self) -> None:
        """What was not asked for cannot be there."""
        for name in self.content:
            if name not in self._asked:
                self.wrong((name,), f"unknown key; expected one of {', '.join(dict.fromkeys(self._asked))}")

    def _dotted(self, name: str) -> str:
        return ".".join((*(part for part in self.path if isinstance(part, str)), name))

    def _tables(self, key: Key, found: Any) -> Value:
        read = []
        for table in self.tables(key.name, f"{self.place}: {key.name} " if self.place else f"{key.name} "):
            read.append(MappingProxyType({each.name: table.value(each) for each in key.keys}))
            table.finish()
        if isinstance(found, list) and not found and key.default is None:
            self.wrong((key.name,), "expected at least one")
        if len(read) > MAX_LIST:
            self.wrong((key.name,), f"{len(read)} tables, expected at most {MAX_LIST}")
        return tuple(read)

    def _list(self, key: Key, found: Any) -> Value:
        if not isinstance(found, list) or len(found) > MAX_LIST:
            self.wrong((key.name,), f"{shown(found)}: expected {key.type} in brackets, at most {MAX_LIST}")
            return ()
        if key.type is KeyType.WHOLES:
            return tuple(self._whole(key, (key.name, at), each) for at, each in enumerate(found))
        return tuple(self._text(key, (key.name, at), each) for at, each in enumerate(found))

    def _one(self, key: Key, inside: Path, found: Any, empty: Value) -> Value:
        match key.type:
            case KeyType.FLAG:
                if isinstance(found, bool):
                    return found
                self.wrong(inside, f"{shown(found)}: expected true or false")
                return empty
            case KeyType.WHOLE:
                return self._whole(key, inside, found)
        return self._text(key, inside, found)

    def _whole(self, key: Key, inside: Path, found: Any) -> int:
        if type(found) is int and key.low <= found <= key.high:
            return found
        self.wrong(inside, f"{shown(found)}: expected a whole number from {key.low} to {key.high}")
        return key.low

    def _text(self, key: Key, inside: Path, found: Any) -> str:
        if not isinstance(found, str):
            self.wrong(inside, f"{shown(found)}: expected a text in quotes, {key.words}")
            return ""
        try:
            check_text(key, found)
        except SequenceError as error:
            self.wrong(inside, str(error))
        return found


def check_text(key: Key, text: str) -> None:
    """What the key's rule says of a text. Raises SequenceError. With a variable in it a value is judged when the step runs."""
    several_lines = key.type in (KeyType.LINES, KeyType.SCRIPT)
    most = MAX_LINES_CHARACTERS if several_lines else key.most_characters
    if len(text) > most:
        raise SequenceError(f"{len(text)} characters, expected at most {most}")
    if several_lines:
        if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
            raise SequenceError("expected characters that a file can have, no NUL and no half of a pair")
        return
    if not text.isprintable():
        raise SequenceError(f"{shown(text)}: expected one line without control characters")
    if key.choices and text not in key.choices:
        raise SequenceError(f"{shown(text)}: expected one of {', '.join(map(shown, key.choices))}")
    if not text and key.default is None:
        raise SequenceError(f"empty: expected {key.type}, {key.words}")
    if not text or ("%" in text and key.type not in (KeyType.SHARE, KeyType.VARIABLE)):
        return
    _check_form(key, text)


def _check_form(key: Key, text: str) -> None:
    match key.type:
        case KeyType.PACKAGE:
            if not _PACKAGE.fullmatch(text):
                raise SequenceError(f"{shown(text)}: expected the ID of a package, 1 to 64 of [A-Za-z0-9._-]")
        case KeyType.SIZE:
            sizes.parse_bytes(text)
        case KeyType.SHARE:
            if not variables.uses(text):
                sizes.parse_share(text)
        case KeyType.VARIABLE:
            variables.check_name(text)


def shown(value: Any) -> str:
    """A value as a message shows it."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        text = "a list of lists"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


_EMPTY: Final[dict[KeyType, Value]] = {
    KeyType.FLAG: False,
    KeyType.WHOLE: 0,
    KeyType.TEXTS: (),
    KeyType.WHOLES: (),
    KeyType.TABLES: (),
}
