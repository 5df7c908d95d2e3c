# SPDX-License-Identifier: Apache-2.0
"""Partition tables and file systems on a loop device, read back by the programs that made them and by the kernel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tests.target.stage import FACTS, MIB, Stage, loop_disk, need, run, staged_disk

from dpd.errors import DpdError
from dpd.sequence.records import Disk
from dpd.target.steps import partition_disk
from dpd.target.steps.partition_disk import Wish, lay_out
from dpd.target.work.step_failure import StepFailed

ESP = '{ name = "esp", size = "40MiB", kind = "esp", format = "fat32", label = "ESP" }'
ROOT = '{ name = "root", size = "rest", format = "ext4", label = "root" }'
SWAP = '{ name = "swap", size = "10%", kind = "swap", format = "swap" }'


def table_of(device: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("sfdisk", "--json", device))["partitiontable"]["partitions"]
    return found


def keys(device: str, *partitions: str, table: str = "gpt") -> str:
    return f'do = "partition_disk"\ndisk = "{device}"\ntable = "{table}"\npartitions = [{", ".join(partitions)}]'


def test_a_gpt_has_what_was_asked_for_and_its_file_systems_the_identities_that_are_known(tmp_path: Path) -> None:
    need("mkfs.fat", "blkid")
    with staged_disk(tmp_path, [ESP, SWAP, ROOT]) as stage:
        esp, swap, root = stage.state.volumes
        rows = table_of(esp.disk)
        assert [row["name"] for row in rows] == ["esp", "swap", "root"]
        assert rows[0]["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
        assert rows[0]["size"] == 40 * MIB // 512
        assert [str(row["uuid"]).lower() for row in rows] == [each.partition_uuid for each in (esp, swap, root)]
        for volume, kind in ((esp, "vfat"), (swap, "swap"), (root, "ext4")):
            told = dict(line.split("=", 1) for line in run("blkid", "-p", "-o", "export", volume.device).splitlines())
            assert (told["TYPE"], told["UUID"]) == (kind, volume.uuid)
        assert sum(each.size_bytes for each in (esp, swap, root)) > 250 * MIB
        (stage.volumes.folder("root") / "file").write_text("works")


def test_an_mbr_has_types_a_start_flag_and_identities(tmp_path: Path) -> None:
    with staged_disk(tmp_path, [ROOT], table="mbr") as stage:
        (root,) = stage.state.volumes
        (row,) = table_of(root.disk)
        assert (row["type"], row["bootable"]) == ("83", True)
        identity = json.loads(run("sfdisk", "--json", root.disk))["partitiontable"]["id"]
        assert root.partition_uuid == f"{identity.removeprefix('0x')}-01"


@pytest.mark.parametrize(("format", "tool"), [("btrfs", "mkfs.btrfs"), ("ntfs", "mkntfs")])
def test_other_file_systems_are_made(tmp_path: Path, format: str, tool: str) -> None:
    need(tool, "ntfs-3g")
    with staged_disk(tmp_path, [ROOT.replace("ext4", format)], size_bytes=300 * MIB) as stage:
        place = stage.volumes.folder("root") / "file"
        place.write_text("works")
        stage.volumes.release("root")
        assert (stage.volumes.folder("root") / "file").read_text() == "works"


def test_a_disk_that_was_in_use_before_is_made_anew(tmp_path: Path) -> None:
    with staged_disk(tmp_path, [ROOT]) as stage:
        (stage.volumes.folder("root") / "old").write_text("old")
        disk = stage.state.volumes[0].disk
        partition_disk.run(stage.work(keys(disk, SWAP, ROOT)))
        assert [each.name for each in stage.state.volumes] == ["swap", "root"]
        assert not (stage.volumes.folder("root") / "old").exists()


def test_a_disk_that_is_too_small_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    with loop_disk(tmp_path, 64 * MIB) as device:
        stage = Stage(tmp_path / "stage")
        wish = ROOT.replace("rest", "1GiB")
        with pytest.raises(StepFailed, match=r"has 64\.0 MiB, the partitions need at least 1\.0 GiB"):
            partition_disk.run(stage.work(keys(device, wish)))
        assert not any((tmp_path / "disk.img").read_bytes())


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ('disk = "/dev/nonesuch"\npartitions = [{ name = "a", size = "rest" }]', "No such file or directory; this machine has /dev/none0"),
        ('disk = "/dev/null"\npartitions = [{ name = "a", size = "rest" }]', "is no disk"),
        ('disk = "third"\npartitions = [{ name = "a", size = "rest" }]', "expected first, largest"),
        ('table = "mbr"\npartitions = [{ name = "a", size = "1MiB", kind = "bios-boot" }]', "an MBR knows no bios-boot"),
        ('table = "mbr"\npartitions = [' + ",".join(f'{{ name = "p{n}", size = "5%" }}' for n in range(5)) + "]", "5 partitions: an MBR has 4"),
        ('partitions = [{ name = "a", size = "rest", format = "fat32", label = "longer than eleven" }]', "longer than the 11 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_is_written(tmp_path: Path, key: str, expected: str) -> None:
    with pytest.raises(DpdError, match=expected):
        partition_disk.run(Stage(tmp_path).work(f'do = "partition_disk"\n{key}'))


def test_a_machine_without_disks_is_told_what_may_be_missing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, facts=dataclasses.replace(FACTS, disks=()))
    with pytest.raises(StepFailed, match="driver of its controller in the boot image"):
        partition_disk.run(stage.work('do = "partition_disk"\npartitions = [{ name = "a", size = "rest" }]'))


def test_the_largest_disk_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    with loop_disk(tmp_path) as device:
        disks = (Disk("/dev/none0", MIB), Disk(device, 256 * MIB))
        stage = Stage(tmp_path / "stage", facts=dataclasses.replace(FACTS, disks=disks))
        said = partition_disk.run(stage.work(f'do = "partition_disk"\ndisk = "largest"\npartitions = [{ROOT}]'))
        assert said.startswith(f"{device} of 256.0 MiB, gpt: root")
        stage.end()


def test_names_are_for_all_disks(tmp_path: Path) -> None:
    with (
        staged_disk(tmp_path, [ROOT]) as stage,
        loop_disk(tmp_path, name="other.img") as other,
        pytest.raises(StepFailed, match="another disk has a partition of this name"),
    ):
        partition_disk.run(stage.work(keys(other, ROOT)))


def test_sizes_shares_and_rests_fill_the_disk() -> None:
    wishes = [
        Wish("a", "linux", "", "", 100 * MIB + 1, 0),
        Wish("b", "linux", "", "", 0, 25),
        Wish("c", "linux", "", "", 0, 0),
        Wish("d", "linux", "", "", 0, 0),
    ]
    extents = lay_out("/dev/x", 1002 * MIB, wishes)
    assert [each.start // MIB for each in extents] == [1, 102, 352, 676]
    assert [each.size_bytes // MIB for each in extents] == [101, 250, 324, 324]
    assert extents[-1].start + extents[-1].size_bytes <= 1001 * MIB
