# SPDX-License-Identifier: Apache-2.0
"""What coverage-guided fuzzing has found worth keeping, once more: ten minutes' inputs in a second."""

from __future__ import annotations

import pytest
from tests.fuzz.run import read_corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_corpus_breaks_its_target(target: str) -> None:
    corpus = read_corpus(target)
    assert len(corpus) >= 10  # a relay's option has few ways to be read
    for name, content in corpus.items():
        try:
            TARGETS[target](content)
        except Exception as error:
            raise AssertionError(f"{target}: input {name} of the corpus") from error
