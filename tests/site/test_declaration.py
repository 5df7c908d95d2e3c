# SPDX-License-Identifier: Apache-2.0
"""Declarations as they are read: what they speak of, and everything that is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.site.declaration import Declaration, Kind, key_of, label_of, read_declaration
from dpd.site.model import SiteModel
from dpd.site.model_plan import plan_model
from dpd.site.records import ApprovalRule, Boundary, Computer, Deployment, Purpose, RuleKind

A = "52:54:00:00:00:0a"


def told(text: str) -> list[tuple[int, str, str]]:
    return [(each.line, each.key, each.message) for each in read_declaration(text).problems]


def test_a_file_speaks_of_the_kinds_that_it_has_tables_of_or_owns() -> None:
    read = read_declaration(f'owns = ["boundary"]\n[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n')
    assert read.problems == ()
    assert dict(read.said) == {Kind.COMPUTER: (Computer("PC-1", (A,)),), Kind.BOUNDARY: ()}
    assert read.owned == {Kind.COMPUTER, Kind.BOUNDARY}
    assert read.maintenance is None


def test_a_file_may_only_add_to_a_kind() -> None:
    read = read_declaration(f'adds_to = ["computer"]\n[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n')
    assert read.problems == ()
    assert (list(read.said), read.owned) == ([Kind.COMPUTER], frozenset())


def test_what_there_is_one_of_is_spoken_of_by_its_key() -> None:
    read = read_declaration('maintenance = ""')
    assert (read.maintenance, read.problems) == ("", ())


def test_a_mark_of_utf_8_before_the_text_is_not_part_of_it() -> None:
    assert read_declaration("\ufeffowns = ['rule']").problems == ()


def test_an_empty_file_says_nothing() -> None:
    read = read_declaration("# nothing")
    assert (dict(read.said), read.owned, read.problems) == ({}, frozenset(), ())


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    text = """\
owns = ["point", "potato"]
adds_to = ["point"]
maintenance = 3

[[computer]]
name = "PC-1"
macs = [
  "52:54:00:00:00:0a",
  "zz",
]

[[computer]]
name = "pc-1"
mac = "52:54:00:00:00:0b"
[deployment]
target = "all"

[[deploy]]
[[rule]]
kind = "network"
value = "10.0.0.1/8"
"""
    assert [(line, key) for line, key, _ in told(text)] == [
        (1, "owns"),
        (2, "adds_to"),
        (3, "maintenance"),
        (9, "computer.macs"),
        (12, "computer"),
        (12, "computer"),
        (14, "computer.mac"),
        (15, "deployment"),
        (18, "deploy"),
        (21, "rule.value"),
    ]
    messages = [message for _, _, message in told(text)]
    assert (
        messages[0]
        == '"potato": expected one of computer, collection, deployment, boundary, point, rule, variable, sequence'
    )
    assert messages[1] == '"point" is in owns too; expected in one of them'
    assert "pc-1 is there already, in line 5; expected once" in messages
    assert messages[7] == "expected [[deployment]] for each, with two brackets"
    assert messages[8].startswith("unknown key; expected one of owns, adds_to, maintenance, computer,")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nx = ", 2, "not TOML: "),
        ("a = 1\na = 2\nb = 1", 2, "not TOML: "),
        ("a = 1\n[[computer]\n", 2, "not TOML: "),
        ("x = " + "[" * 5000 + "]" * 5000, 1, "a number of too many digits, or nested too deep; "),
        ("x = " + "9" * 5000, 1, "a number of too many digits, or nested too deep; "),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str, line: int, message: str) -> None:
    ((told_line, key, words),) = told(text)
    assert (told_line, key) == (line, "")
    assert words.startswith(message)


def test_two_deployments_without_a_name_may_be_alike() -> None:
    one = '[[deployment]]\ntarget = "all"\npurpose = "available"\n'
    read = read_declaration(one * 2)
    assert (read.problems, len(read.said[Kind.DEPLOYMENT])) == ((), 2)


def test_a_problem_that_comes_to_light_later_is_told_in_the_things_line() -> None:
    read = read_declaration(f'[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n')
    problem = read.problem(Kind.COMPUTER, "pc-1", ("macs", 0), "is taken")
    assert (problem.line, problem.key, problem.message) == (3, "computer.macs", "is taken")
    assert read.problem(Kind.COMPUTER, "pc-2", (), "x").line == 0


def test_what_a_table_with_problems_names_is_known() -> None:
    read = read_declaration('[[computer]]\nname = "PC-1"\n')
    assert read.unread == {(Kind.COMPUTER, "pc-1")}
    assert dict(read.said) == {Kind.COMPUTER: ()}


def test_things_are_known_by_what_people_call_them() -> None:
    deployment = Deployment(4, "PC-1", "LAB5", Purpose.REQUIRED)
    assert key_of(deployment) == key_of(Deployment(9, "pc-1", "LAB5", Purpose.REQUIRED, added_at=3.0))
    assert key_of(deployment) != key_of(Deployment(4, "PC-1", "LAB6", Purpose.REQUIRED))
    assert label_of(deployment) == "required LAB5 for PC-1"
    assert (key_of(Deployment(1, "all", "", Purpose.REQUIRED, name="Win")), key_of(Computer("PC-1", (A,)))) == (
        "win",
        "pc-1",
    )
    assert label_of(Boundary("10.0.0.0/8", ("a",))) == "10.0.0.0/8"
    assert label_of(ApprovalRule(2, RuleKind.MAC_PREFIX, "00:15")) == "mac_prefix 00:15"


def test_the_example_is_a_declaration_that_a_new_site_takes() -> None:
    example = Path(__file__).parents[2] / "config" / "site.example.toml"
    plan = plan_model(SiteModel(), read_declaration(example.read_text()), lambda image: True)
    assert plan.problems == ()
    assert {each.kind for each in plan.changes} == set(Kind) - {Kind.RULE}


_VALUES = st.recursive(
    st.sampled_from(["1", '"x"', "true", "1.5", "nan", "2026-01-01", '"all"', '"name"', '""']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: "[" + ", ".join(each) + "]") | st.just('{ kind = "name" }')
    ),
    max_leaves=4,
)
_KEYS = st.sampled_from(
    [
        "name",
        "macs",
        "guid",
        "target",
        "purpose",
        "rules",
        "value",
        "kind",
        "points",
        "network",
        "expires_at",
        "x",
        "include",
    ]
)
_HEADS = st.sampled_from([f"[[{kind}]]" for kind in Kind] + ["[computer]", "[[collection.rules]]", "[other]"])


@settings(deadline=None)
@given(st.lists(st.tuples(_HEADS, st.dictionaries(_KEYS, _VALUES, max_size=4)), max_size=5))
def test_any_toml_is_a_declaration_or_has_problems_within_its_lines(parts: list[tuple[str, dict[str, str]]]) -> None:
    text = "".join(head + "\n" + "".join(f"{key} = {value}\n" for key, value in pairs.items()) for head, pairs in parts)
    read: Declaration = read_declaration(text)
    assert all(1 <= each.line <= max(1, text.count("\n")) and each.message for each in read.problems), text


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_without_a_fault(text: str) -> None:
    read_declaration(text)


@pytest.mark.parametrize(
    "key",
    [
        ".".join(["a"] * 400_000),
        " . ".join(['"a b"', "'c'"] * 100_000),
        "computer." + ".".join(["\t-_"] * 100_000),
        ".".join([r'"\""'] * 100_000),
    ],
)
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
def test_a_key_that_would_keep_the_parser_for_minutes_is_refused_before(key: str, form: str) -> None:
    (problem,) = read_declaration('[[point]]\nname = "a"\n' + form.format(key)).problems
    assert (problem.line, problem.message) == (3, "nested too deep; expected keys of a few parts")


@pytest.mark.parametrize("text", ["a" * 2_000_000, '"' * 1_000_000, "a-" * 1_000_000, "' \t" * 500_000, "a. " * 15])
def test_the_look_for_such_keys_takes_no_time_of_its_own(text: str) -> None:
    assert [each.line for each in read_declaration(f"maintenance = 1\n# {text}\n").problems] == [1]
