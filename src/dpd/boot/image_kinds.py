# SPDX-License-Identifier: Apache-2.0
"""What a new boot image is made of: its files are looked at, brought into its folder, and described."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dpd.boot import architecture, winpe
from dpd.boot.image_folder import Progress, bring, link, refuse_if_full
from dpd.boot.image_record import BIOS_LOADER, BootImage, Kind, check_command_line
from dpd.errors import ContentCorrupt, ContentError

KERNEL = "vmlinuz"
MAX_INITRDS = 16
MAX_DESCRIPTION = 200  # characters
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class NewImage:
    """What the operator gives: one WIM, or a kernel with its initrds in order, or one EFI program. `architecture` is for
    kernels that do not tell theirs, `sdi` a boot.sdi for a WIM without one. `is_ours`: the files are on our own disk and
    do not change, so that a link does for a copy. `name` is the source file's where that has another one by now."""

    image_id: str
    kind: Kind
    files: tuple[Path, ...]
    command_line: str = ""
    description: str = ""
    architecture: str = ""
    sdi: Path | None = None
    is_default: bool = False
    via_ipxe: bool = False
    is_ours: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the files tells: the names they get, and for a WIM the image in it that is started."""

    names: tuple[str, ...]
    architecture: str
    description: str = ""
    index: int = 0
    os_version: str = ""


def lay_out(new: NewImage, folder: Path, version: int, added_at: float, progress: Progress) -> BootImage:
    """Bring the files into the folder. Raises ContentError, ContentCorrupt, LibraryFull."""
    sizes = [_size(path) for path in new.files]
    check_command_line(new.command_line)
    look = _LOOK_AT[new.kind](new)
    _bring_all(new, look.names, folder, sizes, progress)
    names, generations = _take_loaders(new, look, folder) if new.kind is Kind.WINPE else (look.names, ())
    return BootImage(
        image_id=new.image_id,
        version=version,
        kind=new.kind,
        architecture=look.architecture,
        name=new.name or new.files[0].name,
        files=names,
        size_bytes=sum((folder / name).stat().st_size for name in names),
        added_at=added_at,
        description=new.description or look.description,
        command_line=new.command_line,
        generations=generations,
        os_version=look.os_version,
        is_default=new.is_default,
        via_ipxe=new.via_ipxe,
    )


def _bring_all(new: NewImage, names: tuple[str, ...], folder: Path, sizes: list[int], progress: Progress) -> None:
    if not new.is_ours:
        refuse_if_full(folder, sum(sizes))
    done = 0
    for path, name, size in zip(new.files, names, sizes, strict=True):
        if new.is_ours and link(path, folder / name):
            done += size
        else:
            done = bring(path, folder / name, progress, done, sum(sizes))
        progress(done, sum(sizes))


def _size(path: Path) -> int:
    try:
        found = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}") from None
    if not found:
        raise ContentError(f"{path}: {'empty' if found == 0 else 'no such file'}; expected a part of a boot image")
    return found


def _look_at_linux(new: NewImage) -> _Look:
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
    return _Look((KERNEL, *names), machine)


def _look_at_efi(new: NewImage) -> _Look:
    program = new.files[0]
    found = architecture.of_efi_program(program)
    if not found:
        raise ContentCorrupt(f"{program.name}: no EFI program for x86, x64 or arm64")
    if architecture.is_ipxe(program):  # it would ask again, be told to start itself, and so on
        raise ContentError(f"{program.name}: an iPXE boots images and is none; put it into the boot directory")
    name = _NOT_IN_A_NAME.sub("_", program.name).lstrip(".") or "program.efi"
    return _Look((name,), found)


def _look_at_winpe(new: NewImage) -> _Look:
    index, image = winpe.boot_image_of(new.files[0])
    return _Look((winpe.WIM,), image.architecture, image.name[:MAX_DESCRIPTION], index, image.version)


def _take_loaders(new: NewImage, look: _Look, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every name that is in the folder then, and the generations of the loaders."""
    taken = set(winpe.take_out(folder / winpe.WIM, look.index, folder))
    if new.sdi is not None and winpe.SDI not in taken:
        bring(new.sdi, folder / winpe.SDI, lambda done, total: None, 0, _size(new.sdi))
        taken.add(winpe.SDI)
    if winpe.SDI not in taken:
        raise ContentError(
            f"{new.files[0].name}: no boot.sdi in it; give one with --sdi, from the ADK or Windows media"
        )
    found = winpe.generations(folder, taken, look.architecture)
    if not (found or BIOS_LOADER in taken or new.via_ipxe):
        raise ContentError(
            f"{new.files[0].name}: no boot manager in it (\\Windows\\Boot\\EFI, \\Windows\\Boot\\PXE); add it with --via-ipxe"
        )
    return (winpe.WIM, *sorted(taken)), found


_LOOK_AT = {Kind.LINUX: _look_at_linux, Kind.EFI: _look_at_efi, Kind.WINPE: _look_at_winpe}
