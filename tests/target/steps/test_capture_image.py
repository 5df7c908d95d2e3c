# SPDX-License-Identifier: Apache-2.0
"""A system is captured and handed over, and what was captured is the system."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.target.stage import Stage, make_tree, need, run, staged_disk

from dpd.sequence.exchange import CapturePlace, CaptureWish
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.images import keeping
from dpd.target.steps import capture_image
from dpd.target.work.step_failure import StepFailed

DO = 'do = "capture_image"\nvolume = "root"\npackage_id = "CAP%Number%"\n'
ROOT = '{ name = "root", size = "rest", format = "ext4" }'


def apply_captured(stage: Stage, folder: Path) -> Path:
    wim = folder / "captured.wim"
    wim.write_bytes(stage.desk.captured)
    run("wimlib-imagex", "apply", wim, "1", folder / "back", "--unix-data")
    return folder / "back"


@pytest.mark.parametrize("compression", ["none", "lzx"])
def test_what_is_handed_over_is_the_system_without_what_is_of_this_start(tmp_path: Path, compression: str) -> None:
    need("wimlib-imagex")
    with staged_disk(tmp_path, [ROOT], variables={"Number": "00001"}) as stage:
        root = make_tree(stage.volumes.folder("root"))
        (root / keeping.FOLDER).mkdir()
        (root / keeping.FOLDER / "old.wim").write_bytes(b"x")
        (root / "tmp").mkdir(mode=0o1777)
        (root / "tmp/junk").write_bytes(b"x")
        said = capture_image.run(stage.work(f'{DO}compression = "{compression}"\nimage_name = "golden"'))
        assert said.startswith("CAP00001 version 3: 6.0 MiB in")
        assert stage.desk.capture_size_bytes == len(stage.desk.captured)
        back = apply_captured(stage, tmp_path)
        assert not (back / keeping.FOLDER).exists()
        assert list((back / "tmp").iterdir()) == []
        told = subprocess.run(
            ["diff", "-r", "--no-dereference", root, back], capture_output=True, text=True, check=False
        )
        assert [
            line
            for line in told.stdout.splitlines()
            if "tmp" not in line and ".dpd-content" not in line and "lost+found" not in line
        ] == []
        assert {way for _, _, way in stage.progress} >= {"handed over"}
        assert not list((root / keeping.FOLDER).glob("*.capture.wim"))


def test_an_ntfs_volume_is_captured_as_a_whole(tmp_path: Path) -> None:
    need("wimlib-imagex", "mkntfs", "ntfs-3g")
    other = '{ name = "data", size = "40%", format = "ext4" }'
    with staged_disk(tmp_path, [other, ROOT.replace("ext4", "ntfs")], variables={"Number": "1"}) as stage:
        root = stage.volumes.folder("root")
        (root / "file").write_bytes(b"hello")
        (root / "pagefile.sys").write_bytes(b"x")
        capture_image.run(stage.work(DO + 'compression = "none"'))
        (tmp_path / "captured.wim").write_bytes(stage.desk.captured)
        files = run("wimlib-imagex", "dir", tmp_path / "captured.wim", "1").splitlines()
        assert "/file" in files
        assert "/pagefile.sys" not in files


def test_an_upload_that_breaks_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("wimlib-imagex")
    monkeypatch.setattr(capture_image, "PIECE_BYTES", 1 << 20)
    with staged_disk(tmp_path, [ROOT], variables={"Number": "1"}) as stage:
        make_tree(stage.volumes.folder("root"))
        put, begin = stage.desk.put_capture, stage.desk.begin_capture
        begun: list[int] = []

        def put_half(capture: str, content: bytes, offset: int, size_bytes: int) -> int:
            if len(begun) == 1 and offset:
                stage.desk.captured += content[:1000]
                raise Unreachable("the line broke")
            return put(capture, content, offset, size_bytes)

        def begin_again(wish: CaptureWish) -> CapturePlace:
            begun.append(len(stage.desk.captured))
            return begin(wish)

        monkeypatch.setattr(stage.desk, "put_capture", put_half)
        monkeypatch.setattr(stage.desk, "begin_capture", begin_again)
        capture_image.run(stage.work(DO + 'compression = "none"'))
        assert begun == [0, (1 << 20) + 1000]


@pytest.mark.parametrize(
    ("format", "package", "said"),
    [("fat32", "CAP1", "expected ntfs, ext4 or btrfs to capture"), ("ext4", "no such id!", "expected 1 to 64 of")],
)
def test_what_cannot_be_captured_is_told(tmp_path: Path, format: str, package: str, said: str) -> None:
    stage = Stage(tmp_path, variables={"Id": package})
    stage.add_folder("root", format)
    with pytest.raises(StepFailed, match=said):
        capture_image.run(stage.work('do = "capture_image"\nvolume = "root"\npackage_id = "%Id%"\n'))


def test_without_room_for_the_image_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "memory", lambda: {"MemAvailable": 0})
    monkeypatch.setattr(keeping, "SPARE_BYTES", 1 << 50)
    stage = Stage(tmp_path, variables={"Number": "1"})
    stage.add_folder("root")
    with pytest.raises(StepFailed, match="have no room on any volume and none in memory"):
        capture_image.run(stage.work(DO))
