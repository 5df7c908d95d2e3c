# SPDX-License-Identifier: Apache-2.0
"""What an applied Windows brings along for its own start, and where `bcdboot` puts it: boot manager, fonts, texts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpd.boot.pe_layout import GENERATIONS, read_layout, signature_blocks
from dpd.errors import MalformedImage
from dpd.target.starting.firmware_keys import FirmwareKeys
from dpd.target.work.step_failure import StepFailed

MACHINES = {"x64": 0x8664, "arm64": 0xAA64}
NEWER = "_EX"  # folders and files of what is signed below the authority of 2023
DEFAULT_LOCALE = "en-US"


@dataclass(frozen=True, slots=True)
class BootManager:
    """One of the boot managers for UEFI that a Windows has. `generation` "": signed by neither of Microsoft's authorities."""

    path: Path
    generation: str
    is_newer: bool


def find(root: Path, path: str) -> Path | None:
    """A file or folder by its name in any case, as Windows finds it; through no link."""
    place = root
    for part in path.split("/"):
        if not (place / part).exists():
            try:
                part = next(name for name in os.listdir(place) if name.lower() == part.lower())
            except (OSError, StopIteration):
                return None
        place = place / part
        if place.is_symlink():
            return None
    return place


def is_windows(root: Path) -> bool:
    """Whether a Windows was applied to the volume."""
    return any(find(root, f"Windows/System32/{name}") for name in ("winload.efi", "winload.exe"))


def boot_manager(root: Path, architecture: str, keys: FirmwareKeys) -> BootManager:
    """The one that this firmware starts; of two that it starts the newer, which later revocations leave alone. Raises StepFailed."""
    found = [each for each in _managers(root) if _check(each, architecture)]
    if not found:
        raise StepFailed(
            "Windows/Boot/EFI/bootmgfw.efi: is not on the volume, so this Windows does not start by UEFI; apply an image that has it"
        )
    chosen = next((each for each in found if each.generation in keys.generations), None)
    if chosen is None and keys.is_secure_boot and keys.generations:
        raise StepFailed(
            f"Secure Boot is on, and this firmware knows Microsoft's authority of {', '.join(sorted(keys.generations))}, while Windows' boot "
            f"manager is signed by that of {', '.join(each.generation or 'nobody' for each in found)}; take an image with newer boot files, or update the firmware's db"
        )
    return chosen or found[-1]


def _managers(root: Path) -> Iterator[BootManager]:
    """The newer one first."""
    for folder, name, by_place in (("EFI_EX", f"bootmgfw{NEWER}.efi", "2023"), ("EFI", "bootmgfw.efi", "")):
        path = find(root, f"Windows/Boot/{folder}/{name}")
        if path is not None:
            yield BootManager(path, _signer(path) or by_place, bool(by_place))


def _signer(path: Path) -> str:
    """The year of the authority whose name stands in the signature; firmware, not this, judges the signature."""
    try:
        with path.open("rb") as file:
            blocks = b"".join(signature_blocks(file, read_layout(file)))
    except MalformedImage as error:
        raise StepFailed(f"{path.name}: is no EFI program ({error}); is the image whole?") from None
    return next((year for name, year in GENERATIONS.items() if name.encode() in blocks), "")


def _check(manager: BootManager, architecture: str) -> bool:
    with manager.path.open("rb") as file:
        machine = read_layout(file).machine
    if machine != MACHINES[architecture]:
        raise StepFailed(
            f"{manager.path.name}: is not for {architecture}, which this machine is; apply an image of Windows for {architecture}"
        )
    return True


def boot_files(root: Path, folder: str, *, is_newer: bool = False) -> dict[str, Path]:
    """What `Windows/Boot/<folder>` and its companions have, by the names that it gets beside the boot manager."""
    chosen: dict[str, Path] = {}
    for source, target in ((folder, ""), ("Fonts", "Fonts/"), ("Resources", "Resources/")):
        chosen |= _below(root, source, target)
        if is_newer:
            chosen |= {_plain(name): path for name, path in _below(root, source + NEWER, target).items()}
    return chosen


def _below(root: Path, folder: str, target: str) -> dict[str, Path]:
    top = find(root, f"Windows/Boot/{folder}")
    if top is None:
        return {}
    places = (Path(at, name) for at, _, names in os.walk(top) for name in names)
    return {f"{target}{place.relative_to(top)}": place for place in places if not place.is_symlink()}


def _plain(name: str) -> str:
    """Fonts/wgl4_boot_EX.ttf goes where wgl4_boot.ttf would."""
    path = Path(name)
    return str(path.with_stem(path.stem.removesuffix(NEWER)))


def locale(root: Path) -> str:
    """The language that Windows has its loader's texts in; English where it has several."""
    folder = find(root, "Windows/System32")
    names = sorted(each.parent.name for each in folder.glob("*-*/winload.*.mui")) if folder is not None else []
    return names[0] if len(set(names)) == 1 else DEFAULT_LOCALE


def copy_all(files: dict[str, Path], folder: Path) -> int:
    """Their bytes. Raises StepFailed where they do not fit."""
    size_bytes = sum(path.stat().st_size for path in files.values())
    free_bytes = shutil.disk_usage(folder).free
    there_bytes = sum((folder / name).stat().st_size for name in files if (folder / name).is_file())
    if size_bytes > free_bytes + there_bytes:
        raise StepFailed(
            f"Windows' boot files have {size_bytes >> 20} MiB, and the partition has {free_bytes >> 20} MiB left; make it larger in partition_disk"
        )
    for name, path in sorted(files.items()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return size_bytes
