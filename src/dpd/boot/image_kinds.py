# SPDX-License-Identifier: Apache-2.0
"""What a new boot image is made of: its files are looked at, brought into its folder, and described."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dpd.boot import architecture
from dpd.boot.image_folder import Progress, bring, refuse_if_full
from dpd.boot.image_record import BootImage, Kind, check_command_line
from dpd.errors import ContentCorrupt, ContentError

KERNEL = "vmlinuz"
MAX_INITRDS = 16
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class NewImage:
    """What the operator gives: one WIM, or a kernel with its initrds in order, or one EFI program. `architecture` is for
    kernels that do not tell theirs."""

    image_id: str
    kind: Kind
    files: tuple[Path, ...]
    command_line: str = ""
    description: str = ""
    architecture: str = ""
    is_default: bool = False
    via_ipxe: bool = False


def lay_out(new: NewImage, folder: Path, version: int, added_at: float, progress: Progress) -> BootImage:
    """Bring the files into the folder. Raises ContentError, ContentCorrupt, LibraryFull."""
    sizes = [_size(path) for path in new.files]
    refuse_if_full(folder, sum(sizes))
    check_command_line(new.command_line)
    names, machine = _LOOK_AT[new.kind](new)
    done = 0
    for path, name in zip(new.files, names, strict=True):
        done = bring(path, folder / name, progress, done, sum(sizes))
    return BootImage(
        image_id=new.image_id,
        version=version,
        kind=new.kind,
        architecture=machine,
        name=new.files[0].name,
        files=names,
        size_bytes=done,
        added_at=added_at,
        description=new.description,
        command_line=new.command_line,
        is_default=new.is_default,
        via_ipxe=new.via_ipxe,
    )


def _size(path: Path) -> int:
    try:
        found = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}") from None
    if not found:
        raise ContentError(f"{path}: {'empty' if found == 0 else 'no such file'}; expected a part of a boot image")
    return found


def _look_at_linux(new: NewImage) -> tuple[tuple[str, ...], str]:
    kernel, *initrds = new.files
    if len(initrds) > MAX_INITRDS:
        raise ContentError(f"{len(initrds)} initrds: expected at most {MAX_INITRDS}")
    found = architecture.of_kernel(kernel)
    machine = new.architecture or found
    if found and found != machine:
        raise ContentError(f"{kernel.name}: a kernel for {found}, not for {machine}")
    if not machine:
        raise ContentError(f"{kernel.name}: does not tell its architecture; say --arch x86, x64 or arm64")
    names = tuple(f"initrd-{number}.img" if number else "initrd.img" for number in range(len(initrds)))
    return (KERNEL, *names), machine


def _look_at_efi(new: NewImage) -> tuple[tuple[str, ...], str]:
    program = new.files[0]
    found = architecture.of_efi_program(program)
    if not found:
        raise ContentCorrupt(f"{program.name}: no EFI program for x86, x64 or arm64")
    name = _NOT_IN_A_NAME.sub("_", program.name).lstrip(".") or "program.efi"
    return (name,), found


_LOOK_AT = {Kind.LINUX: _look_at_linux, Kind.EFI: _look_at_efi}
