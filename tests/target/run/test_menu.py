# SPDX-License-Identifier: Apache-2.0
"""Which offer is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dpd.sequence.exchange import Offer
from dpd.target.run.menu import NothingToDo, choose

A, B = (Offer(number, f"Deployment {number}", "seq", 1, "available", "words") for number in (1, 2))
MUST = Offer(3, "", "must", 1, "required")


def answers(*lines: str) -> Callable[[str], str]:
    waiting = list(lines)

    def ask(prompt: str) -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return ask


def nothing(text: str) -> None:
    """Shown to nobody."""


def test_a_required_one_is_taken_without_asking() -> None:
    assert choose((A, MUST, B), answers(), nothing) is MUST


def test_somebody_chooses_among_the_available_ones() -> None:
    shown: list[str] = []
    assert choose((A, B), answers("7", "x", " 2 "), shown.append) is B
    assert shown == [
        "What shall this machine become?",
        "  1  Deployment 1  words",
        "  2  Deployment 2  words",
        "'7' is none of them",
        "'x' is none of them",
    ]


@pytest.mark.parametrize("lines", [(), ("",), ("x",) * 5])
def test_without_a_choice_nothing_is_taken(lines: tuple[str, ...]) -> None:
    with pytest.raises(NothingToDo, match="nobody"):
        choose((A, B), answers(*lines), nothing)


def test_without_an_offer_the_next_step_is_told() -> None:
    with pytest.raises(NothingToDo, match="dpd deployment list"):
        choose((), answers(), nothing)


def test_one_that_was_named_is_taken_or_told_to_be_missing() -> None:
    assert choose((A, MUST, B), answers(), nothing, 2) is B
    with pytest.raises(NothingToDo, match="deployment 9 is not offered to this machine; there are 1, 3"):
        choose((A, MUST), answers(), nothing, 9)
