# SPDX-License-Identifier: Apache-2.0
"""`dpd receive` is the target's receiver: the same words, the same exit codes."""

from __future__ import annotations

import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dpd", "receive", *arguments], capture_output=True, text=True, check=False
    )


def test_help_is_the_targets_and_shows_an_example() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "example: dpd receive http://dp:8080 LAB00001 -o install.wim --interface eth0" in shown.stdout


def test_wrong_usage_exits_with_2() -> None:
    assert run("http://127.0.0.1:1").returncode == 2


def test_a_distribution_point_out_of_reach_exits_with_4() -> None:
    shown = run("http://127.0.0.1:1", "LAB00001", "-o", "/dev/null", "--patience", "0", "--json")
    assert shown.returncode == 4
    assert "is dpd running there, and is the port open?" in shown.stdout
