# SPDX-License-Identifier: Apache-2.0
"""What a declaration would change: what it speaks of and nothing else, field by field, and what stands against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpd.site.declaration import read_declaration
from dpd.site.model import SiteModel
from dpd.site.model_changes import Action, Change, FieldChange
from dpd.site.model_checks import normal_model
from dpd.site.model_plan import ModelPlan, plan_model
from dpd.site.records import (
    ApprovalRule,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    RuleKind,
    Variable,
)
from dpd.site.sequences import SequenceVersion

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"
OLD = normal_model(
    SiteModel(
        computers=(Computer("PC-1", (A,), added_at=1.0), Computer("PC-2", (B,), added_at=2.0)),
        collections=(
            Collection("lab", ("PC-1", "PC-2"), added_at=3.0),
            Collection("rest", (), (MembershipRule(MemberKind.NAME, "*"),), exclude=("lab",), added_at=3.0),
        ),
        deployments=(
            Deployment(5, "collection:lab", "LAB5", Purpose.REQUIRED, added_at=4.0, name="win"),
            Deployment(6, "PC-2", "", Purpose.AVAILABLE, added_at=5.0),
        ),
        boundaries=(Boundary("10.1.0.0/16", ("hq",)),),
        points=(Point("hq"), Point("branch")),
        rules=(ApprovalRule(2, RuleKind.MAC_PREFIX, "00:15", 6.0),),
        maintenance="move",
    )
)


def plan(text: str, old: SiteModel = OLD, images: tuple[str, ...] = ()) -> ModelPlan:
    return plan_model(old, read_declaration(text), lambda image: image in ("", *images))


def told(found: ModelPlan) -> list[tuple[int, str, str]]:
    return [(each.line, each.key, each.message) for each in found.problems]


def test_a_file_that_says_nothing_changes_nothing() -> None:
    found = plan("")
    assert (found.model, found.changes, found.unchanged, found.problems) == (OLD, (), 10, ())


def test_what_a_file_does_not_speak_of_stays_and_what_it_lacks_of_the_rest_goes() -> None:
    found = plan('[[rule]]\nkind = "mac_prefix"\nvalue = "00:16"\n')
    assert found.changes == (
        Change("rule", "mac_prefix 00:16", Action.ADDED, ()),
        Change("rule", "mac_prefix 00:15", Action.REMOVED, ()),
    )
    assert replace(found.model, rules=OLD.rules) == OLD
    assert found.unchanged == 9
    assert plan("owns = ['rule']").model.rules == ()


def test_a_file_that_adds_to_a_kind_removes_nothing_of_it() -> None:
    text = f'adds_to = ["computer"]\n[[computer]]\nname = "PC-3"\nmacs = ["{C}"]\n[[computer]]\nname = "PC-2"\nmacs = ["{B}"]\nboot_image = "LAB7"\n'
    found = plan(text, images=("LAB7",))
    assert found.changes == (
        Change("computer", "PC-2", Action.CHANGED, (FieldChange("boot_image", "", "LAB7"),)),
        Change("computer", "PC-3", Action.ADDED, (FieldChange("macs", None, (C,)),)),
    )
    assert [each.name for each in found.model.computers] == ["PC-1", "PC-2", "PC-3"]


def test_what_is_known_keeps_its_number_and_its_moment() -> None:
    text = (
        '[[deployment]]\nname = "WIN"\ntarget = "collection:LAB"\nboot_image = "LAB6"\npurpose = "required"\n'
        '[[deployment]]\ntarget = "pc-2"\npurpose = "available"\n'
    )
    found = plan(text, images=("LAB6",))
    assert found.problems == ()
    assert found.changes == (
        Change(
            "deployment",
            "win",
            Action.CHANGED,
            (FieldChange("boot_image", "LAB5", "LAB6"), FieldChange("name", "win", "WIN")),
        ),
    )
    one, other = found.model.deployments
    assert (one.id, one.added_at, one.target, one.boot_image) == (5, 4.0, "collection:lab", "LAB6")
    assert other == OLD.deployments[1]


def test_a_deployment_without_a_name_that_says_something_else_is_another_one() -> None:
    found = plan('adds_to = ["deployment"]\n[[deployment]]\ntarget = "PC-2"\npurpose = "available"\npriority = 3\n')
    fields = (
        FieldChange("target", None, "PC-2"),
        FieldChange("purpose", None, "available"),
        FieldChange("priority", None, 3),
    )
    assert found.changes == (Change("deployment", "available default boot image for PC-2", Action.ADDED, fields),)
    assert [each.id for each in found.model.deployments] == [5, 6, 0]


def test_of_deployments_that_are_alike_as_many_stay_as_are_declared() -> None:
    table = '[[deployment]]\ntarget = "all"\npurpose = "available"\n'
    alike = tuple(Deployment(id, "all", "", Purpose.AVAILABLE, added_at=1.0) for id in (2, 3, 4))
    found = plan(table * 2, SiteModel(deployments=alike))
    assert [each.id for each in found.model.deployments] == [2, 3]
    assert [each.action for each in found.changes] == [Action.REMOVED]
    assert found.unchanged == 2


def test_what_there_is_one_of_changes_too() -> None:
    found = plan('maintenance = ""')
    assert found.changes == (Change("site", "maintenance", Action.CHANGED, (FieldChange("maintenance", "move", ""),)),)
    assert (found.model.maintenance, found.unchanged) == ("", 10)


def test_membership_rules_and_what_goes_are_shown() -> None:
    found = plan(
        'owns = ["collection"]\n[[deployment]]\nname = "win"\ntarget = "all"\nboot_image = "LAB5"\npurpose = "required"\n'
    )
    gone = {each.name: each for each in found.changes if each.action is Action.REMOVED}
    assert gone["rest"].fields == (FieldChange("rules", ("name *",), None), FieldChange("exclude", ("lab",), None))
    assert found.problems == ()


# ---- what stands against it


def test_a_computer_and_a_collection_that_are_spoken_of_cannot_go() -> None:
    text = f"""\
[[computer]]
name = "PC-3"
macs = ["{C}"]
[[collection]]
name = "rest"
exclude = [
  "lab",
]
"""
    other = "declare it, or take it out there too"
    assert told(plan(text)) == [
        (7, "collection.exclude", f"collection lab would be removed, and is still spoken of by collection rest, deployment win; {other}"),
        (0, "deployment.target", f"computer PC-2 would be removed, and is still spoken of by deployment available default boot image for PC-2; {other}"),
    ]  # fmt: skip


def test_with_whatever_speaks_of_it_a_computer_goes() -> None:
    found = plan('owns = ["computer", "collection", "deployment"]')
    assert found.problems == ()
    assert (found.model.computers, found.model.collections, found.model.deployments) == ((), (), ())


def test_what_never_was_is_told_in_its_line() -> None:
    text = """\
adds_to = ["collection"]
[[collection]]
name = "new"
computers = [
  "PC-1",
  "PC-9",
]
include = ["none"]
[[deployment]]
name = "x"
purpose = "available"
target = "PC-8"
[[boundary]]
network = "10.0.0.0/8"
points = ["hq", "moon"]
"""
    there = "expected one that this file declares, or that is there already"
    assert told(plan(text)) == [
        (6, "collection.computers", f"no computer PC-9; {there}"),
        (8, "collection.include", f"no collection none; {there}"),
        (12, "deployment.target", f"no computer PC-8; {there}"),
        (15, "boundary.points", f"no point moon; {there}"),
    ]


def test_what_a_table_with_problems_names_is_missed_by_nobody() -> None:
    text = '[[computer]]\nname = "PC-2"\nmacs = ["zz"]\n[[computer]]\nname = "PC-1"\nmacs = []\n'
    assert [(line, key) for line, key, _ in told(plan(text))] == [(3, "computer.macs"), (4, "computer")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f'adds_to = ["computer"]\n[[computer]]\nname = "PC-3"\nmacs = ["{A}"]\n', 2, f"computer PC-3: {A} is PC-1's already"),
        ('adds_to = ["collection"]\n[[collection]]\nname = "lab"\ninclude = ["rest"]\n', 2, "in a circle"),
        ('adds_to = ["collection"]\n[[collection]]\nname = "self"\ninclude = ["self"]\n', 2, "not itself"),
        ('adds_to = ["computer"]\n[[computer]]\nname = "PC-1"\nboot_image = "LAB9"\nguid = "4c4c4544-0044-3510-8052-b4c04f4e4d31"', 4, "no boot image LAB9; `dpd boot-image list`"),
        ('[[deployment]]\nname = "win"\ntarget = "all"\npurpose = "required"\nboot_image = "LAB9"\n', 5, "no boot image LAB9; `dpd boot-image list`"),
    ],
)  # fmt: skip
def test_what_cannot_be_together_is_told_in_the_things_line(text: str, line: int, message: str) -> None:
    ((told_line, _, words),) = told(plan(text))
    assert message in words
    assert told_line == line


def test_a_boot_image_that_is_gone_keeps_nobody_from_changing_something_else() -> None:
    text = '[[deployment]]\nname = "win"\ntarget = "collection:lab"\nboot_image = "LAB5"\npurpose = "required"\npriority = 9\n'
    found = plan(text + '[[deployment]]\ntarget = "PC-2"\npurpose = "available"\n')
    assert found.problems == ()
    assert found.changes[0].fields == (FieldChange("priority", 0, 9),)


def test_problems_of_the_file_and_of_the_site_are_told_together() -> None:
    text = f'[[computer]]\nname = "PC-1"\nmacs = ["{A}", "x"]\n[[computer]]\nname = "PC-2"\nmacs = ["{C}"]\n[[computer]]\nname = "PC-3"\nmacs = ["{C}"]\n[[boundary]]\nnetwork = "::/0"\npoints = ["moon"]\n'
    assert [(line, key) for line, key, _ in told(plan(text))] == [
        (3, "computer.macs"),
        (7, "computer"),
        (12, "boundary.points"),
    ]


WITH_SECRET = normal_model(
    replace(OLD, variables=(Variable("PC-1", "Pass", "hunter2", secret=True), Variable("all", "Zone", "Berlin")))
)


def test_a_secret_variable_without_a_value_keeps_the_one_it_has() -> None:
    text = '[[variable]]\ntarget = "pc-1"\nname = "PASS"\nsecret = true\n'
    found = plan(text, WITH_SECRET)
    assert found.problems == ()
    assert found.model.variables == (Variable("PC-1", "PASS", "hunter2", secret=True),)
    assert told(plan(text)) == [(1, "variable", "variable PASS for PC-1: is secret and has no value yet; expected one")]


def test_no_plan_shows_a_secret_value() -> None:
    text = '[[variable]]\ntarget = "PC-1"\nname = "Pass"\nvalue = "swordfish"\nsecret = true\n'
    changed, removed = plan(text, WITH_SECRET).changes
    assert changed.fields == (FieldChange("value", "••••", "••••"),)
    assert (removed.name, removed.action) == ("Zone for all", Action.REMOVED)
    for found in (plan(text), plan(text, WITH_SECRET), plan("owns = ['variable']", WITH_SECRET)):
        assert "hunter2" not in repr(found.changes)
        assert "swordfish" not in repr(found.changes)
    assert plan(text, WITH_SECRET).model.variables[0].value == "swordfish"


def test_variables_go_with_a_computer_that_goes_and_are_told() -> None:
    old = normal_model(SiteModel(computers=OLD.computers, variables=(Variable("PC-1", "Zone", "Rome"),)))
    found = plan('owns = ["computer"]', old)
    assert found.problems == ()
    assert [(each.kind, each.name, each.action) for each in found.changes][-1] == (
        "variable",
        "Zone for PC-1",
        Action.REMOVED,
    )


def test_a_variable_for_what_is_not_there_is_told_with_its_line() -> None:
    text = '[[variable]]\ntarget = "PC-9"\nname = "Zone"\nvalue = "x"\n\n[[variable]]\ntarget = "all"\nname = "b"\n'
    assert told(plan(text)) == [
        (2, "variable.target", "no computer PC-9; expected one that this file declares, or that is there already"),
        (6, "variable", 'value is missing; expected value = "..."'),
    ]


def test_another_sequence_is_a_change_of_the_deployment() -> None:
    text = '[[deployment]]\nname = "win"\ntarget = "collection:lab"\nboot_image = "LAB5"\npurpose = "required"\nsequence = "debian@3"\n'
    debian = SequenceVersion("debian", 3, "", 1, 1.0, "anna", "")
    old = normal_model(replace(OLD, deployments=OLD.deployments[:1], sequences=(debian,)))
    assert [each.fields for each in plan(text, old).changes] == [(FieldChange("sequence", "", "debian@3"),)]
