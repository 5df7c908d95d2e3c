# SPDX-License-Identifier: Apache-2.0
"""What a declaration makes of task sequences, and what stands against it."""

from __future__ import annotations

from dataclasses import replace

from dpd.site.declaration import read_declaration
from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.model_plan import ModelPlan, plan_model
from dpd.site.records import Deployment, Purpose
from dpd.site.sequences import SequenceNumber, SequenceVersion, read_checked, version_of


def text(command: str, name: str = "debian") -> str:
    return f'name = "{name}"\n[[step]]\nname = "Command"\ndo = "run_command_line"\ncommand = "{command}"\n'


def published(version: int, command: str) -> SequenceVersion:
    return version_of(read_checked(text(command), None), version, text(command), 5.0, "anna")


def table(command: str, version: int = 0, name: str = "debian") -> str:
    number = f"version = {version}\n" if version else ""
    return f"[[sequence]]\nname = \"{name}\"\n{number}text = '''\n{text(command, name)}'''\n"


OLD = normal_model(
    SiteModel(
        sequences=(published(1, "a"), published(3, "c")),
        deployments=(Deployment(2, "all", "", Purpose.REQUIRED, name="lab", sequence="debian@1"),),
    )
)


def plan(declaration: str, old: SiteModel = OLD) -> ModelPlan:
    return plan_model(old, read_declaration(declaration), lambda image: True)


def told(declaration: str, old: SiteModel = OLD) -> list[tuple[int, str, str]]:
    return [(each.line, each.key, each.message) for each in plan(declaration, old).problems]


def versions(found: ModelPlan) -> list[tuple[int, str]]:
    assert found.problems == ()
    return [(each.version, each.actor) for each in found.model.sequences]


def test_without_a_number_another_text_is_the_next_version_and_all_stay() -> None:
    assert versions(plan(table("d"))) == [(1, "anna"), (3, "anna"), (4, "")]
    assert plan(table("d")).changes[0].name == "debian@4"
    assert versions(plan(table("c"))) == [(1, "anna"), (3, "anna")]
    assert plan(table("c")).changes == ()
    assert versions(plan(table("a"))) == [(1, "anna"), (3, "anna"), (4, "")]


def test_with_numbers_the_file_is_all_there_is_and_the_numbers_stay_used() -> None:
    found = plan(table("a", 1) + table("f", 7))
    assert versions(found) == [(1, "anna"), (7, "")]
    assert found.model.sequence_numbers == (SequenceNumber("debian", 7),)
    gone = plan(table("a", 1))
    assert versions(gone) == [(1, "anna")]
    assert gone.model.sequence_numbers == (SequenceNumber("debian", 3),)
    assert versions(plan('adds_to = ["sequence"]\n' + table("f", 7))) == [(1, "anna"), (3, "anna"), (7, "")]


def test_a_number_is_never_given_twice() -> None:
    assert told(table("x", 3) + table("a", 1)) == [
        (4, "sequence.text", "debian@3 is another text, and no number is given twice; publish as version 4")
    ]
    assert told(table("x", 2) + table("a", 1))[0][2].startswith("debian@2 was removed or left out")
    assert told(table("x") + table("y", 4))[0][2] == "debian@4 is declared twice, by its number and as the newest; expected once"  # fmt: skip


def test_what_is_deployed_does_not_go() -> None:
    assert told(table("c", 3)) == [
        (
            0,
            "deployment.sequence",
            "task sequence debian@1 would be removed, and is still deployed by this; declare it, or another one here",
        )
    ]
    assert told('owns = ["sequence"]')[0][2].startswith("task sequence debian@1 would be removed")
    assert versions(plan('owns = ["sequence", "deployment"]')) == []


def test_what_is_newly_deployed_is_there_or_in_the_file() -> None:
    deploys = 'adds_to = ["sequence", "deployment"]\n[[deployment]]\nname = "x"\ntarget = "all"\npurpose = "available"\nsequence = "arch"\n'
    assert told(deploys) == [
        (
            6,
            "deployment.sequence",
            "no task sequence arch; expected one that this file declares, or that `dpd sequence list` shows",
        )
    ]
    assert told(deploys + table("a", name="arch")) == []
    unknown = replace(OLD, deployments=(replace(OLD.deployments[0], sequence="gone"),))
    assert told('maintenance = "x"', unknown) == []  # it was so before


def test_what_is_wrong_with_a_text_is_told_with_its_line_in_it() -> None:
    wrong = table("d").replace("run_command_line", "run")
    line, key, message = told(wrong)[0]
    assert (line, key) == (3, "sequence.text")
    assert message.startswith("line 4: step 1 (Command): do: ")
    assert told(table("d", name="arch").replace('name = "arch"', 'name = "other"', 1)) == [
        (3, "sequence.text", "is of task sequence arch; expected the name of the table")
    ]
    assert told('[[sequence]]\nname = "a b"\ntext = ""\n')[0][:2] == (2, "sequence.name")
