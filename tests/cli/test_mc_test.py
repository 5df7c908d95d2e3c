# SPDX-License-Identifier: Apache-2.0
"""`dpd mc-test` is the target's network test: the same words, the same exit codes."""

from __future__ import annotations

import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dpd", "mc-test", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_is_the_targets_and_shows_an_example() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "example: dpd mc-test http://dp:8080 --interface eth0 --minutes 5" in shown.stdout


def test_wrong_usage_exits_with_2() -> None:
    assert run().returncode == 2


def test_a_distribution_point_out_of_reach_exits_with_4() -> None:
    assert run("http://127.0.0.1:1").returncode == 4
