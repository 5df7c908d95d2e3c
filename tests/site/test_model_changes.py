# SPDX-License-Identifier: Apache-2.0
"""What is told of the way from one model to another."""

from __future__ import annotations

from dpd.site.model import SiteModel
from dpd.site.model_changes import Action, Change, FieldChange, compare_models
from dpd.site.records import Boundary, Collection
from dpd.site.sequences import SequenceVersion


def test_another_order_of_members_is_no_change_and_of_points_is_one() -> None:
    one = SiteModel(collections=(Collection("lab", ("a", "b")),), boundaries=(Boundary("10.0.0.0/8", ("x", "y")),))
    other = SiteModel(collections=(Collection("lab", ("b", "a")),), boundaries=(Boundary("10.0.0.0/8", ("y", "x")),))
    assert compare_models(one, other) == (
        Change("boundary", "10.0.0.0/8", Action.CHANGED, (FieldChange("points", ("x", "y"), ("y", "x")),)),
    )


def sequence(version: int, text: str) -> SequenceVersion:
    return SequenceVersion("debian", version, "", version, 1.0, "anna", text)


def test_of_a_sequence_it_is_told_how_much_of_its_text_is_another_and_never_the_text() -> None:
    old = SiteModel(sequences=(sequence(1, "a\nb\n"), sequence(2, "a\nc\n")))
    new = SiteModel(sequences=(sequence(2, "a\nc\n"), sequence(3, "c\nd\ne\n")))
    steps, text = FieldChange("steps", None, 3), FieldChange("text", None, "2 lines come and 1 go since debian@2")
    assert compare_models(old, new) == (
        Change("sequence", "debian@3", Action.ADDED, (steps, text)),
        Change("sequence", "debian@1", Action.REMOVED, (FieldChange("steps", 1, None),)),
    )
    first = compare_models(SiteModel(), SiteModel(sequences=(sequence(1, "a\nb\n"),)))
    assert first[0].fields[1] == FieldChange("text", None, "2 lines")
