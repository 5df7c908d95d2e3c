# SPDX-License-Identifier: Apache-2.0
"""An image is applied while it comes by multicast: from a real session on loopback, by the real wimlib, onto a real disk. The session's
sender keeps back the slab that it would send last, so that nothing here depends on who is faster."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.target import test_deploy
from tests.target.point import Point, opened_point
from tests.target.stage import MIB, Stage, capture_tree, loop_disk, make_tree, need, staged_disk
from tests.target.steps.test_apply_os_image import differences

from dpd.errors import ContentCorrupt, DpdError
from dpd.protocol.multicast.carousel import Carousel
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.protocol.multicast.member import Member
from dpd.target.bundle import build
from dpd.target.deploy import EXIT_DONE
from dpd.target.images import served_file
from dpd.target.images.arriving import PLACE
from dpd.target.receiving.reception import Kicked
from dpd.target.steps import apply_os_image
from dpd.target.work.step_failure import RunEnded

CONTENT = '{ name = "content", size = "110MiB", format = "ext4" }'
ROOT = '{ name = "root", size = "rest", format = "ext4" }'
KEYS = 'package = "OS1"\nvolume = "root"\nmulticast = true\ncontent_volume = "content"\n'
APPLY = f'do = "apply_os_image"\n{KEYS}'
LAST = 3  # of five slabs, since the fifth has the tables and comes with the first
PATIENCE_S = 60.0


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Senders do not send the last slab until it is set."""
    gate = threading.Event()
    choose = Carousel.choose

    def choose_but_last(self: Carousel, wanting: Iterable[Member]) -> int | None:
        slab = choose(self, wanting)
        return None if slab == LAST and self._geometry.slab_count > LAST and not gate.is_set() else slab

    monkeypatch.setattr(Carousel, "choose", choose_but_last)
    return gate


@asynccontextmanager
async def deploying(home: Path, *partitions: str, capture: tuple[str, ...] = ()) -> AsyncIterator[tuple[Point, Stage]]:
    """A point that has an image of five slabs as OS1, and a machine with a partitioned disk."""
    wim = large_image(home, *capture)
    with ExitStack() as stack:
        async with opened_point(home, size_bytes=1000) as point:
            point.library.publish(wim, "OS1")
            disk = staged_disk(
                home, partitions or (CONTENT, ROOT), url=point.url, public_key=point.library.public_key()
            )
            yield point, stack.enter_context(disk)


def large_image(home: Path, *capture: str) -> Path:
    need("wimlib-imagex")
    if not served_file.DEVICE.exists():
        pytest.skip(f"missing: {served_file.DEVICE}")
    tree = make_tree(home / "tree")
    (tree / "var/lib/large").write_bytes(os.urandom(22 * MIB))
    wim = capture_tree(tree, home / "os1.wim", *capture)
    assert wim.stat().st_size // SLAB_BYTES == LAST + 1
    return wim


def is_applying(stage: Stage) -> bool:
    """Whether wimlib has written something, and all is here but the last slab."""
    return any(
        done >= total - SLAB_BYTES and re.search(r", [1-9]\d* % applied", message)
        for done, total, message in stage.progress
    )


async def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.05)


def readers() -> list[str]:
    """Programs that have to do with the arriving file."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:  # ended at this moment
            continue
        if words.startswith(b"wimlib-imagex") and PLACE.encode() in words:
            found.append(words.decode().replace("\0", " "))
    return found


def mounts_below(home: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{home}/" in line and PLACE in line]


@pytest.mark.parametrize(
    ("format", "capture"),
    [("ext4", ()), ("ntfs", ("--solid", "--solid-compress=xpress", "--solid-chunk-size=64K"))],
    ids=["ordinary to ext4", "solid to NTFS"],
)
async def test_it_is_applied_before_its_last_slab_is_there(
    tmp_path: Path, gate: threading.Event, format: str, capture: tuple[str, ...]
) -> None:
    root = ROOT.replace("ext4", format)
    if format == "ntfs":
        need("mkntfs", "ntfs-3g")
    async with deploying(tmp_path, CONTENT, root, capture=capture) as (point, stage):
        applying = asyncio.create_task(asyncio.to_thread(apply_os_image.run, stage.work(APPLY)))
        await until(lambda: is_applying(stage) or applying.done())
        assert not applying.done(), applying.result()
        assert point.multicast.stats.completions == 0
        gate.set()
        assert await applying == "image 1 of OS1 version 1, while it arrived to root"
        assert point.multicast.stats.completions == 1
        assert stage.progress[-1][2] == "applied"
        ways = {message.partition(",")[0] for _, _, message in stage.progress}
        assert ways == {"by multicast", "applied"}
        place = stage.volumes.folder("root")
        if format == "ext4":
            assert differences(tmp_path / "tree", place) == ""
        else:
            for name in ("var/lib/large", "var/lib/random", "etc/grüße"):
                assert (place / name).read_bytes() == (tmp_path / "tree" / name).read_bytes()
        assert list(stage.volumes.folder("content").rglob("*.*")) == []
        assert stage.state.received == []
        assert mounts_below(tmp_path) == []


@pytest.mark.parametrize("end", ["kicked", "cancelled"])
async def test_an_end_in_the_middle_says_why_and_what_was_verified_counts_again(
    tmp_path: Path, gate: threading.Event, end: str
) -> None:
    async with deploying(tmp_path) as (point, stage):
        applying = asyncio.create_task(asyncio.to_thread(apply_os_image.run, stage.work(APPLY)))
        await until(lambda: is_applying(stage) or applying.done())
        if end == "kicked":
            (session,) = point.multicast.sessions()
            (member,) = point.multicast.members(session.session_id)
            await asyncio.to_thread(point.multicast.kick_member, session.session_id, member.member, fall_back=False)
            with pytest.raises(Kicked, match="serves this receiver no more"):
                await applying
        else:
            stage.ending = RunEnded("cancelled by the site")
            with pytest.raises(RunEnded, match="cancelled by the site"):
                await applying
        assert readers() == []
        assert mounts_below(tmp_path) == []
        assert stage.state.dirty == ["root"]
        if end == "kicked":  # this session does not take it again
            return
        (stage.volumes.folder("root") / "of-the-first-try").write_text("x")
        stage.ending = None
        gate.set()
        await asyncio.to_thread(apply_os_image.run, stage.work(APPLY + "keep = true"))
        assert "OS1 resuming verified_slabs 4  of 5" in stage.told()
        assert differences(tmp_path / "tree", stage.volumes.folder("root")) == ""
        (kept,) = stage.state.received
        assert (stage.volumes.folder("content") / kept.path).read_bytes() == (tmp_path / "os1.wim").read_bytes()


def is_begun(volumes: Path) -> bool:
    """Whether wimlib has written a file, and four slabs are verified."""
    journal = "".join(each.read_text() for each in volumes.glob("content/.dpd-content/*.journal"))
    return journal.count("\nv ") == LAST + 1 and (volumes / "root/x/var/lib/large").exists()


async def test_killed_in_the_middle_it_leaves_no_reader_and_goes_on_with_what_is_verified(
    tmp_path: Path, gate: threading.Event
) -> None:
    program = tmp_path / "dpd-target.pyz"
    build(program)
    wim = large_image(tmp_path)
    with loop_disk(tmp_path) as disk:
        async with test_deploy.serving(tmp_path, program) as served:
            served.site.library.publish(wim, "OS1")
            served.offer(
                f'[[step]]\nname = "Disk"\ndo = "partition_disk"\ndisk = "{disk}"\npartitions = [{CONTENT}, {ROOT}]\n'
                f'[[step]]\nname = "Apply"\ndo = "apply_data_image"\nfolder = "x"\n{KEYS}'
            )
            served.boot()
            process = served.begin()
            await until(lambda: is_begun(served.work / "volumes") or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            process.kill()
            await asyncio.to_thread(process.wait)
            await until(lambda: not readers())
            gate.set()
            code, out = await served.deploy()
            told = (served.work / "log").read_text()
            assert code == EXIT_DONE, out + told
            assert "OS1 resuming verified_slabs 4  of 5" in told
            assert mounts_below(tmp_path) == []


async def test_damage_at_the_point_is_told_and_never_applied(tmp_path: Path) -> None:
    async with deploying(tmp_path) as (_, stage):
        (blob,) = [each for each in (tmp_path / "library").rglob("*") if each.is_file() and each.stat().st_size > MIB]
        blob.chmod(0o644)
        with blob.open("r+b") as file:
            file.seek(LAST * SLAB_BYTES + 7)
            file.write(b"damage")
        with pytest.raises(ContentCorrupt, match="OS1 is not what its manifest says"):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
        found = stage.volumes.folder("root") / "var/lib/large"
        assert b"damage" not in found.read_bytes()


async def test_without_fuse_it_is_received_whole_then_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with deploying(tmp_path) as (_, stage):
        monkeypatch.setattr(served_file, "DEVICE", tmp_path / "none")
        said = await asyncio.to_thread(apply_os_image.run, stage.work(APPLY))
        assert said == "image 1 of OS1 version 1 to root"
        assert "it is received whole, then applied, since nobody can read it here" in stage.told()
        assert [message for _, _, message in stage.progress if "%" in message] == []
        assert differences(tmp_path / "tree", stage.volumes.folder("root")) == ""


async def test_a_volume_that_is_written_as_a_whole_keeps_no_copy(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g")
    async with deploying(tmp_path, CONTENT, ROOT.replace("ext4", "ntfs")) as (_, stage):
        with pytest.raises(DpdError, match="content_volume 'ROOT': is to be written as a whole; name another"):
            await asyncio.to_thread(apply_os_image.run, stage.work(APPLY.replace('"content"', '"ROOT"')))
