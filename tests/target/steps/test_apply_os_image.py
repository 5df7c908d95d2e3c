# SPDX-License-Identifier: Apache-2.0
"""Images onto real file systems: from a received file, received now, or while they arrive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.target import ntfs_volume
from tests.target.point import Point, opened_point
from tests.target.stage import MIB, Stage, capture_tree, make_tree, need, staged_disk

from dpd.errors import ContentCorrupt
from dpd.target.images import keeping
from dpd.target.steps import apply_os_image, download_content, join_multicast
from dpd.target.work.step_failure import StepFailed

ROOT = '{ name = "root", size = "rest", format = "ext4" }'
APPLY = 'do = "apply_os_image"\npackage = "OS1"\nvolume = "root"\n'


@asynccontextmanager
async def deploying(
    home: Path, *partitions: str, size_bytes: int = 256 * MIB, capture: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Point, Stage]]:
    """A point that has the small system as OS1, and a machine with a partitioned disk."""
    need("wimlib-imagex")
    wim = capture_tree(make_tree(home / "tree"), home / "os1.wim", *capture)
    with ExitStack() as stack:
        async with opened_point(home, size_bytes=1000) as point:
            point.library.publish(wim, "OS1")
            disk = staged_disk(
                home, partitions or [ROOT], size_bytes=size_bytes, url=point.url, public_key=point.library.public_key()
            )
            yield point, stack.enter_context(disk)


def differences(tree: Path, found: Path) -> str:
    import subprocess

    ran = subprocess.run(
        ["diff", "-r", "--no-dereference", "--exclude=lost+found", "--exclude=.dpd-content", tree, found],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


async def test_it_is_fetched_applied_and_not_kept(tmp_path: Path) -> None:
    async with deploying(tmp_path) as (_, stage):
        said = await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
        root = stage.volumes.folder("root")
        assert said == "image 1 of OS1 version 1 to root"
        assert differences(tmp_path / "tree", root) == ""
        assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
        assert (root / "var/lib/random").stat().st_nlink == 2
        assert stage.state.received == []
        assert not (root / keeping.FOLDER).exists()
        assert stage.state.dirty == []
        assert any(way == "applied" for _, _, way in stage.progress)


@pytest.mark.parametrize(("step", "capture"), [("join_multicast", ()), ("download_content", ("--pipable",))])
async def test_what_an_earlier_step_received_is_applied_and_kept_where_the_step_says_so(
    tmp_path: Path, step: str, capture: tuple[str, ...]
) -> None:
    async with deploying(tmp_path, capture=capture) as (_, stage):
        receive = join_multicast.run if step == "join_multicast" else download_content.run
        keys = f'do = "{step}"\npackage = "OS1"\nvolume = "root"\nvariable = "Where"\n'
        said = await asyncio.to_thread(receive, stage.work(keys))
        assert said.endswith("on root")
        place = Path(stage.variables.get("Where"))
        assert place.read_bytes() == (tmp_path / "os1.wim").read_bytes()
        ways = {way for _, _, way in stage.progress}
        assert ("by multicast" in ways) == (step == "join_multicast")
        await asyncio.to_thread(apply_os_image.run, stage.work(APPLY + "keep = true"))
        assert differences(tmp_path / "tree", stage.volumes.folder("root")) == ""
        assert place.exists()


async def test_a_received_image_is_applied_while_the_site_is_away(tmp_path: Path) -> None:
    async with deploying(tmp_path) as (_, stage):
        await asyncio.to_thread(
            download_content.run, stage.work('do = "download_content"\npackage = "OS1"\nvolume = "root"')
        )
    with staged_disk(tmp_path / "again", [ROOT]) as later:
        place = later.volumes.folder("root") / keeping.FOLDER / "OS1-1.wim"
        place.parent.mkdir()
        place.write_bytes((tmp_path / "os1.wim").read_bytes())
        later.state.received[:] = stage.state.received
        apply_os_image.run(later.work(APPLY))
        assert differences(tmp_path / "tree", later.volumes.folder("root")) == ""


async def test_a_pipable_image_is_applied_while_it_arrives(tmp_path: Path) -> None:
    async with deploying(tmp_path, capture=("--pipable",)) as (_, stage):
        said = await asyncio.to_thread(apply_os_image.run, stage.work(APPLY + 'stream = "always"'))
        assert said == "image 1 of OS1 version 1, while it arrived to root"
        assert differences(tmp_path / "tree", stage.volumes.folder("root")) == ""
        assert {way for _, _, way in stage.progress} == {"by stream"}


async def test_an_image_that_cannot_be_applied_while_it_arrives_is_told_with_what_is_needed(tmp_path: Path) -> None:
    async with deploying(tmp_path) as (_, stage):
        with pytest.raises(StepFailed, match="--pipable"):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY + 'stream = "always"'))


async def test_without_room_for_both_it_is_applied_while_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "memory", lambda: {"MemAvailable": 0})
    monkeypatch.setattr(keeping, "SPARE_BYTES", 1 << 40)
    async with deploying(tmp_path, capture=("--pipable",)) as (_, stage):
        said = await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
        assert "while it arrived" in said
        assert differences(tmp_path / "tree", stage.volumes.folder("root")) == ""


async def test_ntfs_is_written_as_a_whole_and_a_second_try_makes_the_volume_anew(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g")
    async with deploying(tmp_path, ROOT.replace("ext4", "ntfs")) as (_, stage):
        for _ in range(2):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
            found = stage.volumes.folder("root")
            assert (found / "etc/hostname").read_text() == "image\n"
            assert (found / "etc/grüße").read_text() == "ä\n"
            assert (found / "var/lib/random").read_bytes() == (tmp_path / "tree/var/lib/random").read_bytes()
            stage.state.dirty.append("root")  # as if the machine had lost its power in the middle


async def test_all_that_only_ntfs_has_survives_and_a_sparse_file_of_more_than_4_gib(tmp_path: Path) -> None:
    """Captured back from the volume: the same blobs, the same metadata. The large file takes no room on it, nor in the WIM."""
    wim = ntfs_volume.capture_volume(tmp_path / "reference", with_huge=True)
    before = ntfs_volume.described(wim)
    assert f"Uncompressed size = {ntfs_volume.HUGE_BYTES} bytes" in before[f"/{ntfs_volume.HUGE}"]
    told = str(before)
    for what in (
        "REPARSE_POINT",
        '"Zone.Identifier"',
        "SPARSE_FILE",
        "READONLY",
        "DOCUME~1",
        "/etc/tool, /usr/bin/tool",
    ):
        assert what in told, told
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(wim, "OS1")
        with staged_disk(
            tmp_path / "target", [ROOT.replace("ext4", "ntfs")], size_bytes=5 << 30, url=point.url
        ) as stage:
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
            back = ntfs_volume.capture_back(stage.volumes.device("root"), tmp_path / "back.wim")
        assert (tmp_path / "target/disk.img").stat().st_blocks * 512 < 256 * MIB
    assert ntfs_volume.described(back) == before


async def test_damage_at_the_point_is_never_applied(tmp_path: Path) -> None:
    async with deploying(tmp_path, capture=("--pipable",)) as (_, stage):
        (blob,) = [
            each for each in (tmp_path / "library").rglob("*") if each.is_file() and each.stat().st_size > 3 * MIB
        ]
        os.chmod(blob, 0o644)
        with blob.open("r+b") as file:
            file.seek(2 * MIB)
            file.write(b"damage")
        with pytest.raises((ContentCorrupt, StepFailed), match="OS1"):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY + 'stream = "always"'))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            'do = "apply_os_image"\npackage = "OS1"\nvolume = "root"\nindex = 7',
            r"has no image 7; there are 1 \(small\)",
        ),
        ('do = "apply_os_image"\npackage = "LAB00001"\nvolume = "root"', "is no WIM"),
        ('do = "apply_os_image"\npackage = "NONE"\nvolume = "root"', "NONE"),
        (
            'do = "apply_os_image"\npackage = "OS1"\nvolume = "none"',
            "no step made a partition of this name; there are: root",
        ),
    ],
)
async def test_what_cannot_be_applied_is_told(tmp_path: Path, keys: str, said: str) -> None:
    from dpd.errors import DpdError

    async with deploying(tmp_path) as (_, stage):
        with pytest.raises(DpdError, match=said):
            await asyncio.to_thread(apply_os_image.run, stage.work(keys))


async def test_a_volume_that_is_too_small_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    need("wimlib-imagex")
    tree = make_tree(tmp_path / "tree")
    with (tree / "large").open("wb") as file:
        file.truncate(80 * MIB)
    wim = capture_tree(tree, tmp_path / "os1.wim")
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(wim, "OS1")
        with staged_disk(tmp_path, [ROOT], size_bytes=64 * MIB, url=point.url) as stage:
            with pytest.raises(StepFailed, match=r"image 1 has 83\.\d MiB, volume 'root' has room for"):
                await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
            assert stage.progress == []


async def test_manifests_of_another_key_are_refused(tmp_path: Path) -> None:
    async with deploying(tmp_path) as (_, stage):
        stage.content._public_key = bytes(32)
        with pytest.raises(ContentCorrupt, match="signed by the key"):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
