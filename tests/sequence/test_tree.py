# SPDX-License-Identifier: Apache-2.0
"""Sequences as tables: what is written is what was read, whatever it is."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.sequence.catalogue import CATALOGUE, Key, KeyType
from dpd.sequence.document import tell
from dpd.sequence.records import (
    Architecture,
    ArchitectureCondition,
    Conditions,
    Firmware,
    Group,
    Several,
    Step,
    StepKind,
    TaskSequence,
    Value,
)
from dpd.sequence.tree import read_tree, write_tree

_WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters="%\x7f"), min_size=1, max_size=9
)
_WORDS = _WORDS.filter(str.isprintable)
_TEXTS: dict[KeyType, st.SearchStrategy[Any]] = {
    KeyType.TEXT: _WORDS,
    KeyType.LINES: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
    KeyType.SCRIPT: st.just("a\n%b%\n"),
    KeyType.PACKAGE: st.sampled_from(["LAB00001", "%Image%"]),
    KeyType.SIZE: st.sampled_from(["1GiB", "20GB"]),
    KeyType.SHARE: st.sampled_from(["rest", "40%", "1MiB", "%Size%"]),
    KeyType.VARIABLE: st.sampled_from(["A", "b-c"]),
    KeyType.FLAG: st.booleans(),
}


def _values(key: Key) -> st.SearchStrategy[Any]:
    if key.type is KeyType.TABLES:
        return st.lists(_tables(key.keys), min_size=1, max_size=3).map(tuple)
    if key.type is KeyType.WHOLES:
        return st.lists(st.integers(key.low, key.high), max_size=3).map(tuple)
    if key.type is KeyType.TEXTS:
        return st.lists(st.sampled_from(key.choices) if key.choices else _WORDS, max_size=3).map(tuple)
    if key.type is KeyType.WHOLE:
        return st.integers(key.low, key.high)
    return st.sampled_from(key.choices) if key.choices else _TEXTS[key.type]


def _tables(keys: tuple[Key, ...]) -> st.SearchStrategy[MappingProxyType[str, Value]]:
    return st.fixed_dictionaries({key.name: _values(key) for key in keys}).map(MappingProxyType)


@st.composite
def _members(draw: st.DrawFn, place: str, depth: int) -> tuple[Group | Step, ...]:
    members: list[Group | Step] = []
    for at in range(1, draw(st.integers(1, 3)) + 1):
        number = f"{place}{at}"
        condition = draw(st.sampled_from([None, ArchitectureCondition((Architecture.ARM64,)), _SEVERAL]))
        name, description = draw(_WORDS), draw(st.sampled_from(["", "what for"]))
        flags = draw(st.booleans()), draw(st.booleans())
        if depth < 3 and draw(st.booleans()):
            inside = draw(_members(f"{number}.", depth + 1))
            members.append(Group(number, name, inside, description, condition, *flags))
            continue
        kind = draw(st.sampled_from(StepKind))
        keys = draw(_tables(CATALOGUE[kind].keys))
        whole = draw(st.integers(0, 100)), draw(st.integers(0, 100)), draw(st.integers(0, 100))
        members.append(Step(number, name, kind, keys, description, condition, *flags, *whole))
    return tuple(members)


_SEVERAL = Conditions(Several.NONE, (ArchitectureCondition((Architecture.X64,)),))


@settings(max_examples=60)
@given(_members("", 1), st.sets(st.sampled_from(Architecture)), st.integers(1, 9999))
def test_what_is_written_is_read_again(
    members: tuple[Group | Step, ...], architectures: set[Architecture], limit: int
) -> None:
    variables = (("A", "ü\n"), ("B", ""))
    sequence = TaskSequence("t", members, "d", 0, limit, tuple(sorted(architectures)), (Firmware.UEFI,), variables)
    tree = json.loads(json.dumps(write_tree(sequence)))
    assert read_tree(tree, lambda path: 0) == (sequence, ())


RESTART = {"name": "r", "do": "restart"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "a b"}, "name: sequence 'a b': expected 1 to 50 of"),
        ({"name": "x" * 51}, "name: sequence '" + "x" * 51),
        ({"name": None}, "name is missing"),
        ({"description": "x" * 257}, "description: 257 characters, expected at most 256"),
        ({"time_limit_s": 0}, "time_limit_s: 0: expected a whole number from 1 to 604800"),
        ({"architectures": ["mips"]}, 'architectures: "mips": expected one of "x64", "arm64"'),
        ({"firmware": "uefi"}, "expected a list of texts"),
        ({"variables": 5}, "variables: 5: expected a table"),
        ({"variables": {"_A": "x"}}, "read-only"),
        ({"variables": {"A": 5}}, "variables: A: 5: expected a text in quotes"),
        ({"variables": {"A": "x", "a": "y"}}, "variable 'a' is there already in another case"),
        ({"variables": {"A": "x" * 4001}}, "4001 characters"),
        ({"steps": []}, "steps: unknown key; expected one of name"),
        ({"step": []}, "no step: expected [[step]] for each"),
        ({"step": RESTART}, "expected [[step]] for each"),
        ({"step": [5]}, "step 1: 5: expected a table"),
        ({"step": [RESTART | {"name": ""}]}, "step 1: name: empty"),
        ({"step": [RESTART | {"name": "x" * 51}]}, "at most 50"),
        ({"step": [{"name": "x"}]}, "step 1 (x): do is missing: expected one of partition_disk"),
        ({"step": [RESTART | {"do": "dance", "partner": 1}]}, 'step 1 (r): do: "dance": expected one of'),
        ({"step": [RESTART | {"step": [RESTART]}]}, "a step with steps of its own"),
        ({"step": [RESTART | {"retries": 101}]}, "retries: 101"),
        ({"step": [RESTART | {"condition": {"file": 5}}]}, "step 1 (r): condition: file: 5: expected a text"),
        ({"step": [RESTART | {"condition": "x64"}]}, 'step 1 (r): condition: "x64": expected a table'),
        ({"step": [{"name": "g", "retries": 1, "step": [RESTART]}]}, "step 1 (g): retries: unknown key"),
        ({"step": [{"name": "g", "step": [RESTART, RESTART | {"to": "x"}]}]}, "step 1.2 (r): to: "),
        ({"step": [{"name": "g", "step": []}]}, "step 1 (g): no step"),
        ({"step": [RESTART] * 1001}, "step: more than 1000 steps and groups"),
    ],
)
def test_each_thing_that_is_wrong_is_told_once(change: dict[str, Any], told: str) -> None:
    tree = {"name": "t", "step": [RESTART]} | change
    sequence, problems = read_tree({key: value for key, value in tree.items() if value is not None}, lambda path: 1)
    assert sequence is None
    assert len(problems) == 1
    assert told in tell(problems[0])


def test_groups_are_inside_each_other_at_most_eight_deep() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return RESTART if depth == 1 else {"name": "g", "step": [nested(depth - 1)]}

    assert read_tree({"name": "t", "step": [nested(8)]}, lambda path: 1)[0]
    assert "at most 8 inside" in tell(read_tree({"name": "t", "step": [nested(9)]}, lambda path: 1)[1][0])


def test_no_tables_at_all_are_told() -> None:
    assert "expected a table" in tell(read_tree([], lambda path: 0)[1][0])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["restart", "esp"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "step", "do", "condition", "any", "none", "variable", "equals", "partitions", "variables"]
            ),
            inside,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(_JSON)
def test_whatever_tables_say_is_a_sequence_or_told(tree: Any) -> None:
    sequence, problems = read_tree(tree, lambda path: 0)
    assert (sequence is None) == bool(problems)
    inside, told = read_tree(
        {"name": "x", "step": [{"name": "y", "do": "restart", "condition": tree}, tree]}, lambda path: 0
    )
    assert (inside is None) == bool(told)
