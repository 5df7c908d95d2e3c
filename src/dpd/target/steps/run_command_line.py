# SPDX-License-Identifier: Apache-2.0
"""Runs a command line with the shell, here or inside the new system."""

from __future__ import annotations

from dpd.target.work.inside import run_inside
from dpd.target.work.work import Work


def run(work: Work) -> str:
    return run_inside(work, ["sh", "-c", work.text("command")], work.text("folder"))
