# SPDX-License-Identifier: Apache-2.0
"""A disk that becomes full at any write of an import, a repair or a validation: told in words, nothing half there, and gone on
with once there is room. The disk is a tmpfs of its own, which a file of somebody else fills but for so many pages."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.distribution.bundles.test_taking_in import assert_same, export
from tests.distribution.stocked import blob_path, open_library, publish_image, publish_tree
from tests.distribution.validation.test_repair import Shelf

from dpd.content.library import Library
from dpd.content.storage.roots import Roots
from dpd.distribution.bundles.taking_in import BundleImport
from dpd.distribution.validation.repair import Repair
from dpd.distribution.validation.store import DamageState, RunState, ValidationStore
from dpd.errors import ContentError, LibraryFull

PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("missing: root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "origin") as library:
        publish_image(library, tmp_path, size_bytes=1_300_000)
        publish_tree(library, tmp_path)
        yield library


def fill(disk: Path, pages_left: int) -> Path:
    """Somebody else's file, which leaves so many pages."""
    path = disk / "somebody"
    status = os.statvfs(disk)
    count = max(0, status.f_bavail * status.f_frsize - pages_left * PAGE)
    with path.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(count, 1))
    return path


def with_ever_more_room(disk: Path, change: Callable[[], None], look: Callable[[], None]) -> int:
    """Try the change with no page left, then one, two, four ... until it goes through; `look` in between. How many tries failed."""
    failed, pages = 0, 0
    while True:
        somebody = fill(disk, pages)
        try:
            change()
        except LibraryFull:
            failed += 1
        else:
            return failed
        finally:
            somebody.unlink()
        look()
        pages = pages + 1 if pages < 8 else pages * 5 // 4


def test_an_import(disk: Path, origin: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = export(origin)
    monkeypatch.setattr(Roots, "place", lambda roots, size_bytes: 0)  # its look at the free room, as if that went later
    with open_library(disk / "library") as library:

        def change() -> None:
            work = BundleImport(library, {origin.public_key()}, lambda done, total: None, lambda: None)
            work.run(io.BytesIO(archive).read)

        def look() -> None:
            for content in library.contents():
                assert_same(library, origin, content.package_id)

        assert with_ever_more_room(disk, change, look) > 10
        for package_id in ("LAB00001", "LAB00002"):
            assert_same(library, origin, package_id)


def test_a_repair(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Roots, "place", lambda roots, size_bytes: 0)
    with open_library(disk / "library") as library:
        image = publish_image(library, tmp_path, size_bytes=1_300_000)
        good = tmp_path / "good"
        good.write_bytes(blob_path(disk / "library", image.sha256).read_bytes())
        blob_path(disk / "library", image.sha256).write_bytes(b"x" + good.read_bytes()[1:])
        (damage,) = library.damage(image)

        def look() -> None:
            with pytest.raises(ContentError):
                library.open_blob(image)

        def change() -> None:
            Repair(library, Shelf(good)).mend(image, damage, lambda: None)

        assert with_ever_more_room(disk, change, look) > 5
        library.verify("LAB00001")


def test_what_validation_remembers(disk: Path) -> None:
    """Its file refuses in words, and is whole afterwards."""
    store = ValidationStore(disk / "validation.db")

    def change() -> None:
        run = store.begin(1, "")
        for number in range(200):
            store.note_damage(f"{number:064x}", "LAB00001", 1, "x" * 200, 10)
            store.end_damage(f"{number:064x}", DamageState.REPAIRED, "y" * 200)
        store.advance(run, "LAB00001", 1, 10)
        store.end(run, RunState.DONE)

    assert with_ever_more_room(disk, change, lambda: None) > 2
    assert store.validated_at() > 0
    store.close()
