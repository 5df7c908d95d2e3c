# SPDX-License-Identifier: Apache-2.0
"""File systems, made with an identity that is known before: fstab and boot loader name it without reading it back."""

from __future__ import annotations

import uuid

from dpd.target.work.program import Programs
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

MAX_LABEL = {"fat32": 11, "ext4": 16, "btrfs": 255, "ntfs": 32, "swap": 15}


def new_uuid(format: str) -> str:
    """An identity for a file system, as the kernel and GRUB write it; "" where its maker takes none."""
    fresh = uuid.uuid4()
    if format == "fat32":
        return f"{fresh.hex[:4]}-{fresh.hex[4:8]}".upper()
    return str(fresh) if format in ("ext4", "btrfs", "swap") else ""


def check_label(name: str, format: str, label: str) -> None:
    """Raises StepFailed before anything is written."""
    if format in MAX_LABEL and len(label.encode()) > MAX_LABEL[format]:
        raise StepFailed(
            f"partition {name!r}: label {label!r} is longer than the {MAX_LABEL[format]} bytes that {format} takes"
        )


def make_file_system(programs: Programs, volume: Volume, label: str = "", start_sector: int = 0) -> None:
    """Raises ProgramFailed."""
    if volume.format in ("", "none"):
        return
    named = ("-n" if volume.format == "fat32" else "-L", label) if label else ()
    makers: dict[str, tuple[str, ...]] = {
        "fat32": ("mkfs.fat", "-F", "32", "-i", volume.uuid.replace("-", ""), *named),
        "ext4": ("mkfs.ext4", "-q", "-F", "-U", volume.uuid, *named),
        "btrfs": ("mkfs.btrfs", "-q", "-f", "-U", volume.uuid, *named),
        # Windows reads from the boot sector where the volume begins, and a device without a geometry tells nobody.
        "ntfs": ("mkntfs", "-Q", "-F", "-p", str(start_sector), "-H", "255", "-S", "63", *named),
        "swap": ("mkswap", "-f", "-U", volume.uuid, *named),
    }
    programs.run(*makers[volume.format], volume.device)
