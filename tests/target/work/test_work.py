# SPDX-License-Identifier: Apache-2.0
"""What a step has to work with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import Stage

from dpd.sequence.variables import VariableError
from dpd.target.work.work import Rate


def test_a_secret_variable_that_a_step_sets_anew_stays_secret(tmp_path: Path) -> None:
    stage = Stage(tmp_path, secrets={"Password": "first"})
    stage.work('do = "restart"').set_variable("PASSWORD", "second")
    assert [(each.name, each.value, each.secret) for each in stage.state.runtime] == [("Password", "second", True)]
    assert stage.variables.mask("first and second") == "•••• and ••••"


def test_read_only_ones_are_not_set(tmp_path: Path) -> None:
    with pytest.raises(VariableError, match="read-only"):
        Stage(tmp_path).work('do = "restart"').set_variable("_DPDMachine", "x")


def test_what_was_there_when_it_began_is_no_speed() -> None:
    rate = Rate()
    assert rate.of(1 << 40) == 0
    assert rate.of((1 << 40) + 1000) > 0
