# SPDX-License-Identifier: Apache-2.0
"""What a new Linux system starts by: its menu for GRUB and its table of file systems, made from the volumes of the run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

TIMEOUT_S = 3
_KERNEL = re.compile(r"vmlinuz(-.+)?")
_SAFE_OPTIONS = re.compile(r"[\x20-\x7e]*")


def kernels(root: Path) -> list[tuple[str, str]]:
    """(kernel, initial RAM disk or "") in /boot, the newest first. Raises StepFailed where there is none."""
    boot = root / "boot"
    found = []
    for place in boot.iterdir() if boot.is_dir() else ():
        if not _KERNEL.fullmatch(place.name) or not place.is_file():
            continue
        version = place.name.removeprefix("vmlinuz")
        candidates = (f"initrd.img{version}", f"initramfs{version}.img", f"initrd{version}")
        found.append((place.name, next((name for name in candidates if (boot / name).is_file()), "")))
    if not found:
        raise StepFailed(
            "the system has no kernel /boot/vmlinuz-*; is this the root volume, and was an image applied to it?"
        )
    return sorted(found, key=lambda each: _in_version_order(each[0]), reverse=True)


def menu(root: Path, volume: Volume, options: str) -> str:
    """/boot/grub/grub.cfg, until the system's own update-grub writes another. Raises StepFailed."""
    if not _SAFE_OPTIONS.fullmatch(options):
        raise StepFailed("options: expected printable characters in one line")
    lines = [
        "# Written by dpd; update-grub writes another.",
        f"set timeout={TIMEOUT_S}",
        "insmod part_gpt",
        "insmod part_msdos",
        f"insmod {'btrfs' if volume.format == 'btrfs' else 'ext2'}",
        f"search --no-floppy --fs-uuid --set=root {volume.uuid}",
    ]
    for kernel, ram_disk in kernels(root):
        # without a RAM disk nobody but the kernel looks for the root, and it knows partitions alone
        where = f"UUID={volume.uuid}" if ram_disk else f"PARTUUID={volume.partition_uuid}"
        words = " ".join(_quoted(word) for word in options.split())
        lines += [
            f"menuentry 'Linux {kernel.removeprefix('vmlinuz').lstrip('-')}' {{",
            f"  linux /boot/{kernel} root={where} ro {words}".rstrip(),
        ]
        lines += [f"  initrd /boot/{ram_disk}"] * bool(ram_disk) + ["}"]
    return "\n".join(lines) + "\n"


def stub(volume: Volume) -> str:
    """What a signed GRUB on the EFI system partition reads first: where the real menu is."""
    return (
        f"search --no-floppy --fs-uuid --set=root {volume.uuid}\n"
        "set prefix=($root)/boot/grub\n"
        "configfile $prefix/grub.cfg\n"
    )


def file_systems(volumes: Iterable[Volume], root: Volume, esp: str) -> str:
    """/etc/fstab of the volumes that every system mounts: its root, the EFI system partition, swap."""
    lines = ["# Written by dpd: the identities of file systems that were made for this machine."]
    for volume in volumes:
        if volume.name == root.name:
            check = "0 1" if volume.format == "ext4" else "0 0"
            lines.append(
                f"UUID={volume.uuid} / {volume.format} {'errors=remount-ro' if volume.format == 'ext4' else 'defaults'} {check}"
            )
        elif volume.name == esp and esp:
            lines.append(f"UUID={volume.uuid} /boot/efi vfat umask=0077 0 1")
        elif volume.format == "swap":
            lines.append(f"UUID={volume.uuid} none swap sw 0 0")
    return "\n".join(lines) + "\n"


def _in_version_order(name: str) -> list[tuple[int, int | str]]:
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name) if part]


def _quoted(word: str) -> str:
    """For GRUB's shell, which takes $, quotes and braces for its own."""
    return word if re.fullmatch(r"[\w=.,:/@%+-]+", word) else "'" + word.replace("'", "'\\''") + "'"
