# SPDX-License-Identifier: Apache-2.0
"""The first sectors of an MBR disk whose Windows starts by BIOS: GRUB's boot record, which hands over to Windows' /bootmgr.

The boot code of Windows itself is Microsoft's, and no file of an applied Windows has it. GRUB's boot.img and core.img stand
where they expect each other when nothing is patched: in sector 0, and from sector 1 on.
"""

from __future__ import annotations

import os
from pathlib import Path

from dpd.target.starting.partition_place import PartitionPlace
from dpd.target.work.file_system import existing_volume
from dpd.target.work.program import Programs
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

GRUB = Path("/usr/lib/grub/i386-pc")
MODULES = ("biosdisk", "part_msdos", "ntfs", "search_fs_uuid", "ntldr")
SECTOR_BYTES = 512
CODE_BYTES = 440  # the disk's signature and the table follow
DRIVE_CHECK_AT, NO_CHECK = (
    0x66,
    b"\x90\x90",
)  # as grub-install does on a hard disk, for a BIOS that names the wrong drive
TABLE_AT, ENTRY_BYTES, ENTRIES = 446, 16, 4
ACTIVE = b"\x80"


def write_boot_record(programs: Programs, volume: Volume, place: PartitionPlace, device: str, room: Path) -> None:
    """Make the disk start /bootmgr of this NTFS volume, and its partition the active one. Raises StepFailed, ProgramFailed."""
    if not (GRUB / "ntldr.mod").is_file():
        raise StepFailed(
            f"{GRUB}: has no GRUB for BIOS in this deployment environment, which starts Windows' boot manager; build it with GRUB"
        )
    core = _core(programs, existing_volume(device).uuid, room)
    if len(core) > place.first_start_bytes - SECTOR_BYTES:
        raise StepFailed(
            f"{volume.disk}: its first partition begins at {place.first_start_bytes} bytes, before which GRUB has no room; begin it at 1 MiB"
        )
    descriptor = os.open(volume.disk, os.O_RDWR)
    try:
        sector = os.pread(descriptor, SECTOR_BYTES, 0)
        os.pwrite(descriptor, core, SECTOR_BYTES)
        os.pwrite(descriptor, first_sector((GRUB / "boot.img").read_bytes(), sector, volume.number), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_sector(code: bytes, sector: bytes, active: int) -> bytes:
    """Boot code before the disk's signature and table; the partition of this number is active, and no other."""
    made = bytearray(code[:CODE_BYTES] + sector[CODE_BYTES:])
    made[DRIVE_CHECK_AT : DRIVE_CHECK_AT + 2] = NO_CHECK
    for number in range(ENTRIES):
        at = TABLE_AT + number * ENTRY_BYTES
        made[at : at + 1] = ACTIVE if number + 1 == active else b"\0"
    return bytes(made)


def _core(programs: Programs, serial: str, room: Path) -> bytes:
    room.mkdir(parents=True, exist_ok=True)
    script, core = room / "windows.cfg", room / "windows-core.img"
    try:
        script.write_text(f"search.fs_uuid {serial} root\nntldr ($root)/bootmgr\nboot\n", "ascii")
        words = ("-O", "i386-pc", "-d", GRUB, "-p", "/boot/grub", "-c", script, "-o", core)
        programs.run("grub-mkimage", *words, *MODULES)
        return core.read_bytes()
    finally:
        for each in (script, core):
            each.unlink(missing_ok=True)
