# SPDX-License-Identifier: Apache-2.0
"""Volumes by their names: mounted when needed, given back before the machine restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import Stage, staged_disk

from dpd.target.work.state import Received, Volume
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import inside

ROOT = '{ name = "root", size = "50%", format = "ext4" }'
DATA = '{ name = "data", size = "rest", format = "ext4" }'


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_names_are_in_any_case_and_unknown_ones_tell_what_there_is(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(StepFailed, match="is there a partition_disk step before"):
        stage.volumes.find("root")
    stage.add_folder("Root")
    assert stage.volumes.find("ROOT").name == "Root"
    with pytest.raises(StepFailed, match="there are: Root"):
        stage.volumes.find("data")


def test_a_volume_is_mounted_once_and_unmounted_before_it_is_written_as_a_whole(tmp_path: Path) -> None:
    with staged_disk(tmp_path, [ROOT, DATA]) as stage:
        place = stage.volumes.folder("root")
        (place / "file").write_text("x")
        assert stage.volumes.folder("root") == place
        assert str(place) in mounts()
        assert stage.volumes.device("root") == stage.volumes.find("root").device
        assert str(place) not in mounts()
        assert (stage.volumes.folder("root") / "file").read_text() == "x"


def test_a_system_has_its_kernels_folders_and_what_is_bound_and_gives_all_of_it_back(tmp_path: Path) -> None:
    with staged_disk(tmp_path, [ROOT, DATA]) as stage:
        (stage.volumes.folder("data") / "file").write_text("x")
        root = stage.volumes.system("root")
        assert (root / "proc/self/stat").is_file()
        stage.volumes.bind("root", stage.volumes.folder("data"), "/srv/data")
        assert (root / "srv/data/file").read_text() == "x"
        stage.volumes.release_all()
        assert str(root) not in mounts()
        assert Path("/proc/self/stat").is_file()


def test_what_something_still_uses_is_given_back_all_the_same(tmp_path: Path) -> None:
    with staged_disk(tmp_path, [ROOT]) as stage:
        place = stage.volumes.folder("root")
        with (place / "open").open("w"):
            stage.volumes.release("root")
            assert str(place) not in mounts()


def test_the_volume_that_runs_is_the_root(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.state.volumes.append(Volume("root", "/dev/none0", 1, "/dev/none1", format="ext4"))
    stage.state.root_volume = "root"
    assert stage.volumes.folder("root") == Path("/")
    assert stage.volumes.system("root") == Path("/")


@pytest.mark.parametrize(("format", "said"), [("swap", "is swap, which has no files"), ("", "is not formatted")])
def test_a_volume_without_files_is_told(tmp_path: Path, format: str, said: str) -> None:
    stage = Stage(tmp_path)
    stage.state.volumes.append(Volume("x", "/dev/none0", 1, "/dev/none1", format=format))
    with pytest.raises(StepFailed, match=said):
        stage.volumes.folder("x")


def test_a_disk_that_is_gone_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.state.volumes.append(Volume("x", "/dev/none0", 1, "/dev/none1", format="ext4"))
    with pytest.raises(StepFailed, match="is the disk still connected"):
        stage.volumes.folder("x")


@pytest.mark.parametrize("path", ["", "/", "a/b", "/a/b", "link/b"])
def test_a_path_within_a_volume_stays_within(tmp_path: Path, path: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert inside(tmp_path, path) == tmp_path / path.lstrip("/")


def test_what_was_received_on_a_disk_is_gone_with_its_partitions(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.state.volumes.append(Volume("a", "/dev/none0", 1, "/dev/none1", format="ext4"))
    stage.state.received += [Received("P", 1, "x", "a"), Received("P", 1, "y")]
    stage.state.dirty.append("a")
    stage.volumes.replace("/dev/none0", [Volume("b", "/dev/none0", 1, "/dev/none1", format="ext4")])
    assert [each.name for each in stage.volumes.all] == ["b"]
    assert stage.state.received == [Received("P", 1, "y")]
    assert stage.state.dirty == []
