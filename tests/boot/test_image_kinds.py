# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a file becomes part of a boot image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.boot.conftest import bz_image, efi_program

from dpd.boot.image_kinds import NewImage, lay_out
from dpd.boot.image_record import BootImage, Kind
from dpd.errors import ContentCorrupt, ContentError

Write = Callable[[str, bytes], Path]


def made(new: NewImage, folder: Path) -> BootImage:
    folder.mkdir()
    return lay_out(new, folder, 1, 0.0, lambda done, total: None)


def test_linux_is_stored_under_names_that_scripts_can_say(write: Write, tmp_path: Path) -> None:
    files = (write("vmlinuz-6.1 (lab)", bz_image()), write("a/initrd", b"one"), write("b/initrd", b"two"))
    image = made(NewImage("A", Kind.LINUX, files, command_line="quiet"), tmp_path / "files")
    assert image.files == ("vmlinuz", "initrd.img", "initrd-1.img")
    assert (image.architecture, image.name, image.command_line) == ("x64", "vmlinuz-6.1 (lab)", "quiet")
    assert (tmp_path / "files" / "initrd-1.img").read_bytes() == b"two"
    assert image.size_bytes == sum(path.stat().st_size for path in files)


def test_a_kernel_that_does_not_tell_its_processor_needs_to_be_told(write: Write, tmp_path: Path) -> None:
    kernel = write("Image.gz", b"\x1f\x8b" + bytes(2000))
    with pytest.raises(ContentError, match="--arch"):
        made(NewImage("A", Kind.LINUX, (kernel,)), tmp_path / "one")
    assert made(NewImage("A", Kind.LINUX, (kernel,), architecture="arm64"), tmp_path / "two").architecture == "arm64"


def test_a_kernel_for_another_processor_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="a kernel for x64, not for arm64"):
        made(NewImage("A", Kind.LINUX, (write("k", bz_image()),), architecture="arm64"), tmp_path / "files")


def test_an_efi_program_keeps_a_name_that_its_second_stage_may_build_on(write: Write, tmp_path: Path) -> None:
    image = made(NewImage("A", Kind.EFI, (write("shim x64.efi", efi_program()),)), tmp_path / "files")
    assert (image.files, image.architecture) == (("shim_x64.efi",), "x64")


@pytest.mark.parametrize(("content", "error"), [(b"", ContentError), (b"#!/bin/sh\n", ContentCorrupt)])
def test_what_is_no_efi_program_is_refused(
    write: Write, tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"tool\.efi"):
        made(NewImage("A", Kind.EFI, (write("tool.efi", content),)), tmp_path / "files")


def test_an_ipxe_is_refused_since_it_would_start_itself_for_ever(write: Write, tmp_path: Path) -> None:
    ipxe = write("snponly.efi", efi_program(body=b"\0#!ipxe\0iPXE> \0"))
    with pytest.raises(ContentError, match=r"snponly\.efi: an iPXE boots images and is none"):
        made(NewImage("A", Kind.EFI, (ipxe,)), tmp_path / "files")
    wimboot = write("wimboot.efi", efi_program(body=b"\0iPXE> \0"))
    assert made(NewImage("A", Kind.EFI, (wimboot,)), tmp_path / "others").architecture == "x64"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"gone\.efi: no such file"):
        made(NewImage("A", Kind.EFI, (tmp_path / "gone.efi",)), tmp_path / "files")


def test_more_initrds_than_a_script_should_have_are_refused(write: Write, tmp_path: Path) -> None:
    initrd = write("initrd", b"x")
    with pytest.raises(ContentError, match="at most 16"):
        made(NewImage("A", Kind.LINUX, (write("k", bz_image()), *[initrd] * 17)), tmp_path / "files")
