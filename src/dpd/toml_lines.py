# SPDX-License-Identifier: Apache-2.0
"""A TOML text with the line that each value stands in; tomllib tells values alone.

The lines are found in texts that tomllib has taken, so that nothing here says what TOML is: it only finds its way.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Any

from dpd.errors import DpdError

Path = tuple[str | int, ...]  # keys, and the places of elements in arrays

# A key of a hundred thousand parts, which tomllib takes minutes for and holds the interpreter meanwhile; nobody needs sixteen.
_DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){16}""")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"{3,5}'  # up to two more quotes belong to the text
    r"|'''[\s\S]*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]*")  # a date may have a blank inside
_NEWLINE = re.compile(r"\n")


class NotToml(DpdError):
    """A text that is no TOML that anybody would write, and the line where that shows."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_toml(text: str) -> tuple[dict[str, Any], TomlLines]:
    """A text's values and their lines. Raises NotToml."""
    text = text.removeprefix("\ufeff")
    if deep := _DEEP_KEY.search(text):
        raise NotToml(text.count("\n", 0, deep.start()) + 1, "nested too deep; expected keys of a few parts")
    try:
        return tomllib.loads(text), TomlLines(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(_line_in(str(error), text), f"not TOML: {error}") from None
    except (ValueError, RecursionError):  # a whole number of 5000 digits, a thousand brackets
        raise NotToml(1, "a number of too many digits, or nested too deep; expected what people write") from None


def _line_in(message: str, text: str) -> int:
    found = re.search(r"\(at line (\d+)", message)
    return int(found[1]) if found else text.count("\n") + 1 if "end of document" in message else 1


class TomlLines:
    """The lines of one text, counted from 1. Raises RecursionError where tomllib nearly did."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in _NEWLINE.finditer(text)]
        self._elements: dict[Path, int] = {}  # so far, of each array of tables
        self._lines: dict[Path, int] = {}
        self._read_tables()

    def line(self, path: Path) -> int:
        """Of this value, or of the nearest thing around it that has a line; 1 where nothing has."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _read_tables(self) -> None:
        table: Path = ()
        while self._skip():
            if self._text[self._at] != "[":
                self._read_pair(table)
                continue
            line, is_element = self._here(), self._text.startswith("[[", self._at)
            self._at += 2 if is_element else 1
            keys = self._read_key()
            self._at += 2 if is_element else 1
            table = self._enter(keys, is_element)
            self._lines.setdefault(table, line)

    def _enter(self, keys: tuple[str, ...], is_element: bool) -> Path:
        """The path of a header's table: a name on the way that is an array of tables means its last element."""
        path: Path = ()
        for key in keys[:-1]:
            path += (key,)
            if path in self._elements:
                path += (self._elements[path] - 1,)
        path += keys[-1:]
        if is_element:
            self._lines.setdefault(path, self._here())
            self._elements[path] = self._elements.get(path, 0) + 1
            path += (self._elements[path] - 1,)
        return path

    def _read_pair(self, table: Path) -> None:
        line = self._here()
        path = table + self._read_key()
        self._at += 1  # =
        self._skip()
        self._lines[path] = line
        self._read_value(path)

    def _read_key(self) -> tuple[str, ...]:
        """A dotted key and the blanks around it."""
        keys: list[str] = []
        while True:
            self._skip()
            if self._text[self._at] in "\"'":
                quoted = self._take(_STRING)
                keys.append(tomllib.loads(f"x = {quoted}")["x"])
            else:
                keys.append(self._take(_BARE_KEY))
            self._skip()
            if self._text[self._at] != ".":
                return tuple(keys)
            self._at += 1

    def _read_value(self, path: Path) -> None:
        match self._text[self._at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._at += 1
                place = 0
                while self._goes_on("]"):
                    self._lines[(*path, place)] = self._here()
                    self._read_value((*path, place))
                    place += 1
            case "{":
                self._at += 1
                while self._goes_on("}"):
                    self._read_pair(path)
            case _:
                self._take(_BARE_VALUE)

    def _goes_on(self, end: str) -> bool:
        """Whether another element of an array or inline table comes; else its end is behind us."""
        self._skip()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip()
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "tomllib has taken this text"
        self._at = found.end()
        return found[0]

    def _skip(self) -> bool:
        """Behind blanks, line ends and comments; whether anything is left."""
        found = _BLANK.match(self._text, self._at)
        assert found is not None, "it matches nothing too"
        self._at = found.end()
        return self._at < len(self._text)

    def _here(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1
