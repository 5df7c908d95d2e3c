# SPDX-License-Identifier: Apache-2.0
"""Fails unless the machine is as asked: every check is made, and each failure told."""

from __future__ import annotations

from collections.abc import Iterator

from dpd.sequence.sizes import parse_bytes
from dpd.target.work.size_text import shown
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work

KERNEL_SHARE = 0.93  # of the memory that is built in, firmware and kernel take some before it is counted


def run(work: Work) -> str:
    troubles = list(_troubles(work))
    if troubles:
        raise StepFailed("this machine is not ready: " + "; ".join(troubles))
    return "the machine is as asked"


def _troubles(work: Work) -> Iterator[str]:
    facts, step = work.facts, work.step
    if (ram := _size(work, "minimum_ram")) and facts.ram_bytes < ram * KERNEL_SHARE:
        yield f"memory {shown(facts.ram_bytes)}, expected at least {shown(ram)}"
    largest = max((disk.size_bytes for disk in facts.disks), default=0)
    if (disk := _size(work, "minimum_disk")) and largest < disk:
        found = (
            f"the largest disk has {shown(largest)}"
            if largest
            else "there is no disk (is its driver in the boot image?)"
        )
        yield f"{found}, expected at least {shown(disk)}"
    if facts.cpus < step.whole("minimum_cpus"):
        yield f"{facts.cpus} processors, expected at least {step.whole('minimum_cpus')}"
    architectures = step.texts("architectures")
    if architectures and facts.architecture not in architectures:
        yield f"architecture {facts.architecture}, expected {' or '.join(architectures)}"
    firmware = step.text("firmware")
    if firmware and facts.firmware != firmware:
        yield f"started by {facts.firmware}, expected {firmware}; change its boot mode in the firmware's setup"
    if step.flag("is_wired") and facts.is_wired is not True:
        yield "no wired network interface is up"
    if step.flag("on_ac_power") and facts.is_on_ac_power is not True:
        yield "runs on its battery; plug it in"


def _size(work: Work, key: str) -> int:
    text = work.text(key)
    return parse_bytes(text) if text else 0
