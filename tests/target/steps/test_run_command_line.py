# SPDX-License-Identifier: Apache-2.0
"""Command lines, here and inside the new system."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.target.stage import Stage, need

from dpd.sequence.variables import VariableError
from dpd.target.steps import run_command_line
from dpd.target.work.program import ProgramFailed

DO = 'do = "run_command_line"\n'


def test_variables_are_in_the_text_and_in_the_environment(tmp_path: Path) -> None:
    stage = Stage(tmp_path, variables={"Room": "12 b", "OSD-Name": "x", "PATH": "/nowhere"})
    keys = f'{DO}command = "echo %ROOM% $Room $OSD_Name"\noutput_variable = "Said"'
    assert run_command_line.run(stage.work(keys)) == "exit code 0"
    assert stage.variables.get("said") == "12 b 12 b x"
    assert [each.name for each in stage.state.runtime] == ["Said"]


def test_output_with_a_secret_is_secret_and_neither_is_logged(tmp_path: Path) -> None:
    stage = Stage(tmp_path, secrets={"Password": "hunter2"})
    run_command_line.run(stage.work(f'{DO}command = "echo pw=%Password%"\noutput_variable = "Said"'))
    assert stage.variables.get("Said") == "pw=hunter2"
    assert stage.state.runtime[0].secret
    assert "hunter2" not in (stage.home / "log").read_text()


def test_the_exit_code_is_a_variable_and_others_may_be_success(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert run_command_line.run(stage.work(f'{DO}command = "exit 7"\nsuccess_codes = [0, 7]')) == "exit code 7"
    with pytest.raises(ProgramFailed, match="exit code 8"):
        run_command_line.run(stage.work(f'{DO}command = "exit 8"'))
    assert stage.variables.get("_DPDLastActionResult") == "8"


def test_it_runs_in_its_folder(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    run_command_line.run(stage.work(f'{DO}command = "pwd"\nfolder = "{tmp_path}"\noutput_variable = "Where"'))
    assert stage.variables.get("Where") == str(tmp_path)


def test_a_variable_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(VariableError, match="%Nothing%: no such variable"):
        run_command_line.run(Stage(tmp_path).work(f'{DO}command = "echo %Nothing%"'))


def test_inside_the_new_system_it_sees_that_system_and_this_kernel(tmp_path: Path) -> None:
    need("busybox", "chroot")
    busybox = shutil.which("busybox")
    assert busybox is not None
    stage = Stage(tmp_path)
    root = stage.add_folder("root")
    (root / "bin").mkdir()
    for name in ("sh", "cat", "ls"):
        shutil.copy(busybox, root / "bin" / name)
    (root / "etc").mkdir()
    (root / "etc/hostname").write_text("inside\n")
    try:
        keys = f'{DO}command = "cat hostname; ls -d /proc/self"\nvolume = "root"\nfolder = "/etc"\noutput_variable = "Said"'
        run_command_line.run(stage.work(keys))
        assert stage.variables.get("Said") == "inside\n/proc/self"
    finally:
        stage.volumes._mounted.clear()
        stage.volumes.release("root")
    assert list((root / "proc").iterdir()) == []
