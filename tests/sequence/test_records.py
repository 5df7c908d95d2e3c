# SPDX-License-Identifier: Apache-2.0
"""The tree of a task sequence, walked."""

from __future__ import annotations

import pytest

from dpd.sequence.records import Group, Step, StepKind, TaskSequence


def step(place: str, **keys: object) -> Step:
    return Step(place, f"step {place}", StepKind.RESTART, keys)  # type: ignore[arg-type]


TREE = TaskSequence(
    "t",
    (
        step("1", package="LAB00001"),
        Group("2", "g", (Group("2.1", "h", (step("2.1.1", package="LAB00001"),)), step("2.2", package="%Image%"))),
        step("3", package="LAB00002", codes=(0, 3), names=("a", "b"), tables=({"x": 1},), yes=True, text=5),
        step("4", package=""),
    ),
)


def test_a_group_comes_before_its_members_and_all_in_their_order() -> None:
    assert [each.id for each in TREE.walk()] == ["1", "2", "2.1", "2.1.1", "2.2", "3", "4"]
    assert [each.id for each in TREE.steps()] == ["1", "2.1.1", "2.2", "3", "4"]


def test_packages_are_those_that_are_known_before_a_run() -> None:
    assert TREE.packages() == ("LAB00001", "LAB00002")


def test_keys_come_in_their_types() -> None:
    third = TREE.steps()[3]
    assert third.text("package") == "LAB00002"
    assert third.wholes("codes") == (0, 3)
    assert third.texts("names") == ("a", "b")
    assert third.tables("tables") == ({"x": 1},)
    assert third.flag("yes")
    assert third.whole("text") == 5
    with pytest.raises(KeyError):
        third.text("other")
