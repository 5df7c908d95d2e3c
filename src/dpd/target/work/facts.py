# SPDX-License-Identifier: Apache-2.0
"""What this machine is, as the kernel tells below /proc and /sys."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from dpd.sequence.records import Disk, Facts

SECTOR_BYTES = 512  # what /sys/block/*/size counts in, whatever the disk's own sectors are
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
_NO_DISKS = re.compile(r"(loop|ram|zram|sr|fd|dm-|md|nbd|mtdblock).*|mmcblk\d+(boot\d|rpmb)")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NOBODY = re.compile(
    r"[\s0.-]*|to be filled by o\.e\.m\.|default string|system (serial number|manufacturer|product name)|none|not specified",
    re.I,
)


def gather(root: Path = Path("/"), machine: str = "") -> Facts:
    """The facts; `root` is where proc and sys are."""
    system, dmi = root / "sys", root / "sys/class/dmi/id"
    machine = machine or platform.machine()
    return Facts(
        architecture=_ARCHITECTURES.get(machine, machine),
        firmware="uefi" if (system / "firmware/efi").is_dir() else "bios",
        ram_bytes=memory(root)["MemTotal"],
        cpus=os.cpu_count() or 1,
        vendor=_text(dmi / "sys_vendor"),
        model=_text(dmi / "product_name"),
        serial=_text(dmi / "product_serial"),
        guid=_text(dmi / "product_uuid").lower(),
        macs=_macs(system / "class/net"),
        disks=_disks(system / "block"),
        is_wired=_is_wired(system / "class/net"),
        is_on_ac_power=_is_on_ac_power(system / "class/power_supply"),
    )


def as_told(facts: Facts) -> dict[str, Any]:
    """The facts as a hello tells them, for people to see."""
    told = {name: getattr(facts, name) for name in ("ram_bytes", "cpus", "vendor", "model", "serial")}
    told["disks"] = [
        {"device": disk.device, "size_bytes": disk.size_bytes, "model": disk.model} for disk in facts.disks[:16]
    ]
    return told


def memory(root: Path = Path("/")) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {"MemTotal": 0, "MemAvailable": 0}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found


def _disks(block: Path) -> tuple[Disk, ...]:
    """Fixed disks first, in the order of their names: sda before sdb, nvme0n1 before nvme10n1."""
    found = []
    for place in sorted(_entries(block), key=_in_number_order):
        size_bytes = int(_text(place / "size") or 0) * SECTOR_BYTES
        if _NO_DISKS.fullmatch(place.name) or not size_bytes or _text(place / "ro") == "1":
            continue
        is_removable = _text(place / "removable") == "1"
        disk = Disk("/dev/" + place.name.replace("!", "/"), size_bytes, _text(place / "device/model"))
        found.append((is_removable, disk))
    return tuple(disk for _, disk in sorted(found, key=lambda each: each[0]))


def _in_number_order(place: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", place.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part] + [(2, len(place.name))]


def _macs(net: Path) -> tuple[str, ...]:
    """Those of real interfaces first; one that the machine booted from is among them."""
    found = []
    for place in sorted(_entries(net), key=_in_number_order):
        mac = _text(place / "address").lower()
        if _MAC.fullmatch(mac) and mac != "00:00:00:00:00:00" and place.name != "lo":
            found.append((not (place / "device").exists(), mac))
    return tuple(dict.fromkeys(mac for _, mac in sorted(found, key=lambda each: each[0])))


def _is_wired(net: Path) -> bool | None:
    """Whether an interface that is up has a cable."""
    up = [place for place in _entries(net) if place.name != "lo" and _text(place / "operstate") == "up"]
    return any(not (place / "wireless").exists() for place in up) if up else None


def _is_on_ac_power(supplies: Path) -> bool | None:
    mains = [place for place in _entries(supplies) if _text(place / "type") in ("Mains", "USB")]
    batteries = [place for place in _entries(supplies) if _text(place / "type") == "Battery"]
    if not batteries:
        return True  # what has no battery runs on mains
    online = [_text(place / "online") for place in mains]
    return "1" in online if online else None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(place: Path) -> str:
    """What a file says, "" where it is not there or its maker left it blank."""
    try:
        text = place.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
    return "" if place.parent.name == "id" and _NOBODY.fullmatch(text) else text
