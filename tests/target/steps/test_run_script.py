# SPDX-License-Identifier: Apache-2.0
"""Scripts from the document and from packages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.target.point import opened_point
from tests.target.stage import Stage

from dpd.errors import DpdError
from dpd.target.steps import run_script
from dpd.target.work.program import ProgramFailed
from dpd.target.work.step_failure import StepFailed

DO = 'do = "run_script"\n'


def test_nothing_is_replaced_in_it_and_variables_are_in_its_environment(tmp_path: Path) -> None:
    stage = Stage(tmp_path, variables={"Room": "12"})
    keys = (
        DO
        + "script = '''\ndate +%Y >/dev/null; echo \"$Room $1 %Room%\"\n'''\narguments = [\"%Room%\"]\noutput_variable = \"Said\""
    )
    run_script.run(stage.work(keys))
    assert stage.variables.get("Said") == "12 12 %Room%"
    assert list((stage.home / "content").iterdir()) == []


def test_another_interpreter_runs_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    run_script.run(stage.work(DO + 'script = "print(6 * 7)"\ninterpreter = "python3"\noutput_variable = "Said"'))
    assert stage.variables.get("Said") == "42"


def test_one_that_is_for_another_system_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="powershell: is not in this deployment environment"):
        run_script.run(Stage(tmp_path).work(DO + 'script = "dir"\ninterpreter = "powershell"'))


def test_without_script_and_package_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="neither script nor package"):
        run_script.run(Stage(tmp_path).work(DO + 'package = "%Nothing-%"'.replace("%Nothing-%", "")))


async def test_a_package_brings_what_lies_beside_its_script(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "run.sh").write_text("cat beside.txt")
    (folder / "beside.txt").write_text("beside")
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(folder, "SCR1")
        stage = Stage(tmp_path / "stage", url=point.url, public_key=point.library.public_key())
        keys = DO + 'package = "SCR1"\nfile = "run.sh"\noutput_variable = "Said"'
        await asyncio.to_thread(run_script.run, stage.work(keys))
        assert stage.variables.get("Said") == "beside"
        with pytest.raises(DpdError, match=r"has no file 'other\.sh'"):
            await asyncio.to_thread(run_script.run, stage.work(keys.replace("run.sh", "other.sh")))
