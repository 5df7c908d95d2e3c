# SPDX-License-Identifier: Apache-2.0
"""What differs between processors: Debian's names, and the signed chain that starts a kernel there."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.environment import elf
from dpd.errors import BuildError


@dataclass(frozen=True, slots=True)
class Architecture:
    """`chain`: for each file of the signed chain its package, its path there, and the name by which the one before it asks.
    `has_packed_kernel`: Debian's kernel unpacks itself."""

    name: str
    debian: str
    libraries: str  # the folder of shared libraries
    machine: int  # as ELF files have it
    kernel: str  # the package that names the newest one
    grub: tuple[str, ...]  # packages with GRUB's modules
    grub_folders: tuple[str, ...]
    chain: tuple[tuple[str, str, str], ...]
    has_packed_kernel: bool = True


ARCHITECTURES = {
    "x64": Architecture(
        "x64", "amd64", "x86_64-linux-gnu", elf.X64, "linux-image-amd64",
        ("grub-pc-bin", "grub-efi-amd64-bin"), ("i386-pc", "x86_64-efi"),
        (
            ("shim-signed", "usr/lib/shim/shimx64.efi.signed", "shimx64.efi"),
            ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grubx64.efi"),
        ),
    ),
    "arm64": Architecture(
        "arm64", "arm64", "aarch64-linux-gnu", elf.ARM64, "linux-image-arm64",
        (), (),
        (
            ("shim-signed", "usr/lib/shim/shimaa64.efi.signed", "shimaa64.efi"),
            ("grub-efi-arm64-signed", "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed", "grubaa64.efi"),
        ),
        has_packed_kernel=False,
    ),
}  # fmt: skip


def architecture(name: str) -> Architecture:
    """Raises BuildError."""
    if name not in ARCHITECTURES:
        raise BuildError(f"architecture {name!r}: expected {' or '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
