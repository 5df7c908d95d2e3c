# SPDX-License-Identifier: Apache-2.0
"""What is known of one version of a boot image, and the meta.json that says so beside its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from dpd.boot.architecture import FIRMWARE, UEFI
from dpd.errors import ContentCorrupt, ContentError

IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as package IDs
FORBIDDEN_WORDS = frozenset({"||", "&&", ";", "#"})  # where an iPXE script would end the command
BIOS_LOADER = "bootmgr.exe"


class Kind(StrEnum):
    """What a boot image is made of."""

    WINPE = "winpe"  # a boot.wim; loaders, boot.sdi and fonts come out of it
    LINUX = "linux"  # a kernel, initrds and a command line
    EFI = "efi"  # one EFI program


@dataclass(frozen=True, slots=True)
class BootImage:
    """One version. `files` are names below the version's folder: the WIM first, or the kernel and then its initrds in order.
    `os_version` is Windows', such as 10.0.26100.1; `generations` are the CAs ("2011", "2023") whose Windows loaders are there. `via_ipxe`: firmware gets the loader of
    the rules first, an iPXE. `is_default` tells images of the site from an operator's own."""

    image_id: str
    version: int
    kind: Kind
    architecture: str
    name: str
    files: tuple[str, ...]
    size_bytes: int
    added_at: float
    description: str = ""
    command_line: str = ""
    generations: tuple[str, ...] = ()
    os_version: str = ""
    is_default: bool = False
    via_ipxe: bool = False

    def __str__(self) -> str:
        return f"{self.image_id} version {self.version}"

    @property
    def last_file(self) -> str:
        """What a machine fetches last: with it, it has all that it boots from us."""
        return self.files[0] if self.kind is Kind.WINPE else self.files[-1]

    @property
    def firmware(self) -> frozenset[str]:
        """The firmware that can boot it, by the names of option 93."""
        if self.kind is Kind.LINUX or (self.kind is Kind.WINPE and (self.via_ipxe or BIOS_LOADER in self.files)):
            return FIRMWARE.get(self.architecture, frozenset())
        return UEFI.get(self.architecture, frozenset())


def encode(image: BootImage) -> bytes:
    """The meta.json."""
    return msgspec.json.format(msgspec.json.encode(image), indent=2) + b"\n"


def decode(content: bytes) -> BootImage:
    """Raises ContentCorrupt that says what is wrong with it."""
    try:
        return msgspec.json.decode(content, type=BootImage)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ContentCorrupt(f"meta.json damaged: {error}") from None


def check_image_id(image_id: str) -> None:
    """Raises ContentError for what can be no folder's name."""
    if not IMAGE_ID.fullmatch(image_id):
        raise ContentError(f"boot image id {image_id[:70]!r}: expected 1 to 64 of A-Z a-z 0-9 . _ - such as LAB00005")


def check_command_line(command_line: str) -> None:
    """Raises ContentError for what an iPXE script would not take for arguments."""
    if not command_line.isprintable() or len(command_line) > 2000:
        raise ContentError("command line: expected one line of at most 2000 printable characters")
    if wrong := FORBIDDEN_WORDS.intersection(command_line.split()):
        raise ContentError(f"command line: the word {min(wrong)} ends a command in an iPXE script; put it differently")
