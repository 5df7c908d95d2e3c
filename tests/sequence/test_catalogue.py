# SPDX-License-Identifier: Apache-2.0
"""The catalogue agrees with itself."""

from __future__ import annotations

import pytest

from dpd.sequence.catalogue import CATALOGUE, Key, KeyType, defaults_of
from dpd.sequence.document import read_document
from dpd.sequence.records import StepKind
from dpd.sequence.tables import check_text
from dpd.sequence.tree import FOR_BOTH, FOR_STEPS


def every_key(keys: tuple[Key, ...]) -> list[Key]:
    return [each for key in keys for each in (key, *every_key(key.keys))]


def test_every_kind_is_in_it() -> None:
    assert set(CATALOGUE) == set(StepKind)


@pytest.mark.parametrize("kind", StepKind)
def test_an_example_is_a_step_of_its_kind(kind: StepKind) -> None:
    document = read_document(f'name = "x"\n[[step]]\nname = "y"\ndo = "{kind}"\n{CATALOGUE[kind].example}\n')
    assert document.sequence is not None, document.problems
    (step,) = document.sequence.steps()
    assert step.kind is kind
    assert set(step.keys) == {each.name for each in CATALOGUE[kind].keys}


@pytest.mark.parametrize("kind", StepKind)
def test_keys_have_names_of_their_own_and_words(kind: StepKind) -> None:
    names = [each.name for each in (*FOR_BOTH, *FOR_STEPS, *CATALOGUE[kind].keys)]
    assert len(names) - len(set(names)) == 0
    assert all(each.words for each in every_key(CATALOGUE[kind].keys))
    assert CATALOGUE[kind].words.endswith(".")


@pytest.mark.parametrize("kind", StepKind)
def test_a_default_obeys_its_own_rule(kind: StepKind) -> None:
    for key in every_key(CATALOGUE[kind].keys):
        default = defaults_of((key,)).get(key.name)
        if isinstance(default, str):
            check_text(key, default)
        elif isinstance(default, bool):
            assert key.type is KeyType.FLAG
        elif isinstance(default, int):
            assert key.low <= default <= key.high
