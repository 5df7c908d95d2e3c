# SPDX-License-Identifier: Apache-2.0
"""The demo from end to end, with a user's own file: daemon, publish, two receivers, a boot client, a clean stop."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dpd.cli.demo_run import make_image
from dpd.errors import DpdError


def test_a_users_file_reaches_two_receivers(tmp_path: Path) -> None:
    image = tmp_path / "mine.img"
    image.write_bytes(random.Random(3).randbytes(7_000_001))
    command = [sys.executable, "-m", "dpd", "demo", "--image", str(image), "--receivers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = " ".join(done.stdout.split())
    assert "7000001 bytes in 2 slabs" in shown
    assert shown.count("equal") >= 3  # two receivers and the boot client's loader
    assert "3 steps done by DEMO-PC" in shown
    assert "daemon stopped cleanly" in shown


def test_without_wimlib_and_root_the_command_to_install_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DpdError, match=r"sudo apt-get install wimtools.*make demo IMAGE=path"):
        make_image(tmp_path, Console(quiet=True))
