# SPDX-License-Identifier: Apache-2.0
"""Partitions that were there before."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import MIB, Stage, need, run, staged_disk

from dpd.target.work.file_system import existing_volume, recognise
from dpd.target.work.step_failure import StepFailed


@pytest.mark.parametrize(
    ("format", "command"),
    [
        ("ext4", ("mkfs.ext4", "-q", "-F")),
        ("btrfs", ("mkfs.btrfs", "-q", "-f")),
        ("ntfs", ("mkntfs", "-Q", "-F", "-q")),
        ("fat32", ("mkfs.fat", "-F", "32")),
    ],
)
def test_each_file_system_is_recognised_with_its_identity(
    tmp_path: Path, format: str, command: tuple[str, ...]
) -> None:
    need(command[0], "blkid")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(120 * MIB)
    run(*command, image)
    told = dict(line.split("=", 1) for line in run("blkid", "-p", "-o", "export", image).splitlines())
    with image.open("rb") as file:
        assert recognise(file.read(70_000)) == (format, told["UUID"])


def test_whatever_else_is_none() -> None:
    assert recognise(b"") == ("", "")
    assert recognise(bytes(70_000)) == ("", "")


def test_a_partition_is_a_volume_by_its_device(tmp_path: Path) -> None:
    with staged_disk(tmp_path, ['{ name = "root", size = "rest", format = "ext4" }']) as made:
        root = made.volumes.find("root")
        (made.volumes.folder("root") / "file").write_text("x")
        made.volumes.release_all()
        stage = Stage(tmp_path / "later")
        found = stage.volumes.find(root.device)
        assert (found.disk, found.number, found.format, found.uuid) == (root.disk, 1, "ext4", root.uuid)
        assert found.size_bytes == root.size_bytes
        assert (stage.volumes.folder(root.device) / "file").read_text() == "x"
        assert stage.volumes.find(root.device) is found
        stage.end()


@pytest.mark.parametrize("device", ["/dev/nonesuch1", "/dev/null"])
def test_what_is_no_partition_is_told(device: str) -> None:
    with pytest.raises(StepFailed, match=f"volume {device}"):
        existing_volume(device)
