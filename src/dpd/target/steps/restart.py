# SPDX-License-Identifier: Apache-2.0
"""Starts the machine again: from its disk, or over the network."""

from __future__ import annotations

from dpd.target.work.work import RestartAsked, Work


def run(work: Work) -> str:
    message = work.text("message")
    if message:
        work.log.write(f"  {message}")
        work.show(message)
    raise RestartAsked(work.step.text("to"), work.text("resume_volume"))
