# SPDX-License-Identifier: Apache-2.0
"""Lines of values: whatever TOML's writing, what a line is told for stands in it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.toml_lines import NotToml, Path, TomlLines, read_toml

TEXT = '''# a comment = 1
owns = ["a",
  # "b" is no element
  "c",
]
"quoted key" = 'x' # [[table]]
dotted . "in.side" = { one = 1, two = [ {three = 3},
   {four = """
[[not.a.table]]
"""} ] }
when = 1979-05-27 07:32:00Z
[[table]]
name = "first"

[[table.sub]]
value = """a
b \\""" c""""

[[table]] # the second
name = 'sec]ond'
[table.plain.deep]
x = 1
[[table.sub]]
value = \'\'\'
'' \'\'\'
[[table.sub]]
value = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("owns",), 2),
        (("owns", 0), 2),
        (("owns", 1), 4),
        (("quoted key",), 6),
        (("dotted", "in.side"), 7),
        (("dotted", "in.side", "two", 0, "three"), 7),
        (("dotted", "in.side", "two", 1, "four"), 8),
        (("when",), 11),
        (("table",), 12),
        (("table", 0), 12),
        (("table", 0, "name"), 13),
        (("table", 0, "sub", 0, "value"), 16),
        (("table", 1), 19),
        (("table", 1, "name"), 20),
        (("table", 1, "plain", "deep", "x"), 22),
        (("table", 1, "sub", 0, "value"), 24),
        (("table", 1, "sub", 1, "value"), 27),
    ],
)
def test_each_value_has_its_line(path: Path, line: int) -> None:
    tomllib.loads(TEXT)
    assert TomlLines(TEXT).line(path) == line


def test_lines_that_end_as_on_windows_count_once() -> None:
    lines = TomlLines(TEXT.replace("\n", "\r\n"))
    assert (lines.line(("table", 1, "name")), lines.line(("table", 1, "sub", 1, "value"))) == (20, 27)


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    lines = TomlLines(TEXT)
    assert lines.line(("table", 1, "nothing")) == 19
    assert lines.line(("owns", 7)) == 2
    assert lines.line(("nothing", 3)) == 1
    assert TomlLines("").line(()) == 1


_KEYS = st.text("ab-_1", min_size=1, max_size=3) | st.text(
    st.characters(codec="utf-8", exclude_characters="\r"), max_size=3
)
_BARE = frozenset("ab-_1")


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() else c for c in text) + '"'


@st.composite
def _documents(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    """A text with each of its values alone in a line of its own, and which line that is."""
    lines: list[str] = []
    found: dict[Path, int] = {}

    def noise() -> None:
        lines.extend(draw(st.lists(st.sampled_from(["", "  # x = 1", "# [[t]]", "\t"]), max_size=2)))

    def write(path: Path, prefix: str) -> None:
        kind = draw(st.sampled_from(["text", "lines", "number", "date", "list"]))
        found[path] = len(lines) + 1
        if kind == "list":
            lines.append(prefix + "[")
            for place in range(draw(st.integers(0, 3))):
                noise()
                if draw(st.booleans()):
                    found[(*path, place)] = len(lines) + 1
                    lines.append(f" {_quoted(draw(_KEYS))} ,# ]")
                else:
                    write((*path, place), "")
                    lines[-1] += ","
            lines.append("]")
            return
        value = {
            "text": draw(st.sampled_from(["'#[{'", _quoted(draw(_KEYS)), '"\\"]"'])),
            "lines": draw(st.sampled_from(['"""\n#"]\n"""', "'''a\n\n''x'''", '"""""x"""""', "''''''"])),
            "number": draw(st.sampled_from(["1", "+1_0.5e3", "true", "inf"])),
            "date": draw(st.sampled_from(["1979-05-27 07:32:00Z", "07:32:00"])),
        }[kind]
        lines.extend((prefix + value).split("\n"))

    keys = draw(st.lists(_KEYS, max_size=4, unique=True))
    for number, key in enumerate(keys):
        noise()
        shown = key if key and set(key) <= _BARE else _quoted(key)
        if draw(st.booleans()) and number:
            for place in range(draw(st.integers(1, 3))):
                found[(key, place)] = len(lines) + 1
                lines.append(f"[[ {shown} ]]")
                noise()
                write((key, place, "x"), "x = ")
            if number < len(keys) - 1:
                break
        else:
            write((key,), f"{shown} = ")
            if number < len(keys) - 1 and draw(st.booleans()):
                lines[-1] += " # y = 2"
    return "\n".join(lines), found


def _at(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document


@settings(deadline=None)
@given(_documents())
def test_whatever_is_written_is_found_in_its_line(case: tuple[str, dict[Path, int]]) -> None:
    text, found = case
    document = tomllib.loads(text)
    lines = TomlLines(text)
    for path, line in found.items():
        _at(document, path)
        assert lines.line(path) == line, (text, path)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb", 2, "not TOML: "),
        ("a = 1\na = [", 2, "not TOML: "),
        ("a = 1\n" + "b." * 20 + "c = 1", 2, "nested too deep"),
        ("a = " + "9" * 5000, 1, "a number of too many digits"),
        ("a = " + "[" * 5000, 1, "a number of too many digits, or nested too deep"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(NotToml, match=message) as refused:
        read_toml(text)
    assert refused.value.line == line


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    values, lines = read_toml("\ufeffa = 1\nb = 2")
    assert values == {"a": 1, "b": 2}
    assert lines.line(("b",)) == 2
