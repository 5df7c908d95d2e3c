# SPDX-License-Identifier: Apache-2.0
"""A run moves into the new system, and leaves it when it ends."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.target.stage import need, state_of

from dpd.target.run.restarting import HOME, UNIT, WANTED, install, uninstall
from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.state import StateFile
from dpd.target.work.step_failure import StepFailed


@pytest.fixture
def system(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for place in ("usr/bin", "etc/systemd/system", "var/lib"):
        (root / place).mkdir(parents=True)
    (root / "usr/bin/python3").symlink_to("python3.11")
    return root


@pytest.fixture
def program(tmp_path: Path) -> Path:
    place = tmp_path / "dpd-target.pyz"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("__main__.py", "")
    return place


def put(tmp_path: Path, system: Path, program: Path) -> None:
    home = tmp_path / "dpd"
    home.mkdir(exist_ok=True)
    (home / "signing-key").write_text("00" * 32)
    log = ExecutionLog(tmp_path / "log", lambda text: text)
    log.write("before")
    install(system, state_of(), log, home, program)


def test_program_trust_state_and_log_go_along(tmp_path: Path, system: Path, program: Path) -> None:
    for _ in range(2):  # a second restart finds the first one's
        put(tmp_path, system, program)
    home = system / HOME
    assert StateFile(home / "run/run.json").load() == state_of()
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert "before" in (home / "run/log").read_text()
    assert (home / "signing-key").read_text() == "00" * 32
    assert not (home / "ca.pem").exists()
    assert (home / "dpd-target.pyz").read_bytes() == program.read_bytes()
    assert (system / WANTED).readlink() == Path("/" + UNIT)


def test_systemd_takes_the_unit(tmp_path: Path, system: Path, program: Path) -> None:
    need("systemd-analyze")
    put(tmp_path, system, program)
    ran = subprocess.run(["systemd-analyze", "verify", system / UNIT], capture_output=True, text=True, check=False)
    told = [line for line in ran.stderr.splitlines() if "dpd-target" in line and "not executable" not in line]
    assert told == []


def test_nothing_of_it_stays(tmp_path: Path, system: Path, program: Path) -> None:
    put(tmp_path, system, program)
    uninstall(system)
    assert not (system / HOME).exists()
    assert not (system / UNIT).exists()
    assert not (system / WANTED).is_symlink()
    uninstall(system)


def test_a_system_that_cannot_take_it_is_told(tmp_path: Path, system: Path, program: Path) -> None:
    with pytest.raises(StepFailed, match="is no zipapp"):
        put(tmp_path, system, tmp_path / "log")
    (system / "etc/systemd/system").rmdir()
    with pytest.raises(StepFailed, match="no /etc/systemd/system"):
        put(tmp_path, system, program)
    (system / "usr/bin/python3").unlink()
    with pytest.raises(StepFailed, match="add python3 to the image"):
        put(tmp_path, system, program)
