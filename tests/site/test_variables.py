# SPDX-License-Identifier: Apache-2.0
"""Variables: which may be kept, whose a machine gets, and that no text shows a secret one."""

from __future__ import annotations

import pytest

from dpd.site.model import SiteModel
from dpd.site.model_checks import examine
from dpd.site.records import Collection, Computer, SiteConflict, SiteError, SiteNotFound, Variable
from dpd.site.variables import (
    MAX_VARIABLES,
    VariableMap,
    check_sequence,
    check_variable_name,
    normal_variable,
    targets_for,
    targets_of,
)

TARGETS = targets_of(["PC-1"], ["Lab", "Alpha"])


def test_a_target_is_written_as_what_it_names() -> None:
    assert normal_variable(Variable("COLLECTION:lab", "Zone", "x"), TARGETS).target == "collection:Lab"
    assert normal_variable(Variable("pc-1", "Zone", "x"), TARGETS).target == "PC-1"
    assert normal_variable(Variable("ALL", "Zone", "x"), TARGETS).target == "all"


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (Variable("PC-2", "Zone", "x"), "no computer PC-2; `dpd computer list`"),
        (Variable("collection:none", "Zone", "x"), "no collection none; `dpd collection list`"),
        (Variable("PC-1", "1st", "x"), "beginning with a letter"),
        (Variable("PC-1", "_Mine", "x"), "names that begin with _ are read-only"),
        (Variable("PC-1", "n" * 257, "x"), "1 to 256"),
        (Variable("PC-1", "Zone", "x" * 4001), "expected at most 4000"),
        (Variable("PC-1", "Zone", "a\0b"), "no NUL"),
        (Variable("PC-1", "Pass", "", secret=True), "is secret and has no value yet"),
    ],
)
def test_what_cannot_be_is_told_with_what_was_expected(variable: Variable, words: str) -> None:
    with pytest.raises(SiteError, match=words):
        normal_variable(variable, TARGETS)


def test_a_secret_that_is_too_long_is_not_told() -> None:
    with pytest.raises(SiteError) as refused:
        normal_variable(Variable("PC-1", "Pass", "hunter2" * 1000, secret=True), TARGETS)
    assert "hunter2" not in str(refused.value)


def test_no_text_of_a_secret_variable_has_its_value() -> None:
    secret = Variable("PC-1", "Pass", "hunter2", secret=True)
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert "hunter2" in repr(Variable("PC-1", "Pass", "hunter2"))


def test_the_nearer_one_counts_whatever_its_case() -> None:
    found = VariableMap.of(
        [
            Variable("all", "zone", "everywhere"),
            Variable("all", "Lang", "en"),
            Variable("collection:Alpha", "ZONE", "alpha"),
            Variable("collection:Lab", "Zone", "lab"),
            Variable("PC-1", "Owner", "me"),
            Variable("unknown", "Zone", "nowhere"),
        ]
    )
    said = [(each.target, each.name, each.value) for each in found.merged(targets_for("PC-1", ["Lab", "Alpha"]))]
    assert said == [("all", "Lang", "en"), ("PC-1", "Owner", "me"), ("collection:Lab", "Zone", "lab")]
    assert [each.value for each in found.merged(targets_for("", []))] == ["nowhere"]


def test_a_machine_gets_no_more_than_the_limit() -> None:
    many = [Variable("all", f"A{number}", "") for number in range(MAX_VARIABLES)]
    assert len(VariableMap.of(many).merged(targets_for("PC-1", []))) == MAX_VARIABLES
    with pytest.raises(SiteConflict, match="1001 variables come together"):
        VariableMap.of([*many, Variable("PC-1", "B", "")]).merged(targets_for("PC-1", []))


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(SiteNotFound, match="no variable Zone for PC-1"):
        VariableMap.of([]).find("PC-1", "Zone")


def test_a_model_with_too_many_or_twice_the_same_is_refused() -> None:
    computers, lab = (Computer("PC-1", ("52:54:00:00:00:0a",)),), (Collection("lab"),)
    many = tuple(Variable("collection:lab", f"A{number}", "") for number in range(MAX_VARIABLES + 1))
    model = SiteModel(computers, lab, variables=(*many, Variable("PC-1", "Zone", "1"), Variable("pc-1", "ZONE", "2")))
    problems = [each.message for each in examine(model)[1]]
    assert problems == [
        "variable ZONE for PC-1: given more than once",
        "collection:lab: has 1000 variables, and no more are taken",
    ]


def test_a_sequence_is_named_with_or_without_a_version() -> None:
    assert [check_sequence(each) for each in ("", " debian ", "win-11@3")] == ["", "debian", "win-11@3"]
    for wrong in ("debian@0", "debian@", "@3", "a b", "debian@latest"):
        with pytest.raises(SiteError, match="expected"):
            check_sequence(wrong)


def test_names_are_those_of_the_original() -> None:
    assert check_variable_name("OSDComputerName") == "OSDComputerName"
