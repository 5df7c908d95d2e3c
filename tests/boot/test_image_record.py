# SPDX-License-Identifier: Apache-2.0
"""The record of a boot image."""

from __future__ import annotations

import pytest

from dpd.boot.image_record import BootImage, Kind, check_command_line, check_image_id, decode, encode
from dpd.errors import ContentCorrupt, ContentError

LINUX = BootImage(
    "LAB00005", 2, Kind.LINUX, "x64", "vmlinuz-6", ("vmlinuz", "initrd.img"), 12, 1.5, command_line="quiet"
)


def test_a_record_reads_back() -> None:
    assert decode(encode(LINUX)) == LINUX


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", encode(LINUX)[:-5], encode(LINUX).replace(b'"linux"', b'"dos"'), encode(LINUX).replace(b"12", b'"x"')],
)  # fmt: skip
def test_a_damaged_record_is_named_as_that(content: bytes) -> None:
    with pytest.raises(ContentCorrupt, match=r"meta\.json damaged"):
        decode(content)


@pytest.mark.parametrize(
    ("kind", "architecture", "files", "via_ipxe", "firmware"),
    [
        (Kind.LINUX, "x64", ("vmlinuz",), False, {"bios", "uefi-x64"}),
        (Kind.LINUX, "arm64", ("vmlinuz",), False, {"uefi-arm64"}),
        (Kind.EFI, "x64", ("a.efi",), False, {"uefi-x64"}),
        (Kind.WINPE, "x64", ("boot.wim", "bootmgfw.efi"), False, {"uefi-x64"}),
        (Kind.WINPE, "x64", ("boot.wim", "bootmgfw.efi", "bootmgr.exe"), False, {"bios", "uefi-x64"}),
        (Kind.WINPE, "x86", ("boot.wim",), True, {"bios", "uefi-x86"}),
        (Kind.WINPE, "x128", ("boot.wim",), True, set()),
    ],
)
def test_kind_processor_and_loaders_tell_which_firmware_can_boot_it(
    kind: Kind, architecture: str, files: tuple[str, ...], via_ipxe: bool, firmware: set[str]
) -> None:
    image = BootImage("A", 1, kind, architecture, "", files, 1, 0.0, via_ipxe=via_ipxe)
    assert image.firmware == firmware


def test_the_last_file_is_what_a_boot_ends_with() -> None:
    assert LINUX.last_file == "initrd.img"
    assert BootImage("A", 1, Kind.WINPE, "x64", "", ("boot.wim", "bootmgfw.efi"), 1, 0.0).last_file == "boot.wim"
    assert BootImage("A", 1, Kind.EFI, "x64", "", ("a.efi",), 1, 0.0).last_file == "a.efi"


@pytest.mark.parametrize("image_id", ["", ".", "..", "../x", "a/b", "-a", "a" * 65, "ä", "a\n", "a b"])
def test_an_id_that_could_be_no_folder_is_refused(image_id: str) -> None:
    with pytest.raises(ContentError, match="LAB00005"):
        check_image_id(image_id)
    check_image_id("LAB00005")


@pytest.mark.parametrize("command_line", ["a\nb", "a || b", "a && b", "a ; b", "# a", "\x1b[0m", "a" * 2001])
def test_a_command_line_that_would_end_a_command_is_refused(command_line: str) -> None:
    with pytest.raises(ContentError, match="command line"):
        check_command_line(command_line)
    check_command_line("root=/dev/nfs ip=dhcp console=ttyS0,115200n8 a;b #c")
