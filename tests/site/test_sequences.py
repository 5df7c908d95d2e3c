# SPDX-License-Identifier: Apache-2.0
"""Versions of task sequences as parts of a model: which number a text gets, and what cannot be kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpd.sequence.document import MAX_DOCUMENT_BYTES
from dpd.sequence.records import SequenceConflict
from dpd.sequence.reference import MAX_VERSION
from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.records import Deployment, Purpose, SiteConflict, SiteError
from dpd.site.sequences import MAX_SEQUENCES_BYTES, SequenceNumber, SequenceVersion, naming, number_for

ONE = SequenceVersion("debian", 1, "", 1, 5.0, "anna", "one")
TWO = replace(ONE, version=2, text="two")


def test_a_text_gets_the_next_number_unless_the_newest_says_the_same() -> None:
    there = (TWO, ONE)
    assert number_for("debian", "two", 0, there, 2) == 2
    assert number_for("debian", "one", 0, there, 2) == 3
    assert number_for("debian", "one", 1, there, 2) == 1
    assert number_for("debian", "new", 9, there, 2) == 9
    with pytest.raises(SequenceConflict, match="debian@1 is another text"):
        number_for("debian", "new", 1, there, 2)
    with pytest.raises(SequenceConflict, match="debian@1 was removed or left out"):
        number_for("debian", "one", 1, (TWO,), 2)
    with pytest.raises(SequenceConflict, match="no version is left"):
        number_for("debian", "new", 0, there, MAX_VERSION)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(ONE, name="a b"), "sequence 'a b'"),
        (replace(ONE, version=0), "expected a version from 1"),
        (replace(ONE, steps=-1), "task sequence debian@1"),
        (replace(ONE, description="x" * 257), "description: expected at most 256"),
        (replace(ONE, text="x" * (MAX_DOCUMENT_BYTES + 1)), "text: expected at most"),
    ],
)
def test_what_cannot_be_is_not_kept(wrong: SequenceVersion, message: str) -> None:
    with pytest.raises(SiteError, match=message):
        normal_model(SiteModel(sequences=(wrong,)))


def test_all_versions_together_are_small_enough_for_each_change_of_policy_to_carry_them() -> None:
    many = MAX_SEQUENCES_BYTES // MAX_DOCUMENT_BYTES
    versions = tuple(replace(ONE, version=number, text="x" * MAX_DOCUMENT_BYTES) for number in range(1, many + 1))
    assert len(normal_model(SiteModel(sequences=versions)).sequences) == many
    with pytest.raises(SiteConflict, match="`dpd sequence remove NAME@VERSION` takes out"):
        normal_model(SiteModel(sequences=(*versions, replace(ONE, version=many + 1))))
    with pytest.raises(SiteConflict, match="Debian@1: given more than once"):
        normal_model(SiteModel(sequences=(ONE, replace(ONE, name="Debian"))))


def test_the_highest_number_that_was_ever_given_is_known() -> None:
    model = normal_model(SiteModel(sequences=(TWO, ONE), sequence_numbers=(SequenceNumber("Debian", 7), SequenceNumber("arch", 1))))  # fmt: skip
    assert model.sequences == (ONE, TWO)
    assert model.sequence_numbers == (SequenceNumber("arch", 1), SequenceNumber("Debian", 7))


def test_the_deployments_of_a_sequence_are_known_in_any_case() -> None:
    deployments = [Deployment(n, "all", "", Purpose.REQUIRED, sequence=s) for n, s in enumerate(("Debian@2", "debian", "arch", ""))]  # fmt: skip
    assert [(each.id, version) for each, version in naming(deployments, "DEBIAN")] == [(0, 2), (1, 0)]
