# SPDX-License-Identifier: Apache-2.0
"""A partition that was there before the run: its disk as the kernel tells, its file system by what it begins with."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

HEAD_BYTES = 65536 + 128  # to the end of what is looked at of btrfs


def existing_volume(device: str) -> Volume:
    """Raises StepFailed where there is no such partition."""
    try:
        if not stat.S_ISBLK(os.stat(device).st_mode):
            raise StepFailed(f"volume {device}: is no partition; expected a device such as /dev/sda2")
        descriptor = os.open(device, os.O_RDONLY)
        try:
            head = os.pread(descriptor, HEAD_BYTES, 0)
            size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StepFailed(f"volume {device}: {error.strerror}; is the disk there, and has it this partition?") from None
    format, identity = recognise(head)
    disk, number = _place(device)
    return Volume(device, disk, number, device, format=format, uuid=identity, size_bytes=size_bytes)


def recognise(head: bytes) -> tuple[str, str]:
    """(format, the identity as the kernel and GRUB write it) of a volume's first bytes; both "" where it is none that is known."""
    if head[1080:1082] == b"\x53\xef":
        return "ext4", str(uuid.UUID(bytes=head[1128:1144]))
    if head[65600:65608] == b"_BHRfS_M":
        return "btrfs", str(uuid.UUID(bytes=head[65568:65584]))
    if head[3:11] == b"NTFS    ":
        return "ntfs", head[72:80][::-1].hex().upper()
    if head[82:87] == b"FAT32":
        serial = head[67:71][::-1].hex().upper()
        return "fat32", f"{serial[:4]}-{serial[4:]}"
    return "", ""


def _place(device: str) -> tuple[str, int]:
    """(disk, number of the partition) of a device; a disk without partitions is its own, with 0."""
    entry = Path("/sys/class/block", os.path.basename(os.path.realpath(device)))
    try:
        number = int((entry / "partition").read_text("ascii"))
    except (OSError, ValueError):
        return device, 0
    return "/dev/" + entry.resolve().parent.name, number
