# SPDX-License-Identifier: Apache-2.0
"""Variables that steps set."""

from __future__ import annotations

from pathlib import Path

from tests.target.stage import Stage

from dpd.target.steps import set_variable


def test_it_is_there_for_the_steps_behind_it_and_after_a_restart(tmp_path: Path) -> None:
    stage = Stage(tmp_path, variables={"Room": "12"})
    said = set_variable.run(stage.work('do = "set_variable"\nvariable = "Name"\nvalue = "PC-%Room%"'))
    assert said == "Name is 'PC-12'"
    assert stage.variables.get("NAME") == "PC-12"
    assert [(each.name, each.value) for each in stage.state.runtime] == [("Name", "PC-12")]
    set_variable.run(stage.work('do = "set_variable"\nvariable = "name"\nvalue = "other"'))
    assert [(each.name, each.value) for each in stage.state.runtime] == [("Name", "other")]


def test_what_is_secret_or_made_of_a_secret_is_not_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, secrets={"Password": "hunter2"})
    said = set_variable.run(stage.work('do = "set_variable"\nvariable = "A"\nvalue = "x"\nsecret = true'))
    assert said == "A is ••••"
    said = set_variable.run(stage.work('do = "set_variable"\nvariable = "B"\nvalue = "pw=%Password%"'))
    assert said == "B is ••••"
    assert all(each.secret for each in stage.state.runtime)
