# SPDX-License-Identifier: Apache-2.0
"""One image becomes a content of its own; wimlib, the library and the disk are real."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.content.wims import make_files, needs_wimlib, two_images, wimlib

from dpd.content.image_export import ExportOrder, export_image, export_name, needed_bytes, own_tags
from dpd.content.image_lookup import open_wim
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

pytestmark = needs_wimlib


def unseen(done: int, total: int) -> None:
    pass


def exported(library: Library, origin: Content, index: int = 2, package_id: str = "CORE") -> Content:
    return export_image(library, ExportOrder(origin, index, package_id), unseen)


def bytes_of(library: Library, content: Content) -> bytes:
    descriptor = library.open_blob(content)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def nothing_left_behind(root: Path) -> bool:
    return list((root / "incoming").iterdir()) == []


@pytest.mark.parametrize("options", [("--compress=XPRESS",), ("--check",), ("--pipable",), ("--compress=none",)])
def test_an_image_becomes_a_content_of_its_own(
    library: Library, root: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    origin = library.publish(
        two_images(tmp_path, *options), "BOTH", kind=ContentKind.BOOT_IMAGE, tags=["lab", "site=north"]
    )
    before = bytes_of(library, origin)
    seen: list[tuple[int, int]] = []
    content = export_image(library, ExportOrder(origin, 2, "CORE"), lambda *now: seen.append(now))
    assert (content.source_version, content.kind, content.format) == (1, ContentKind.BOOT_IMAGE, ContentFormat.WIM)
    assert content.name == "install-2.wim"
    assert [(image.index, image.edition) for image in content.images] == [(1, "Core")]
    assert set(content.tags) == {
        "lab",
        "site=north",
        "architecture=x64",
        "edition=Core",
        "language=de-DE",
        "version=10.0.26100.1",
    }
    assert bytes_of(library, origin) == before
    library.verify("BOTH")
    library.verify("CORE")
    assert nothing_left_behind(root)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    theirs = tmp_path / "theirs.wim"
    (tmp_path / "ours.wim").write_bytes(bytes_of(library, content))
    wimlib("export", tmp_path / "install.wim", "2", theirs)
    assert hashes(tmp_path / "ours.wim") == hashes(theirs)
    assert ("Integrity" in wimlib("info", tmp_path / "ours.wim")) == ("--check" in options)


def hashes(path: Path) -> list[str]:
    return sorted(line for line in wimlib("info", path, "--blobs").splitlines() if line.startswith("Hash"))


def test_an_image_of_a_solid_wim_stays_solid(library: Library, tmp_path: Path) -> None:
    origin = library.publish(two_images(tmp_path, "--solid", name="install.esd"), "BOTH")
    content = exported(library, origin)
    assert content.name == "install-2.esd"
    with open_wim(library, content) as opened:
        assert opened.is_solid


def test_an_image_of_a_split_wim_becomes_a_whole_one(library: Library, root: Path, tmp_path: Path) -> None:
    whole = two_images(tmp_path)
    (tmp_path / "set").mkdir()
    wimlib("split", whole, tmp_path / "set" / "install.swm", "0.3")
    origin = library.publish(tmp_path / "set" / "install.swm", "SPLIT")
    assert origin.file_count > 3
    content = exported(library, origin)
    assert (content.name, content.format) == ("install-2.wim", ContentFormat.WIM)
    assert nothing_left_behind(root)


def test_an_image_out_of_installation_media_is_an_os_image(library: Library, tmp_path: Path) -> None:
    (tmp_path / "media" / "sources").mkdir(parents=True)
    two_images(tmp_path).rename(tmp_path / "media" / "sources" / "install.wim")
    (tmp_path / "media" / "setup.exe").write_bytes(b"setup")
    origin = library.publish(tmp_path / "media", "MEDIA", kind=ContentKind.OS_UPGRADE_PACKAGE)
    content = exported(library, origin)
    assert (content.kind, content.name) == (ContentKind.OS_IMAGE, "install-2.wim")


def test_a_boot_image_stays_marked(library: Library, tmp_path: Path) -> None:
    path = two_images(tmp_path)
    wimlib("info", path, "2", "--boot")
    origin = library.publish(path, "BOTH")
    for index, boot_index in ((1, 0), (2, 1)):
        content = exported(library, origin, index, f"ONE{index}")
        with open_wim(library, content) as opened:
            assert opened.summary.boot_index == boot_index


def test_the_next_export_is_the_next_version(library: Library, tmp_path: Path) -> None:
    origin = library.publish(two_images(tmp_path), "BOTH")
    assert [exported(library, origin, index).source_version for index in (1, 2)] == [1, 2]
    with pytest.raises(ContentError, match="exists with other content"):
        export_image(library, ExportOrder(origin, 1, "CORE", 2), unseen)


@pytest.mark.parametrize("index", [0, 3, 2**31])
def test_an_index_that_is_not_there_is_told(library: Library, tmp_path: Path, index: int) -> None:
    origin = library.publish(two_images(tmp_path), "BOTH")
    with pytest.raises(
        ContentError, match=f"has 2 images, and none with index {index}; `dpd content images BOTH` shows"
    ):
        exported(library, origin, index)


def test_damage_in_the_source_does_not_become_new_content(library: Library, root: Path, tmp_path: Path) -> None:
    origin = library.publish(two_images(tmp_path, "--compress=none"), "BOTH")
    blob = next((root / "blobs").glob(f"*/{origin.sha256}"))
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) - 300_000] ^= 1
    blob.chmod(0o640)
    blob.write_bytes(damaged)
    with pytest.raises(
        ContentCorrupt, match=r"BOTH version 1: image 2 cannot be exported whole: .*`dpd content verify BOTH`"
    ):
        exported(library, origin)
    assert [content.package_id for content in library.contents()] == ["BOTH"]
    assert nothing_left_behind(root)


def test_who_watches_may_end_it(library: Library, root: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise ContentError("enough")

    origin = library.publish(two_images(tmp_path), "BOTH")
    with pytest.raises(ContentError, match="enough"):
        export_image(library, ExportOrder(origin, 1, "CORE"), stop)
    assert nothing_left_behind(root)


def test_a_library_that_closes_ends_an_export(root: Path, tmp_path: Path) -> None:
    began = threading.Event()

    def slowly(done: int, total: int) -> None:
        began.set()
        time.sleep(0.05)

    library = Library(root, slab_bytes=4096)
    origin = library.publish(two_images(tmp_path), "BOTH")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(export_image, library, ExportOrder(origin, 2, "CORE"), slowly)
        assert began.wait(20)
        library.close()
        with pytest.raises(ContentError, match=r"closing|closed"):
            running.result(20)
    assert nothing_left_behind(root)
    with Library(root, slab_bytes=4096) as again:
        assert [content.package_id for content in again.contents()] == ["BOTH"]


@pytest.fixture
def small_root(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 MB for a library."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=False).returncode:
        pytest.skip("missing: root, to mount a small tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("free_bytes", [4 << 20, 100_000])
def test_too_little_room_is_told_before_the_work(small_root: Path, tmp_path: Path, free_bytes: int) -> None:
    """With 4 MiB free a file of 0.8 MB and the spare room beside it would fit, but not for certain."""
    with Library(small_root / "library", slab_bytes=4096) as library:
        origin = library.publish(two_images(tmp_path), "BOTH")
        (small_root / "filler").write_bytes(bytes(shutil.disk_usage(small_root).free - free_bytes))
        with pytest.raises(LibraryFull, match="needs"):
            exported(library, origin)
        assert nothing_left_behind(small_root / "library")


def test_a_disk_that_fills_up_meanwhile_is_told(small_root: Path, tmp_path: Path) -> None:
    """Something else takes the room while wimlib writes."""

    def fill(done: int, total: int) -> None:
        with suppress(OSError), (small_root / "filler").open("ab", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass

    with Library(small_root / "library", slab_bytes=4096) as library:
        folder = tmp_path / "large"
        make_files(folder, 1, count=12, size_bytes=500_000)
        wimlib("capture", folder, tmp_path / "large.wim", "large")
        origin = library.publish(tmp_path / "large.wim", "LARGE")
        with pytest.raises(LibraryFull):
            export_image(library, ExportOrder(origin, 1, "ONE"), fill)
        assert nothing_left_behind(small_root / "library")
        assert [content.package_id for content in library.contents()] == ["LARGE"]


def test_the_room_is_that_of_the_image_or_of_its_source(library: Library, tmp_path: Path) -> None:
    origin = library.publish(two_images(tmp_path), "BOTH")
    with open_wim(library, origin) as opened:
        image = opened.summary.images[0]
        assert image.size_bytes < needed_bytes(opened, image) <= image.size_bytes + (4 << 20)


@pytest.mark.parametrize(
    ("name", "exported_name"),
    [
        ("install.wim", "install-2.wim"),
        ("install.esd", "install-2.esd"),
        ("install.swm", "install-2.wim"),
        ("image", "image-2.wim"),
    ],
)
def test_the_new_file_says_what_it_is_of(name: str, exported_name: str) -> None:
    assert export_name(name, 2) == exported_name


def test_tags_of_images_do_not_pass_to_an_export(library: Library, tmp_path: Path) -> None:
    origin = library.publish(two_images(tmp_path), "BOTH", tags=["lab"])
    assert "edition=Professional" in origin.tags
    assert own_tags(origin) == ("lab",)


def test_an_export_is_the_same_each_time_but_for_its_guid(library: Library, tmp_path: Path) -> None:
    """wimlib gives each file a GUID of its own, so that equal exports are no equal blobs."""
    origin = library.publish(two_images(tmp_path), "BOTH")
    first, second = (bytes_of(library, exported(library, origin)) for _ in range(2))
    assert hashlib.sha256(first[40:]).digest() == hashlib.sha256(second[40:]).digest()
