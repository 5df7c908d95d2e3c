# SPDX-License-Identifier: Apache-2.0
"""A boot directory with a Secure Boot chain made for tests: a shim, its GRUB, a kernel."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from tests.boot.signing import X64, Signer, authority, make_pe, sbat, sign

SHIM_LEVEL = b"sbat,1,2024040900\nshim,4\ngrub,4\n\0sbat,1,2025051000\nshim,4\ngrub,5\n\0"


@dataclass(frozen=True, slots=True)
class Signers:
    """The firmware's authority signs shims, the vendor's everything after that."""

    firmware: Signer
    vendor: Signer


def make_signers() -> Signers:
    return Signers(authority("UEFI CA").issue("UEFI Signer"), authority("Vendor CA").issue("Vendor Signer"))


def shim(signers: Signers, *, generation: int = 4, machine: int = X64) -> bytes:
    """A shim that asks for grub 4."""
    image = bytearray(
        make_pe(
            sbat(f"shim,{generation},UEFI shim,shim,1,u"),
            ("/4", struct.pack("<III", 0, 8, 42) + SHIM_LEVEL),
            machine=machine,
        )
    )
    struct.pack_into("<II", image, 64 + 12, len(image), 0)  # the string table, behind the sections
    return sign(bytes(image) + struct.pack("<I", 15) + b".sbatlevel\0", signers.firmware)


def grub(signers: Signers, *, generation: int = 5, machine: int = X64, with_sbat: bool = True) -> bytes:
    sections = [sbat(f"grub,{generation},FSF,grub,2.06,u")] if with_sbat else []
    return sign(make_pe(*sections, machine=machine), signers.vendor)


def kernel(signers: Signers) -> bytes:
    """Kernels have no SBAT; it is GRUB that asks shim about them."""
    return sign(make_pe(filler=b"kernel"), signers.vendor)


def write_chain(directory: Path, signers: Signers) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "shimx64.efi").write_bytes(shim(signers))
    (directory / "grubx64.efi").write_bytes(grub(signers))
    (directory / "vmlinuz").write_bytes(kernel(signers))
