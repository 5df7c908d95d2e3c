# SPDX-License-Identifier: Apache-2.0
"""The rules of variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.sequence.variables import (
    BUILT_IN,
    HIDDEN,
    MAX_VARIABLES,
    Variable,
    VariableError,
    Variables,
    check_name,
    checked,
    merge,
    uses,
)


@pytest.mark.parametrize("name", ["A", "OSDComputerName", "a-b_9", "x" * 256])
def test_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "9a", "-a", "a b", "ä", "x" * 257, "a\n", "_DPDStep", "%A%"])
def test_no_name_for_people_to_give(name: str) -> None:
    with pytest.raises(VariableError, match="expected"):
        check_name(name)


@pytest.mark.parametrize("value", ["x" * 4001, "a\0b", "\ud800"])
def test_a_value_that_cannot_be_is_refused_without_being_told(value: str) -> None:
    with pytest.raises(VariableError) as refused:
        checked("Key", value)
    assert "Key" in str(refused.value)
    assert value not in str(refused.value)


def test_a_longest_value_is_taken() -> None:
    assert checked("A", "ü" * 4000).value == "ü" * 4000


def test_a_secret_one_is_never_shown() -> None:
    variable = Variable("Password", "hunter2", secret=True)
    assert "hunter2" not in f"{variable} {variable!r} {[variable]} {(variable,)!r}"
    assert str(variable) == f"Password={HIDDEN}"
    assert str(Variable("A", "b")) == "A=b"


def test_the_later_layer_counts_and_a_secret_stays_one() -> None:
    collection = [Variable("Domain", "old.example"), Variable("Key", "k1", secret=True), Variable("Only", "c")]
    computer = [Variable("DOMAIN", "new.example"), Variable("key", "k2")]
    assert merge(collection, computer) == (
        Variable("DOMAIN", "new.example"),
        Variable("key", "k2", secret=True),
        Variable("Only", "c"),
    )


def test_there_are_at_most_a_thousand() -> None:
    many = [Variable(f"V{place}", "") for place in range(MAX_VARIABLES)]
    assert len(merge(many, many)) == MAX_VARIABLES
    with pytest.raises(VariableError, match="1001 variables, expected at most 1000"):
        merge(many, [Variable("Another", "")])


def test_a_run_sets_at_most_as_many_beside_the_engine_s() -> None:
    variables = Variables()
    for place in range(MAX_VARIABLES + len(BUILT_IN)):
        variables.put(f"V{place}", "x")
    with pytest.raises(VariableError, match="as many as may"):
        variables.put("Another", "x")
    variables.put("V0", "y")


def test_names_are_in_any_case() -> None:
    variables = Variables([Variable("OSDisk", "/dev/sda")])
    variables.put("osdisk", "/dev/vda")
    assert "OSDISK" in variables
    assert variables.get("OsDisk") == "/dev/vda"
    assert list(variables) == [Variable("OSDisk", "/dev/vda")]


def test_only_the_engine_sets_what_documents_read() -> None:
    variables = Variables()
    variables.put_built_in("_DPDStep", "Restart")
    assert variables.substitute("at %_dpdstep%") == "at Restart"
    with pytest.raises(VariableError, match="read-only"):
        variables.put("_DPDStep", "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%A%/%b%", "one/%A%"),
        ("100%", "100%"),
        ("100%%", "100%"),
        ("%%A%%", "%A%"),
        ("% A %", "% A %"),
        ("50% of %A%", "50% of one"),
        ("%A%%A%", "oneone"),
        ("", ""),
    ],
)
def test_substitution(text: str, expected: str) -> None:
    assert Variables([Variable("a", "one"), Variable("B", "%A%")]).substitute(text) == expected


def test_a_name_that_is_not_set_is_told() -> None:
    with pytest.raises(VariableError, match=r"%Y%: no such variable; .* write %% for a percent sign"):
        Variables().substitute("date +%Y%m%d")


def test_a_text_does_not_grow_without_bound() -> None:
    with pytest.raises(VariableError, match="more than 1048576 characters"):
        Variables([Variable("A", "x" * 4000)]).substitute("%A%" * 300)


def test_uses_are_told_once_in_any_case() -> None:
    assert uses("%A% %a% %%B%% %C%") == ("A", "C")


def test_what_a_secret_held_stays_hidden_after_it_changed() -> None:
    variables = Variables([Variable("Key", "first-key", secret=True)])
    variables.put("KEY", "line one\nline two")
    assert variables.mask("first-key, then line two") == f"{HIDDEN}, then {HIDDEN}"
    assert next(iter(variables)).secret


def test_a_longer_secret_is_hidden_whole_and_a_very_short_one_hides_nothing() -> None:
    known = [
        Variable("A", "abc", True),
        Variable("B", "abcdef", True),
        Variable("C", "z", True),
        Variable("D", "", True),
    ]
    assert Variables(known).mask("abcdef abc z") == f"{HIDDEN} {HIDDEN} z"


@given(st.text())
def test_any_text_with_its_percent_signs_doubled_comes_back(text: str) -> None:
    assert Variables().substitute(text.replace("%", "%%")) == text
