# SPDX-License-Identifier: Apache-2.0
"""A table's keys, each by the rule of its type."""

from __future__ import annotations

from typing import Any

import pytest

from dpd.sequence.catalogue import Key, KeyType
from dpd.sequence.document import tell
from dpd.sequence.tables import MAX_PROBLEMS, Problems, Table

INNER = Key("inner", KeyType.TABLES, "tables", keys=(Key("a", KeyType.TEXT, "a text"), Key("n", KeyType.WHOLE, "n", 4)))


def read(key: Key, value: Any) -> tuple[Any, list[str]]:
    problems = Problems(lambda path: len(path))
    table = Table(problems, ("step", 0), {key.name: value}, "step 1")
    found = table.value(key)
    table.finish()
    return found, [tell(each) for each in problems.found]


@pytest.mark.parametrize(
    ("key_type", "value", "expected"),
    [
        (KeyType.TEXT, "ü", "ü"),
        (KeyType.LINES, "a\nb\t", "a\nb\t"),
        (KeyType.SCRIPT, "%Y%", "%Y%"),
        (KeyType.PACKAGE, "LAB00001", "LAB00001"),
        (KeyType.PACKAGE, "%Image%", "%Image%"),
        (KeyType.SIZE, "2GiB", "2GiB"),
        (KeyType.SIZE, "%Size%", "%Size%"),
        (KeyType.SHARE, "40%", "40%"),
        (KeyType.SHARE, "%Size%", "%Size%"),
        (KeyType.VARIABLE, "OSDisk", "OSDisk"),
        (KeyType.WHOLE, 7, 7),
        (KeyType.FLAG, True, True),
        (KeyType.TEXTS, ["a", "b"], ("a", "b")),
        (KeyType.WHOLES, [0, 3010], (0, 3010)),
    ],
)
def test_what_is_taken(key_type: KeyType, value: Any, expected: Any) -> None:
    assert read(Key("k", key_type, "words"), value) == (expected, [])


@pytest.mark.parametrize(
    ("key_type", "value", "told"),
    [
        (KeyType.TEXT, 5, "line 3: step 1: k: 5: expected a text in quotes, words"),
        (KeyType.TEXT, "", "line 3: step 1: k: empty: expected a text, words"),
        (KeyType.TEXT, "a\nb", "one line without control characters"),
        (KeyType.TEXT, "x" * 4001, "4001 characters, expected at most 4000"),
        (KeyType.LINES, "a\0", "no NUL"),
        (KeyType.LINES, "\ud800", "no half of a pair"),
        (KeyType.LINES, "x" * (256 * 1024 + 1), "expected at most 262144"),
        (KeyType.PACKAGE, "../etc", "expected the ID of a package"),
        (KeyType.SIZE, "2", "expected a number with its unit"),
        (KeyType.SHARE, "half", "for what others leave"),
        (KeyType.SHARE, "140%", "for what others leave"),
        (KeyType.VARIABLE, "_DPDStep", "read-only"),
        (KeyType.VARIABLE, "%A%", "beginning with a letter"),
        (KeyType.WHOLE, 1.5, "expected a whole number from 0 to 2147483647"),
        (KeyType.WHOLE, True, "true: expected a whole number"),
        (KeyType.WHOLE, -1, "-1: expected"),
        (KeyType.FLAG, "true", '"true": expected true or false'),
        (KeyType.TEXTS, "a", "expected a list of texts in brackets"),
        (KeyType.TEXTS, [1], "line 4: step 1: k: 1: expected a text"),
        (KeyType.WHOLES, [0, "1"], 'line 4: step 1: k: "1": expected a whole number'),
        (KeyType.WHOLES, [0] * 257, "at most 256"),
        (KeyType.TABLES, {"a": 1}, "expected [[step.k]] for each, or a list of tables"),
        (KeyType.TABLES, [], "expected at least one"),
        (KeyType.TABLES, [5], "line 4: step 1: k 1: 5: expected a table"),
    ],
)
def test_what_is_refused(key_type: KeyType, value: Any, told: str) -> None:
    _, problems = read(Key("k", key_type, "words"), value)
    assert len(problems) == 1
    assert told in problems[0]


def test_a_choice_is_one_of_its_words() -> None:
    key = Key("k", KeyType.CHOICE, "words", "a", ("a", "b"))
    assert read(key, "b") == ("b", [])
    assert read(key, "%a%")[1] == ['line 3: step 1: k: "%a%": expected one of "a", "b"']


def test_what_is_missing_is_told_where_it_must_be_there_and_else_the_default() -> None:
    problems = Problems(lambda path: 9)
    table = Table(problems, (), {}, "step 1")
    assert table.value(Key("k", KeyType.WHOLE, "words", 5)) == 5
    assert table.value(Key("m", KeyType.TEXTS, "its words")) == ()
    assert [tell(each) for each in problems.found] == [
        "line 9: step 1: m is missing: expected a list of texts, its words"
    ]


def test_tables_inside_have_their_defaults_and_their_unknown_keys() -> None:
    assert read(INNER, [{"a": "x"}, {"a": "y", "n": 5}]) == (({"a": "x", "n": 4}, {"a": "y", "n": 5}), [])
    assert read(INNER, [{"a": "x", "b": 1}])[1] == ["line 5: step 1: inner 1: b: unknown key; expected one of a, n"]


def test_an_unknown_key_is_told_with_those_that_there_are() -> None:
    problems = Problems(lambda path: 1)
    table = Table(problems, (), {"kk": 1}, "")
    table.value(Key("k", KeyType.WHOLE, "words", 5))
    table.finish()
    assert [tell(each) for each in problems.found] == ["line 1: kk: unknown key; expected one of k"]


def test_no_more_is_told_than_anybody_reads() -> None:
    problems = Problems(lambda path: 1)
    for _ in range(MAX_PROBLEMS + 50):
        problems.add((), "", "wrong")
    assert len(problems.found) == MAX_PROBLEMS
