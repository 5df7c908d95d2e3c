# SPDX-License-Identifier: Apache-2.0
"""How partitions are called, as sfdisk tells of tables that it wrote itself."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from tests.target.stage import MIB, Stage, need, run

from dpd.target.starting.partition_place import PartitionPlace, partition_place
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

DISK, SECOND = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-8999-AAAAAAAAAAAA"


def disk(folder: Path, script: str) -> str:
    """A table in a file, which sfdisk takes like a disk."""
    need("sfdisk")
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    run("sfdisk", "--quiet", image, given=script)
    return str(image)


def test_a_gpt_has_identities_and_an_mbr_a_signature(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    place = disk(tmp_path, f"label: gpt\nlabel-id: {DISK}\nsize=2MiB\nsize=3MiB, uuid={SECOND}\n")
    found = partition_place(stage.programs, Volume("windows", place, 2, ""))
    assert found == PartitionPlace(True, DISK, SECOND, 3 * MIB, MIB)
    assert found.guids == (UUID(DISK), UUID(SECOND))
    place = disk(tmp_path, "label: dos\nlabel-id: 0x0badf00d\nstart=2MiB, size=2MiB\nsize=3MiB\n")
    found = partition_place(stage.programs, Volume("windows", place, 2, ""))
    assert (found.is_gpt, found.signature, found.start_bytes, found.first_start_bytes) == (
        False,
        0x0BADF00D,
        4 * MIB,
        2 * MIB,
    )


def test_a_partition_that_is_not_there_is_told(tmp_path: Path) -> None:
    place = disk(tmp_path, "label: gpt\nsize=2MiB\n")
    with pytest.raises(StepFailed, match=f"{place} has no partition {place}7"):
        partition_place(Stage(tmp_path / "stage").programs, Volume("windows", place, 7, ""))
