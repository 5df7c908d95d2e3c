# SPDX-License-Identifier: Apache-2.0
"""The verbs about boot images: files on our disk, files that come in one body, what goes wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.boot.conftest import bz_image, efi_program
from tests.boot.wims import adk_tree, make_wim, with_wimlib

from dpd.boot.boot_images import BootImageStore
from dpd.boot.image_kinds import NewImage
from dpd.boot.image_record import Kind
from dpd.control.operations.image import ImageOperations, Part, check_parts
from dpd.control.operations.uploads import Uploads
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

T = TypeVar("T")
LINUX = NewImage("LAB1", Kind.LINUX, (), command_line="quiet")
EFI = NewImage("EFI1", Kind.EFI, ())


@contextmanager
def job() -> Iterator[None]:
    yield


async def in_worker(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def body(content: bytes, piece: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), piece):
        yield content[at : at + piece]


def unseen(done: int, total: int) -> None:
    pass


@pytest.fixture
def operations(tmp_path: Path) -> ImageOperations:
    return ImageOperations(BootImageStore(tmp_path / "boot-images"), Uploads(tmp_path / "uploads"), job, in_worker)


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
async def test_files_behind_one_another_in_a_body_are_told_apart(
    operations: ImageOperations, tmp_path: Path, piece: int
) -> None:
    files = (bz_image(), b"one initrd", b"another initrd")
    parts = [Part("same", len(each)) for each in files]
    added = await operations.add_upload(LINUX, parts, body(b"".join(files), piece), unseen)
    stored = tmp_path / "boot-images" / "LAB1" / "1" / "files"
    assert [(stored / name).read_bytes() for name in added.files] == list(files)
    assert (added.name, added.firmware, added.is_newest) == ("same", ("bios", "uefi-x64"), True)
    assert list((tmp_path / "uploads").iterdir()) == []


@with_wimlib
async def test_a_wim_may_bring_its_boot_sdi_and_is_not_written_twice(
    operations: ImageOperations, tmp_path: Path
) -> None:
    tree = {path: file for path, file in adk_tree().items() if "boot.sdi" not in path}
    wim = make_wim(tmp_path / "winpe.wim", tree).read_bytes()
    parts = [Part("winpe.wim", len(wim)), Part("boot.sdi", 3)]
    added = await operations.add_upload(NewImage("PE", Kind.WINPE, ()), parts, body(wim + b"sdi"), unseen)
    assert (added.name, added.generations) == ("winpe.wim", ("2011", "2023"))
    stored = tmp_path / "boot-images" / "PE" / "1" / "files"
    assert (stored / "boot.sdi").read_bytes() == b"sdi"
    assert (stored / "boot.wim").stat().st_nlink == 1  # the upload was the file itself
    refreshed = await operations.refresh("PE", unseen)
    assert (refreshed.version, refreshed.name) == (2, "winpe.wim")
    assert [(each.version, each.is_newest) for each in operations.images()] == [(1, False), (2, True)]


@pytest.mark.parametrize(
    ("sent", "told", "message"),
    [
        (efi_program()[:-3], 3, "tool.efi: {0} bytes came, expected {1}; send it again"),
        (efi_program() + b"more", -4, "the body is longer than its parts say; send it again"),
    ],
)
async def test_a_body_of_another_length_is_refused(
    operations: ImageOperations, tmp_path: Path, sent: bytes, told: int, message: str
) -> None:
    wanted = len(sent) + told
    with pytest.raises(ContentError) as caught:
        await operations.add_upload(EFI, [Part("tool.efi", wanted)], body(sent), unseen)
    assert str(caught.value) == message.format(len(sent), wanted)
    assert operations.images() == []
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_refusal_names_the_operators_file(operations: ImageOperations) -> None:
    with pytest.raises(ContentCorrupt) as caught:
        await operations.add_upload(EFI, [Part("tool.efi", 4)], body(b"text"), unseen)
    assert str(caught.value) == "tool.efi: no EFI program for x86, x64 or arm64"


async def test_a_file_on_our_disk_is_copied_with_progress(operations: ImageOperations, tmp_path: Path) -> None:
    path = tmp_path / "tool.efi"
    path.write_bytes(efi_program())
    seen: list[tuple[int, int]] = []
    new = NewImage("EFI1", Kind.EFI, (path,), description="Tool", is_default=True)
    added = await operations.add(new, lambda *now: seen.append(now))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert (added.description, added.is_default, added.firmware) == ("Tool", True, ("uefi-x64",))
    assert path.exists()
    assert operations.image("EFI1") == added


async def test_removing_tells_what_was_removed(operations: ImageOperations, tmp_path: Path) -> None:
    path = tmp_path / "tool.efi"
    path.write_bytes(efi_program())
    new = NewImage("EFI1", Kind.EFI, (path,))
    for _ in range(2):
        await operations.add(new, unseen)
    assert (await operations.remove("EFI1", 1)).version == 1
    assert (await operations.remove("EFI1")).version == 2
    with pytest.raises(ContentNotFound):
        await operations.remove("EFI1")
    with pytest.raises(ContentNotFound):
        await operations.refresh("EFI1", unseen)


async def test_only_a_wim_can_be_refreshed(operations: ImageOperations, tmp_path: Path) -> None:
    path = tmp_path / "tool.efi"
    path.write_bytes(efi_program())
    await operations.add(NewImage("EFI1", Kind.EFI, (path,)), unseen)
    with pytest.raises(ContentError, match="made of efi files, not of a WIM"):
        await operations.refresh("EFI1", unseen)


@pytest.mark.parametrize(("kind", "count"), [(Kind.WINPE, 0), (Kind.WINPE, 3), (Kind.EFI, 2), (Kind.LINUX, 0), (Kind.LINUX, 18)])  # fmt: skip
def test_a_number_of_files_that_no_image_has_is_refused(kind: Kind, count: int) -> None:
    with pytest.raises(ContentError, match=f"boot image of {count} files: expected"):
        check_parts(kind, count)
