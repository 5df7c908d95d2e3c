# SPDX-License-Identifier: Apache-2.0
"""The first sector of a disk whose Windows starts by BIOS; the whole of it is tested with Windows' start."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import MIB, need, staged_disk

from dpd.target.starting.boot_record import TABLE_AT, first_sector, write_boot_record
from dpd.target.starting.partition_place import PartitionPlace
from dpd.target.work.step_failure import StepFailed


def test_code_comes_and_signature_and_table_stay_but_for_what_is_active() -> None:
    sector = bytes(range(256)) * 2
    made = first_sector(b"\xaa" * 512, sector, active=3)
    assert made[:0x66] == b"\xaa" * 0x66
    assert made[0x66:0x68] == b"\x90\x90"
    assert made[0x68:440] == b"\xaa" * (440 - 0x68)
    actives = [TABLE_AT + 16 * number for number in range(4)]
    assert [made[at] for at in actives] == [0, 0, 0x80, 0]
    assert all(made[at] == sector[at] for at in range(440, 512) if at not in actives)


def test_a_first_partition_that_leaves_no_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    need("mkntfs", "grub-mkimage")
    if not Path("/usr/lib/grub/i386-pc/ntldr.mod").is_file():
        pytest.skip("missing: grub-pc-bin")
    partition = '{ name = "windows", size = "rest", kind = "windows", format = "ntfs" }'
    with staged_disk(tmp_path, [partition], table="mbr", size_bytes=16 * MIB) as stage:
        volume = stage.volumes.find("windows")
        before = head_of(volume.disk)
        place = PartitionPlace(False, "0x1", "", MIB, 32256)  # as DOS laid out disks
        with pytest.raises(StepFailed, match="begins at 32256 bytes, before which GRUB has no room"):
            write_boot_record(stage.programs, volume, place, volume.device, stage.home / "content")
        assert head_of(volume.disk) == before


def head_of(disk: str) -> bytes:
    with Path(disk).open("rb") as file:
        return file.read(MIB)
