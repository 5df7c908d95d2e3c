# SPDX-License-Identifier: Apache-2.0
"""Makes a new partition table and its file systems; everything on the disk is lost."""

from __future__ import annotations

import os
import secrets
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from dpd.errors import DpdError
from dpd.sequence.sizes import parse_share
from dpd.target.disks.block_device import Extent, announce, forget, partition_device, size_of
from dpd.target.disks.formatting import check_label, make_file_system, new_uuid
from dpd.target.work.program import ProgramFailed
from dpd.target.work.size_text import shown
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work

MIB = 1 << 20  # where partitions begin and end
SECTOR_BYTES = 512
MAX_MBR_BYTES = 2 << 40  # 32 bits of sectors
MAX_MBR_PARTITIONS = 4
GPT_TYPES = {
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "bios-boot": "21686148-6449-6E6F-744E-656564454649",
    "msr": "E3C9E316-0B5C-4DB8-817D-F92DF00215AE",
    "linux": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    "windows": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
    "recovery": "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC",
}
MBR_TYPES = {"esp": "ef", "linux": "83", "swap": "82", "windows": "7", "recovery": "27"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A partition as the step asks for it. `size_bytes` 0 and `percent` 0: what the others leave."""

    name: str
    kind: str
    format: str
    label: str
    size_bytes: int
    percent: int


def run(work: Work) -> str:
    disk, size_bytes = _choose_disk(work)
    table = work.step.text("table")
    if table == "auto":
        table = "gpt" if work.facts.firmware == "uefi" else "mbr"
    wishes = [_wish(work, each) for each in work.step.tables("partitions")]
    _check(disk, size_bytes, table, wishes)
    extents = lay_out(disk, size_bytes, wishes)
    volumes = _write(work, disk, table, wishes, extents)
    for wish, volume, extent in zip(wishes, volumes, extents, strict=True):
        work.check()
        make_file_system(work.programs, volume, wish.label, extent.start // SECTOR_BYTES)
    return f"{disk} of {shown(size_bytes)}, {table}: " + ", ".join(
        f"{each.name} {shown(each.size_bytes)}" for each in volumes
    )


def _choose_disk(work: Work) -> tuple[str, int]:
    wanted, disks = work.text("disk"), work.facts.disks
    if wanted.startswith("/dev/"):
        try:
            if stat.S_ISBLK(os.stat(wanted).st_mode):
                return wanted, size_of(wanted)
        except OSError as error:
            raise StepFailed(f"disk {wanted}: {error.strerror}; this machine has {_names(work)}") from None
        raise StepFailed(f"disk {wanted}: is no disk; this machine has {_names(work)}")
    if not disks:
        raise StepFailed(
            "this machine has no disk that the deployment environment knows; is the driver of its controller in the boot image?"
        )
    if wanted == "largest":
        disk = max(disks, key=lambda each: each.size_bytes)
    elif wanted == "first":
        disk = disks[0]
    elif wanted.isdigit() and int(wanted) < len(disks):
        disk = disks[int(wanted)]
    else:
        raise StepFailed(
            f"disk {wanted!r}: expected first, largest, a number from 0, or a device; this machine has {_names(work)}"
        )
    return disk.device, disk.size_bytes


def _names(work: Work) -> str:
    return ", ".join(f"{disk.device} ({shown(disk.size_bytes)})" for disk in work.facts.disks) or "no disk"


def _wish(work: Work, table: Mapping[str, object]) -> Wish:
    def text(key: str) -> str:
        return work.variables.substitute(str(table[key]))

    share = parse_share(text("size"))
    return Wish(text("name"), text("kind"), text("format"), text("label"), share.size_bytes, share.percent)


def _check(disk: str, size_bytes: int, table: str, wishes: list[Wish]) -> None:
    for wish in wishes:
        check_label(wish.name, wish.format, wish.label)
        if table == "mbr" and wish.kind not in (*MBR_TYPES, "data"):
            raise StepFailed(
                f"partition {wish.name!r}: an MBR knows no {wish.kind}; set table to gpt, or leave it out by a condition"
            )
    if table == "mbr" and len(wishes) > MAX_MBR_PARTITIONS:
        raise StepFailed(f"{len(wishes)} partitions: an MBR has {MAX_MBR_PARTITIONS}; set table to gpt")
    if table == "mbr" and size_bytes > MAX_MBR_BYTES:
        raise StepFailed(f"{disk}: has {shown(size_bytes)}, an MBR reaches 2 TiB; set table to gpt")


def lay_out(disk: str, size_bytes: int, wishes: list[Wish]) -> list[Extent]:
    """Where each partition lies. Raises StepFailed where the disk is too small."""
    usable = size_bytes // MIB * MIB - 2 * MIB  # the tables at both ends
    sizes = [_rounded(wish, usable) for wish in wishes]
    rests = [place for place, wish in enumerate(wishes) if not wish.size_bytes and not wish.percent]
    left = usable - sum(sizes)
    if left < len(rests) * MIB:
        needed = sum(sizes) + 2 * MIB + len(rests) * MIB
        raise StepFailed(
            f"{disk}: has {shown(size_bytes)}, the partitions need at least {shown(needed)}: choose smaller ones, or a larger disk"
        )
    for place in rests:
        sizes[place] = left // len(rests) // MIB * MIB
    extents, start = [], MIB
    for number, size in enumerate(sizes, 1):
        extents.append(Extent(number, start, size))
        start += size
    return extents


def _rounded(wish: Wish, usable: int) -> int:
    size = wish.size_bytes or usable * wish.percent // 100
    if wish.percent:
        return size // MIB * MIB
    return -(-size // MIB) * MIB


def _write(work: Work, disk: str, table: str, wishes: list[Wish], extents: list[Extent]) -> list[Volume]:
    for volume in work.volumes.all:
        if volume.disk == disk:
            work.volumes.release(volume.name)
    disk_id = secrets.randbits(32) | 1
    lines = ["label: gpt"] if table == "gpt" else ["label: dos", f"label-id: 0x{disk_id:08x}"]
    volumes: list[Volume] = []
    for wish, extent in zip(wishes, extents, strict=True):
        partition_uuid = str(uuid.uuid4()) if table == "gpt" else f"{disk_id:08x}-{extent.number:02x}"
        lines.append(_line(table, wish, extent, partition_uuid, is_first=not volumes))
        device = partition_device(disk, extent.number)
        file_system = "" if wish.format == "none" else wish.format
        volumes.append(
            Volume(
                wish.name,
                disk,
                extent.number,
                device,
                wish.kind,
                file_system,
                partition_uuid,
                new_uuid(wish.format),
                extent.size_bytes,
            )
        )
    script = "\n".join(lines) + "\n"
    work.log.write(script)
    work.volumes.replace(disk, volumes)
    forget(disk)
    try:
        work.programs.run(
            "sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", disk, given=script.encode()
        )
    except ProgramFailed as failure:
        raise StepFailed(
            f"{disk}: cannot be partitioned: {failure}; does something use it, or is it read-only?"
        ) from None
    try:
        announce(disk, extents)
    except (DpdError, OSError) as error:
        raise StepFailed(f"{disk}: {error}") from None
    return volumes


def _line(table: str, wish: Wish, extent: Extent, partition_uuid: str, *, is_first: bool) -> str:
    place = f"start={extent.start // MIB}MiB, size={extent.size_bytes // MIB}MiB"
    kind = wish.kind if wish.kind != "data" else "windows" if wish.format in ("ntfs", "fat32") else "linux"
    if table == "gpt":
        name = "".join(letter for letter in wish.name if letter.isalnum() or letter in "-_ ")[:36]
        return f'{place}, type={GPT_TYPES[kind]}, uuid={partition_uuid}, name="{name}"'
    return f"{place}, type={MBR_TYPES[kind]}{', bootable' if is_first else ''}"
