# SPDX-License-Identifier: Apache-2.0
"""Whether the machine is as asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.target.stage import FACTS, Stage

from dpd.target.steps import check_readiness
from dpd.target.work.step_failure import StepFailed

DO = 'do = "check_readiness"\n'


def test_a_machine_that_is_as_asked_passes(tmp_path: Path) -> None:
    keys = (
        'minimum_ram = "2GiB"\nminimum_disk = "20GiB"\nminimum_cpus = 2\narchitectures = ["x64"]\nfirmware = "uefi"\n'
    )
    keys += "is_wired = true\non_ac_power = true"
    assert check_readiness.run(Stage(tmp_path).work(DO + keys)) == "the machine is as asked"


def test_every_failure_is_told(tmp_path: Path) -> None:
    facts = replace(FACTS, firmware="bios", is_wired=False, is_on_ac_power=None)
    keys = (
        'minimum_ram = "4GiB"\nminimum_disk = "40GiB"\nminimum_cpus = 4\narchitectures = ["arm64"]\nfirmware = "uefi"\n'
    )
    keys += "is_wired = true\non_ac_power = true"
    with pytest.raises(StepFailed) as failure:
        check_readiness.run(Stage(tmp_path, facts=facts).work(DO + keys))
    for said in (
        "memory 2.0 GiB, expected at least 4.0 GiB",
        "the largest disk has 20.0 GiB, expected at least 40.0 GiB",
        "2 processors, expected at least 4",
        "architecture x64, expected arm64",
        "started by bios, expected uefi",
        "no wired network interface is up",
        "runs on its battery",
    ):
        assert said in str(failure.value)


def test_a_machine_without_a_disk_is_told_what_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="is its driver in the boot image"):
        check_readiness.run(Stage(tmp_path, facts=replace(FACTS, disks=())).work(DO + 'minimum_disk = "1GiB"'))


def test_memory_that_firmware_keeps_for_itself_is_no_lack(tmp_path: Path) -> None:
    stage = Stage(tmp_path, facts=replace(FACTS, ram_bytes=(2 << 30) - (100 << 20)))
    check_readiness.run(stage.work(DO + 'minimum_ram = "2GiB"'))
