# SPDX-License-Identifier: Apache-2.0
"""Losses that the sender's own numbers do not bear out."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.audit import ALLOWANCE, Audit


@pytest.fixture
def audit() -> Audit:
    audit = Audit()
    audit.excess(1000, 500, 10)
    return audit


def test_the_first_beat_has_nothing_to_be_held_against() -> None:
    assert Audit().excess(5000, 3, 1_000_000) == 0


@pytest.mark.parametrize("lost", [0, 100, 2000])
def test_losses_that_were_some_are_borne_out(audit: Audit, lost: int) -> None:
    assert audit.excess(3000, 500 + 2000 - lost, 10 + lost) == 0


def test_what_crosses_a_beat_is_allowed_for(audit: Audit) -> None:
    assert audit.excess(3000, 500 + 2000, 10 + ALLOWANCE) == 0
    assert audit.excess(5000, 500 + 4000, 10 + 2 * ALLOWANCE + 1) == ALLOWANCE + 1


def test_losses_beyond_what_was_sent_are_none_and_told_once(audit: Audit) -> None:
    assert audit.excess(3000, 500 + 1980, 10 + 700) == 680
    assert audit.excess(5000, 500 + 3960, 10 + 40) == 0


def test_forged_symbols_that_came_in_addition_do_not_make_losses_negative(audit: Audit) -> None:
    assert audit.excess(3000, 500 + 2500, 10 + 700) == 700


def test_the_numbers_wrap() -> None:
    audit = Audit()
    audit.excess(2**32 - 500, 0, 0)
    assert audit.excess(500, 900, 100) == 0
    assert audit.excess(1500, 1900, 800) == 700
