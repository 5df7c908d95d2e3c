# SPDX-License-Identifier: Apache-2.0
"""A disk that becomes full at any write of a change: told in words, nothing lost, nothing half there, and the same change
done once there is room again.

The disk is a tmpfs or an ext4 of its own, and a file of somebody else fills it but for so many pages: none, one, two … until the
change goes through. The library's own look at free room before it begins is answered as if that file came later.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES

from dpd.content.description import Description, decode_signed
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content.storage.disk import sync_file_system
from dpd.content.storage.root_folder import drop_part
from dpd.content.storage.roots import Roots
from dpd.errors import ContentError, LibraryFull

PAGE = 4096
made = random.Random(23)


@dataclass
class Site:
    """A library on a small disk, one on a large disk, and sources."""

    disk: Path
    large: Path
    library: Library

    @property
    def root(self) -> Path:
        return self.disk / "library"

    def reopen(self) -> None:
        self.library.close()
        self.library = Library(self.root, slab_bytes=SLAB_BYTES)


def mount_tmpfs(disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M,nr_inodes=600", "tmpfs", disk], check=True)


def mount_ext4(disk: Path) -> None:
    """Which gives room to bytes long after they were written, and needs some for its own."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4, of Debian's e2fsprogs")
    image = disk.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", str(PAGE), "-N", "600", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], check=False).returncode:
        pytest.skip("needs a loop device")


@pytest.fixture(params=[mount_tmpfs, mount_ext4], ids=["tmpfs", "ext4"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    disk, large = tmp_path / "disk", tmp_path / "large"
    disk.mkdir()
    large.mkdir()
    write_sources(large)
    request.param(disk)
    site = None
    try:
        site = Site(disk, large, Library(disk / "library", slab_bytes=SLAB_BYTES))
        site.library.publish(large / "old.img", "OLD")
        monkeypatch.setattr(Roots, "place", lambda roots, size_bytes: active_root(roots))
        yield site
    finally:
        if site is not None:
            site.library.close()
        subprocess.run(["umount", disk], check=True)


def active_root(roots: Roots) -> int:
    return next(status.id for status in roots.status() if status.state == "active")


def write_sources(folder: Path) -> None:
    (folder / "old.img").write_bytes(made.randbytes(3 * SLAB_BYTES + 1))
    (folder / "new.img").write_bytes(made.randbytes((1 << 20) + 7))
    for name, size in (("a", 5), ("b/c", 100_000), ("b/d", 0), ("e", (1 << 20) + 1)):
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_bytes(made.randbytes(size))


def publish_file(site: Site) -> None:
    site.library.publish(site.large / "new.img", "NEW", 1)


def publish_folder(site: Site) -> None:
    site.library.publish(site.large / "tree", "NEW", 1)


def take_out(site: Site) -> None:
    site.library.remove("NEW", 1)


def description_of(site: Site, source: str) -> tuple[Description, dict[str, Path]]:
    """What another library says of this source, and where its blobs are."""
    folder = site.large / "other"
    with Library(folder, slab_bytes=SLAB_BYTES) as other:
        content = other.publish(site.large / source, "NEW", 1)
        told = decode_signed(other.description(content), other.public_key())
    return told, {path.name: path for path in folder.glob("blobs/??/*")}


def arriving(source: str) -> Callable[[Site], Callable[[Site], None]]:
    """As a pull brings it: blob after blob, and after a failure with what is here already."""

    def prepare(site: Site) -> Callable[[Site], None]:
        told, blobs = description_of(site, source)

        def arrive(site: Site) -> None:
            arrival = site.library.arrive(told, None)
            try:
                for wanted in arrival.missing:
                    part = arrival.receive(wanted.sha256)
                    try:
                        part.write(blobs[wanted.sha256].read_bytes()[part.position :])
                        part.finish()
                    except BaseException:
                        part.close()
                        raise
                arrival.finish()
            finally:
                arrival.abandon()

        return arrive

    return prepare


def fill_but(disk: Path, pages: int) -> Path:
    """A file of somebody else that leaves so many pages."""
    filler, size = disk / "filler", 0
    sync_file_system(disk)  # what is freed or still to be placed counts from here on
    with filler.open("wb") as file:
        step = os.statvfs(disk).f_bavail
        while step:
            try:
                os.posix_fallocate(file.fileno(), size * PAGE, step * PAGE)
                size += step
            except OSError:
                step //= 2
        file.truncate(max(1, size - pages) * PAGE)
        os.fsync(file.fileno())
    return filler


def fill_with_names_but(disk: Path, names: int) -> Path:
    """A folder of somebody else that leaves so many names of files, and room enough."""
    filler = disk / "filler"
    filler.mkdir()
    for number in range(os.statvfs(disk).f_favail - names):
        (filler / str(number)).touch()
    return filler


Fill = Callable[[Path, int], Path]


def full_with(site: Site, left: int, change: Callable[[Site], object], fill: Fill = fill_but) -> str:
    """What the change says on a disk with so much left; "" where it went through."""
    filler = fill(site.disk, left)
    try:
        change(site)
    except LibraryFull as error:
        return str(error)
    finally:
        drop_part(filler)
    return ""


def state_of(library: Library) -> list[Content]:
    contents = library.contents()
    for content in contents:
        library.verify(content.package_id, content.source_version)
    assert library.damaged_blobs() == []
    return contents


def files_of(root: Path, *, parts: bool) -> list[str]:
    """Everything that a change could leave behind."""
    folders = ["blobs", "manifests", "chunks", *(["incoming"] if parts else [])]
    return sorted(str(path) for folder in folders for path in (root / folder).rglob("*") if path.is_file())


def fill_at_every_write(
    site: Site,
    change: Callable[[Site], None],
    undo: Callable[[Site], None],
    *,
    keeps_blobs: bool = False,
    fill: Fill = fill_but,
) -> int:
    """How many times the disk was full before the change went through."""
    change(site)
    undo(site)
    site.library.gc(delete=True)
    site.reopen()  # and the log of the database is short again
    before, files = state_of(site.library), files_of(site.root, parts=True)
    times = pages = 0
    while True:
        drop_empty_folders(site.root)
        told = full_with(site, pages, change, fill)
        if not told:
            break
        times, pages = times + 1, pages + 1 + times // 8  # closer at first, where single pages matter
        assert state_of(site.library) == before
        site.reopen()
        assert state_of(site.library) == before
        if keeps_blobs:
            site.library.gc(delete=True)
        assert files_of(site.root, parts=not keeps_blobs) == files
        if times % 5 == 0:  # with room again it goes through
            change(site)
            undo(site)
            site.library.gc(delete=True)
            site.reopen()
    state_of(site.library)
    return times


def drop_empty_folders(root: Path) -> None:
    """So that they have to be made again."""
    for folder in root.glob("blobs/??"):
        with suppress(OSError):
            folder.rmdir()


def test_a_file_is_published_or_not(site: Site) -> None:
    assert fill_at_every_write(site, publish_file, take_out) > 15


def test_a_folder_is_published_or_not(site: Site) -> None:
    assert fill_at_every_write(site, publish_folder, take_out) > 15


@pytest.mark.parametrize("change", [publish_file, publish_folder])
def test_a_disk_without_names_left_is_told_the_same(site: Site, change: Callable[[Site], None]) -> None:
    assert fill_at_every_write(site, change, take_out, fill=fill_with_names_but) >= 3


@pytest.mark.parametrize("source", ["new.img", "tree"])
def test_content_arrives_or_not(site: Site, source: str) -> None:
    assert fill_at_every_write(site, arriving(source)(site), take_out, keeps_blobs=True) > 15


def test_a_drain_into_a_full_disk_moves_what_it_can_and_goes_on(site: Site) -> None:
    site.library.add_root(site.large / "second")
    site.library.set_root(0, active=False)
    site.library.publish(site.large / "tree", "TREE")
    site.library.set_root(0, active=True)
    before = state_of(site.library)
    site.reopen()
    times = pages = 0
    while True:
        told = full_with(site, pages, lambda site: site.library.drain_root(1))
        if not told:
            break
        assert "root 1" in told or "the disk is full" in told
        times, pages = times + 1, pages + 1 + times // 8
        assert state_of(site.library) == before
        site.reopen()
        assert state_of(site.library) == before
        roots = site.library.roots()
        assert sum(status.blobs for status in roots) == 5
        assert sorted(files_of(site.large / "second", parts=True) + files_of(site.root, parts=True)) == sorted(
            {*files_of(site.large / "second", parts=True), *files_of(site.root, parts=True)}
        )
        there = [path for status in roots for path in Path(status.path).glob("blobs/??/*")]
        assert len(there) == len({path.name for path in there}) == 5
    assert times > 15
    assert site.library.roots()[1].blobs == 0
    assert state_of(site.library) == before


def test_gc_makes_room_on_a_disk_without_any(site: Site) -> None:
    """Files that no row knows go without a row being written."""
    for pages in range(12):
        orphan = site.root / "blobs" / "ab" / ("ab" * 32)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(bytes(5 * PAGE))
        os.utime(orphan, (1, 1))
        before = state_of(site.library)
        assert full_with(site, pages, lambda site: site.library.gc(delete=True)) == ""
        assert not orphan.exists()
        assert state_of(site.library) == before
        site.reopen()


def test_gc_of_blobs_that_no_content_needs_is_done_or_told(site: Site) -> None:
    """Their rows go first, for which the log of the database may have to grow."""
    told, blobs = description_of(site, "tree")

    def leave_garbage(site: Site) -> None:
        arrival = site.library.arrive(told, None)
        for wanted in arrival.missing:
            part = arrival.receive(wanted.sha256)
            part.write(blobs[wanted.sha256].read_bytes())
            part.finish()
        arrival.abandon()

    before, said = state_of(site.library), list[str]()
    for pages in range(10):
        leave_garbage(site)
        site.reopen()  # the log begins anew
        said.append(full_with(site, pages, lambda site: site.library.gc(delete=True)))
        assert state_of(site.library) == before
        site.library.gc(delete=True)
        assert site.library.totals().blobs == 1
        site.reopen()
    assert said[0]
    assert not said[-1]
    assert all("disk" in each for each in said if each)


def test_tags_and_roots_on_a_full_disk_are_as_before(site: Site) -> None:
    """The smallest changes there are, each a transaction."""
    filler = fill_but(site.disk, 0)
    before, roots = state_of(site.library), [status.reserve_bytes for status in site.library.roots()]
    told = list[str]()
    for number in range(40):
        try:
            site.library.set_tags("OLD", None, [f"n{number}"])
            site.library.set_root(0, 1)
            before, roots = state_of(site.library), [1]
        except ContentError as error:
            told.append(str(error))
    assert told
    assert all("the disk is full; make room there and try again" in each for each in told)
    assert state_of(site.library)[0].tags == before[0].tags
    assert [status.reserve_bytes for status in site.library.roots()] == roots
    filler.unlink()
    site.library.set_tags("OLD", None, ["again"])
    site.reopen()
    assert state_of(site.library)[0].tags == ("again",)
