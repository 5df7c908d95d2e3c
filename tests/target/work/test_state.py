# SPDX-License-Identifier: Apache-2.0
"""The file by which a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.target.stage import state_of

from dpd.errors import ContentCorrupt, ContentError
from dpd.sequence.exchange import Report, StepState
from dpd.sequence.variables import Variable
from dpd.target.work.state import Received, State, StateFile, Volume


def full() -> State:
    state = state_of(document="{}")
    state.variables.append(Variable("Password", "hunter2", secret=True))
    state.runtime.append(Variable("Name", "PC-1"))
    state.built_in["_DPDMachine"] = "pc-1"
    state.outcomes |= {"1": "done", "2": "begun"}
    state.tries["2"] = 2
    state.volumes.append(Volume("root", "/dev/sda", 2, "/dev/sda2", "linux", "ext4", "p-uuid", "f-uuid", 1 << 30))
    state.received.append(Received("LAB1", 3, ".dpd-content/x.wim", "root"))
    state.reports.append(Report(7, 12.5, "2", StepState.STARTED, "m"))
    state.dirty.append("root")
    state.next_number = 8
    return state


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run" / "run.json")
    file.save(full())
    assert file.load() == full()


def test_nobody_but_root_reads_it_and_its_text_shows_no_secret(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run.json")
    file.save(full())
    assert file.place.stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in repr(full())
    assert "cd" * 16 not in repr(full())


def test_no_run_is_none_and_removing_none_is_no_error(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run.json")
    assert file.load() is None
    file.remove()


def test_a_run_that_ended_leaves_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run.json")
    file.save(full())
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_it_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run.json")
    file.save(full())
    (tmp_path / "run.json.dpd-new").write_text('{"format": "dpd-r')
    assert file.load() == full()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "dpd-run/9"}', '{"format": "dpd-run/1"}'])
def test_what_is_no_state_is_told_with_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ContentCorrupt, match="remove it and boot this machine over the network again"):
        StateFile(tmp_path / "run.json").load()


def test_keys_of_a_newer_program_are_left_alone(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "run.json")
    file.save(full())
    file.place.write_text(json.dumps(json.loads(file.place.read_text()) | {"newer": 1}))
    assert file.load() == full()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json.dpd-new").mkdir()
    with pytest.raises(ContentError, match=r"run\.json: cannot be written"):
        StateFile(tmp_path / "run.json").save(full())
