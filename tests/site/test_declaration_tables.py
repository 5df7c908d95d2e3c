# SPDX-License-Identifier: Apache-2.0
"""One table under the reader's hand: what is right comes in the record's form, what is wrong is told with its line and key."""

from __future__ import annotations

import tomllib

import pytest

from dpd.site.declaration_tables import MAX_PROBLEMS, Problems, Table, shown
from dpd.site.records import Purpose, SiteError
from dpd.toml_lines import TomlLines


def opened(text: str) -> tuple[Table, Problems]:
    problems = Problems(TomlLines(text))
    return Table(problems, (), tomllib.loads(text)), problems


def told(problems: Problems) -> list[tuple[int, str, str]]:
    return [(each.line, each.key, each.message) for each in problems.found]


def only_a(text: str) -> str:
    if text.lower() != "a":
        raise SiteError(f"{text}: expected a")
    return text.lower()


def test_each_kind_of_value_comes_in_its_form() -> None:
    table, problems = opened(
        'text = "A"\ntexts = ["x", "y"]\nwhole = -3\nchoice = "required"\nmoment = 2026-11-21T20:00:00+01:00\nseconds = 5\n'
        "[[tables]]\nx = 'y'\n"
    )
    assert table.text("text", only_a) == "a"
    assert table.texts("texts") == ("x", "y")
    assert table.whole("whole", -3, 3) == -3
    assert table.choice("choice", Purpose, None) is Purpose.REQUIRED
    assert (table.moment("moment"), table.moment("seconds")) == (1795287600.0, 5.0)
    assert [each.text("x") for each in table.tables("tables")] == ["y"]
    table.finish()
    assert table.is_sound
    assert told(problems) == []


def test_what_is_not_there_has_its_default() -> None:
    table, problems = opened("")
    assert (table.text("a"), table.texts("b"), table.whole("c", 1, 2), table.moment("d")) == ("", (), 0, 0.0)
    assert table.choice("e", Purpose, Purpose.AVAILABLE) is Purpose.AVAILABLE
    assert table.tables("f") == []
    assert told(problems) == []


def test_what_must_be_there_is_missed() -> None:
    table, problems = opened("")
    table.text("name", default=None)
    table.choice("purpose", Purpose, None)
    assert not table.is_sound
    assert [each.message for each in problems.found] == [
        'name is missing; expected name = "..."',
        'purpose is missing: expected one of "required", "available"',
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\ntext = 5", 2, "5: expected a text in quotes"),
        ("text = 'b'", 1, "b: expected a"),
        ("texts = 'b'", 1, '"b": expected a list, written in brackets'),
        ("texts = ['a',\n1]", 2, "1: expected a text in quotes"),
        ("texts = ['a',\n'A']", 2, '"a" is there already; expected once'),
        ("whole = 4", 1, "4: expected a whole number from -3 to 3"),
        ("whole = 1.0", 1, "1.0: expected a whole number from -3 to 3"),
        ("whole = true", 1, "true: expected a whole number from -3 to 3"),
        ("choice = 'must'", 1, '"must": expected one of "required", "available"'),
        ("choice = ['required']", 1, '["required"]: expected one of "required", "available"'),
        ("moment = 2026-11-21T20:00:00", 1, "2026-11-21T20:00:00: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("moment = 2026-11-21", 1, "2026-11-21: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("moment = true", 1, "true: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("moment = nan", 1, "NaN: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("moment = 1969-12-31T00:00:00Z", 1, "1969-12-31T00:00:00+00:00: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("moment = -1", 1, "-1: expected a moment with its distance from UTC such as 2026-11-21T20:00:00+01:00, or seconds since 1970"),
        ("[tables]", 1, "expected [[tables]] for each, with two brackets"),
        ("tables = [1]", 1, "1: expected a table, written [[tables]]"),
        ("[[tables]]\n\nx = 1", 3, "1: expected a text in quotes"),
        ("more = 1", 1, "unknown key; expected one of text, texts, whole, choice, moment, tables"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_once_with_its_line(text: str, line: int, message: str) -> None:
    table, problems = opened(text)
    table.text("text", only_a)
    table.texts("texts", only_a)
    table.whole("whole", -3, 3)
    table.choice("choice", Purpose, Purpose.AVAILABLE)
    table.moment("moment")
    for each in table.tables("tables"):
        each.text("x")
    table.finish()
    assert [(each.line, each.message) for each in problems.found] == [(line, message)]
    assert not table.is_sound


def test_a_key_is_named_with_the_tables_around_it() -> None:
    table, problems = opened("[[outer]]\ninner = [{ x = 1 }]")
    (outer,) = table.tables("outer")
    (inner,) = outer.tables("inner")
    inner.text("x")
    assert told(problems) == [(2, "outer.inner.x", "1: expected a text in quotes")]
    assert not outer.is_sound


def test_a_file_of_nothing_but_problems_is_told_up_to_a_bound() -> None:
    table, problems = opened("\n".join(f"x{number} = 1" for number in range(MAX_PROBLEMS + 5)))
    table.finish()
    assert len(problems.found) == MAX_PROBLEMS


def test_a_long_or_deep_value_is_shown_short() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list of lists"
    assert shown("é" * 100) == '"' + "é" * 59 + "..."
