# SPDX-License-Identifier: Apache-2.0
"""Boot loaders as files, read strictly, since the operator got them from anywhere: for which machines an image is, its
Authenticode hash (what firmware's db and dbx list), who signed it, and its SBAT generations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import BinaryIO

from dpd.boot.authenticode import Signature, read_signature
from dpd.boot.pe_layout import GENERATIONS, authenticode_digest, read_layout, section_text, signature_blocks
from dpd.boot.sbat import SbatEntry, read_sbat, read_sbat_level
from dpd.errors import MalformedImage


class Architecture(StrEnum):
    """For which machines an image is."""

    X86 = "x86"
    X64 = "x64"
    ARM = "arm"
    ARM64 = "arm64"
    EBC = "ebc"
    RISCV64 = "riscv64"
    LOONGARCH64 = "loongarch64"


MACHINES = {
    0x014C: Architecture.X86,
    0x8664: Architecture.X64,
    0x01C0: Architecture.ARM,
    0x01C2: Architecture.ARM,
    0x01C4: Architecture.ARM,
    0xAA64: Architecture.ARM64,
    0x0EBC: Architecture.EBC,
    0x5064: Architecture.RISCV64,
    0x6264: Architecture.LOONGARCH64,
}
SUBSYSTEMS = {10: "efi-application", 11: "efi-boot-driver", 12: "efi-runtime-driver", 16: "windows-boot-application"}


@dataclass(frozen=True, slots=True)
class PeImage:
    """What an image says of itself. `sbat` is empty where it has no such section; `sbat_level` is what a shim asks of the
    loaders that it starts."""

    architecture: Architecture
    subsystem: str
    size_bytes: int
    authenticode_sha256: str
    signatures: tuple[Signature, ...] = ()
    sbat: tuple[SbatEntry, ...] = ()
    sbat_level: tuple[tuple[str, int], ...] = ()

    @property
    def generations(self) -> dict[str, int]:
        """SBAT generation by component."""
        return {entry.component: entry.generation for entry in self.sbat}

    @property
    def windows_generation(self) -> str:
        """Which of Microsoft's two authorities for Windows boot loaders signed it: "2011", "2023", "" for none of them."""
        sound = [signature for signature in self.signatures if signature.fault is None]
        names = [name for signature in sound for name in (signature.issuer, *signature.authorities)]
        return next((GENERATIONS[name] for name in names if name in GENERATIONS), "")


def read_pe(file: BinaryIO) -> PeImage:
    """Read an image from a seekable file. Raises MalformedImage."""
    layout = read_layout(file)
    architecture, subsystem = MACHINES.get(layout.machine), SUBSYSTEMS.get(layout.subsystem)
    if architecture is None:
        raise MalformedImage("unknown_machine", f"machine type 0x{layout.machine:04x}")
    if subsystem is None:
        raise MalformedImage("not_bootable", f"subsystem {layout.subsystem} is no EFI or Windows boot application")
    hashed = partial(authenticode_digest, file, layout)
    level = section_text(file, layout, b".sbatlevel")
    return PeImage(
        architecture=architecture,
        subsystem=subsystem,
        size_bytes=layout.file_bytes,
        authenticode_sha256=hashed("sha256").hex(),
        signatures=tuple(read_signature(block, hashed) for block in signature_blocks(file, layout)),
        sbat=read_sbat(section_text(file, layout, b".sbat")),
        sbat_level=tuple(sorted(read_sbat_level(level).items())) if level else (),
    )
