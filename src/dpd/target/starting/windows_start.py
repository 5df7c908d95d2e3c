# SPDX-License-Identifier: Apache-2.0
"""Makes the disk of an applied Windows start, as `bcdboot` does: boot files beside the boot manager, and its configuration.

The boot manager also goes to EFI/BOOT, where every firmware looks without an entry in its NVRAM; Windows makes its own entry
when it has started. On BIOS the volume of Windows is the system partition, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from dpd.boot.bcd_store import gpt_partition, mbr_partition
from dpd.boot.disk_bcd import DiskBoot, make_disk_bcd
from dpd.target.disks.ntfs_protection import protect
from dpd.target.starting import windows_boot
from dpd.target.starting.boot_record import write_boot_record
from dpd.target.starting.firmware_keys import firmware_keys
from dpd.target.starting.partition_place import PartitionPlace, partition_place
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import device_of
from dpd.target.work.whole_file import replacing
from dpd.target.work.work import Work

DEFAULT_NAMES = {"x64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}
# What Windows shows of these files: nothing, unless asked. Hidden, system, read-only, archive; of a folder hidden and system.
HIDDEN_FILE, HIDDEN_FOLDER = 0x27, 0x06
AT_ROOT = {"bootmgr": "bootmgr", "bootnxt": "BOOTNXT"}


def install_uefi(work: Work, volume: Volume, root: Path, esp: Volume) -> str:
    """Raises StepFailed, ProgramFailed, OSError."""
    architecture = work.facts.architecture
    manager = windows_boot.boot_manager(root, architecture, firmware_keys())
    _need(root, "Windows/System32/winload.efi")
    top = work.volumes.folder(esp.name)
    folder = _folder(top, "EFI/Microsoft/Boot")
    files = windows_boot.boot_files(root, "EFI", is_newer=manager.is_newer)
    size_bytes = windows_boot.copy_all(files, folder)
    work.check()
    shutil.copyfile(folder / "bootmgfw.efi", _folder(top, "EFI/BOOT") / DEFAULT_NAMES[architecture])
    boot = DiskBoot(
        is_uefi=True,
        system=_device(partition_place(work.programs, esp)),
        windows=_device(partition_place(work.programs, volume)),
        locale=windows_boot.locale(root),
        has_memory_test="memtest.efi" in files,
    )
    with replacing(folder / "BCD") as file:
        file.write(make_disk_bcd(boot))
    signed = f", signed below Microsoft's authority of {manager.generation}" if manager.generation else ""
    return f"Windows' boot manager on {esp.name}{signed}: {len(files)} files, {size_bytes >> 20} MiB, and its BCD"


def install_bios(work: Work, volume: Volume, root: Path) -> str:
    """Raises StepFailed, ProgramFailed, OSError."""
    place = partition_place(work.programs, volume)
    if place.is_gpt:
        raise StepFailed(
            f"{volume.disk}: has a GPT, from which Windows does not start by BIOS; set table to mbr in partition_disk, or start by UEFI"
        )
    if volume.format != "ntfs":
        raise StepFailed(f"volume {volume.name!r}: is {volume.format}, expected ntfs for a Windows that starts by BIOS")
    _need(root, "Windows/System32/winload.exe")
    _need(root, "Windows/Boot/PCAT/bootmgr")
    files = windows_boot.boot_files(root, "PCAT")
    for name in [name for name in files if name.lower() in AT_ROOT]:
        target = root / AT_ROOT[name.lower()]
        shutil.copyfile(files.pop(name), target)
        protect(volume, target, is_readable=True)
        _hide(target, HIDDEN_FILE)
    folder = _folder(root, "Boot")
    _hide(folder, HIDDEN_FOLDER)
    windows_boot.copy_all(files, folder)
    device = _device(place)
    has_test = any(name.lower() == "memtest.exe" for name in files)
    boot = DiskBoot(False, device, device, locale=windows_boot.locale(root), has_memory_test=has_test)
    with replacing(folder / "BCD") as file:
        file.write(make_disk_bcd(boot))
    protect(volume, folder, is_readable=True)
    write_boot_record(work.programs, volume, place, device_of(volume), work.room)
    return f"GRUB's boot record on {volume.disk} and Windows' boot manager on {volume.name}: {len(files)} files and its BCD"


def _need(root: Path, path: str) -> None:
    if windows_boot.find(root, path) is None:
        raise StepFailed(
            f"{path}: is not on the volume, so this Windows does not start that way; apply an image that has it"
        )


def _folder(root: Path, path: str) -> Path:
    """An existing one in any case, else a new one."""
    place = windows_boot.find(root, path) or root / path
    place.mkdir(parents=True, exist_ok=True)
    return place


def _device(place: PartitionPlace) -> bytes:
    return gpt_partition(*place.guids) if place.is_gpt else mbr_partition(place.signature, place.start_bytes)


def _hide(place: Path, attributes: int) -> None:
    """As ntfs-3g names it; where another driver mounted the volume the file shows, and Windows starts all the same."""
    with contextlib.suppress(OSError):
        os.setxattr(place, "system.ntfs_attrib_be", attributes.to_bytes(4, "big"))
