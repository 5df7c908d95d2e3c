# SPDX-License-Identifier: Apache-2.0
"""An NTFS volume that has what only NTFS has, and all that a WIM says of one; both by wimlib and ntfs-3g."""

from __future__ import annotations

import os
import re
import struct
from collections import defaultdict
from pathlib import Path

from tests.target.stage import MIB, capture_tree, loop_disk, make_tree, need, run

SYSTEM = bytes.fromhex("010100000000000512000000")  # S-1-5-18
ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")  # S-1-5-32-544
ENTRY = struct.pack("<BBHI", 0, 0, 24, 0x1F01FF) + ADMINISTRATORS  # may do everything
ACCESS = struct.pack("<BBHHH", 2, 0, 8 + len(ENTRY), 1, 0) + ENTRY
DESCRIPTOR = struct.pack("<BBHIIII", 1, 0, 0x8004, 20, 32, 0, 44) + SYSTEM + SYSTEM + ACCESS
READ_ONLY_HIDDEN_SYSTEM = struct.pack("<I", 0x27)  # and archive
TIMES = struct.pack(
    "<3Q", 0x01C0_0000_0000_0001, 0x01C1_0000_0000_0002, 0x01C2_0000_0000_0003
)  # created, changed, read
JUNCTION_TARGET = r"\??\C:\Users".encode("utf-16-le")
JUNCTION_PATHS = JUNCTION_TARGET + b"\0\0" + JUNCTION_TARGET[8:] + b"\0\0"
JUNCTION_NAMES = struct.pack("<HHHH", 0, len(JUNCTION_TARGET), len(JUNCTION_TARGET) + 2, len(JUNCTION_TARGET) - 8)
JUNCTION = struct.pack("<IHH", 0xA0000003, len(JUNCTION_NAMES + JUNCTION_PATHS), 0) + JUNCTION_NAMES + JUNCTION_PATHS
HUGE = "beyond"  # the file that is larger than 4 GiB, where one is wanted
HUGE_BYTES = (4 << 30) + MIB


def capture_volume(home: Path, *, with_huge: bool = False) -> Path:
    """A WIM whose first image was an NTFS volume with streams, hard links, reparse points, security descriptors, attributes,
    times, a sparse file, and one of more than 4 GiB."""
    need("mkntfs", "ntfs-3g", "wimlib-imagex")
    home.mkdir(parents=True, exist_ok=True)
    small, wim = capture_tree(make_tree(home / "tree"), home / "small.wim"), home / "nt.wim"
    with loop_disk(home / "reference", (5 << 30) if with_huge else 64 * MIB) as device:
        place = home / "reference/volume"
        place.mkdir()
        run("mkntfs", "--quick", "--quiet", "--force", device)
        run("wimlib-imagex", "apply", small, "1", device)  # symbolic links become reparse points
        run("ntfs-3g", device, place)
        try:
            _fill(place, with_huge=with_huge)
        finally:
            run("umount", place)
        run("wimlib-imagex", "capture", device, wim, "nt", "--compress=XPRESS")
    return wim


def _fill(place: Path, *, with_huge: bool) -> None:
    os.setxattr(place / "etc/hostname", "user.stream", b"hidden")  # ntfs-3g makes a data stream of it
    os.setxattr(place / "etc/hostname", "user.Zone.Identifier", b"[ZoneTransfer]\r\nZoneId=3\r\n")
    os.setxattr(place / "etc", "user.of a folder", bytes(60_000))
    os.setxattr(place / "usr/bin/tool", "system.ntfs_acl", DESCRIPTOR)
    os.link(place / "usr/bin/tool", place / "etc/tool")
    (place / "Documents and Settings").mkdir()
    os.setxattr(place / "Documents and Settings", "system.ntfs_dos_name", b"DOCUME~1")
    os.setxattr(place / "Documents and Settings", "system.ntfs_reparse_data", JUNCTION)
    with (place / "sparse").open("wb") as file:
        file.truncate(20 * MIB)
        file.seek(7 * MIB)
        file.write(b"in the middle")
    if with_huge:
        with (place / HUGE).open("wb") as file:
            file.truncate(HUGE_BYTES)
            file.seek(4 << 30)
            file.write(b"behind 4 GiB")
    os.setxattr(place / "var/lib/random", "system.ntfs_attrib", READ_ONLY_HIDDEN_SYSTEM)
    os.setxattr(place / "boot/vmlinuz-6.1.0-9-amd64", "system.ntfs_times", TIMES)


def capture_back(device: str, wim: Path) -> Path:
    run("wimlib-imagex", "capture", device, wim, "nt", "--compress=XPRESS")
    return wim


def described(wim: Path) -> dict[str, list[str]]:
    """What a WIM's first image has, by path: attributes, descriptor, reparse data, streams with their hashes, times, and the names
    that are links of each other. Left out is where the bytes lie in this WIM, when they were last read, and when the root was touched."""
    found: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in run("wimlib-imagex", "dir", wim, "1", "--detailed").split("Full Path")[1:]:
        path, lines = entry.partition("\n")[0].strip(' ="'), entry.splitlines()[1:]
        (group,) = re.findall(r"Link Group ID += (\S+)", entry)
        groups[group if int(group, 16) else path].append(path)
        found[path] = [line.strip() for line in lines if not _is_of_this_wim(line, is_root=path == "/")]
    for names in groups.values():
        for path in names:
            found[path].append("links: " + ", ".join(sorted(names)))
    return found


def _is_of_this_wim(line: str, *, is_root: bool) -> bool:
    passing = ("Last Access Time", "Offset in WIM", "Link Group ID", "Compressed size", "Flags", "---")
    return line.startswith(passing) or not line.strip() or (is_root and "Time " in line)
