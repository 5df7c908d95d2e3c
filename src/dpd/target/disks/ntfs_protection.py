# SPDX-License-Identifier: Apache-2.0
"""Who may do what with files that are written to an NTFS volume from here.

ntfs-3g lets everybody do everything with a file that it makes, which under Windows would let any user change drivers and boot
files, and read what a secret was put into. So each gets a security descriptor ([MS-DTYP] 2.4): Administrators own it, they and
the system may do everything, and what is for all to read may be read by users.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from dpd.target.work.state import Volume

ATTRIBUTE = "system.ntfs_acl"  # of ntfs-3g: the descriptor as it is on the disk
SYSTEM = bytes.fromhex("010100000000000512000000")  # S-1-5-18
ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")  # S-1-5-32-544
USERS = bytes.fromhex("01020000000000052000000021020000")  # S-1-5-32-545
_EVERYTHING, _READ_AND_EXECUTE = 0x1F01FF, 0x1200A9
_SELF_RELATIVE, _IS_PROTECTED, _HAS_LIST = 0x8000, 0x1000, 0x0004
_TO_ALL_BELOW = 3  # inherited by files and folders
_HEADER = struct.Struct("<BBHIIII")
# What ntfs-3g gives to a new file: of Administrators, and S-1-1-0, which is everyone, may do everything.
FOR_EVERYONE = (
    _HEADER.pack(1, 0, 0x8004, 20, 36, 0, 52)
    + ADMINISTRATORS
    + ADMINISTRATORS
    + struct.pack("<BBHHHBBHI", 2, 0, 28, 1, 0, 0, _TO_ALL_BELOW, 20, _EVERYTHING)
    + bytes.fromhex("010100000000000100000000")
)


def descriptor(*, is_folder: bool, is_readable: bool) -> bytes:
    """Self-relative, and nothing is inherited from above."""
    flags = _TO_ALL_BELOW if is_folder else 0
    entries = _entry(SYSTEM, _EVERYTHING, flags) + _entry(ADMINISTRATORS, _EVERYTHING, flags)
    count = 2
    if is_readable:
        entries += _entry(USERS, _READ_AND_EXECUTE, flags)
        count = 3
    access = struct.pack("<BBHHH", 2, 0, 8 + len(entries), count, 0) + entries
    control = _SELF_RELATIVE | _IS_PROTECTED | _HAS_LIST
    owner_at = _HEADER.size
    group_at = owner_at + len(ADMINISTRATORS)
    header = _HEADER.pack(1, 0, control, owner_at, group_at, 0, group_at + len(SYSTEM))
    return header + ADMINISTRATORS + SYSTEM + access


def protect(volume: Volume, place: Path, *, is_readable: bool) -> None:
    """A file, or a folder with all that is in it; on other file systems nothing is done, they have modes. Raises OSError."""
    if volume.format != "ntfs":
        return
    _set(place, is_readable)
    for folder, folders, names in os.walk(place):
        for name in folders + names:
            _set(Path(folder, name), is_readable)


def protect_new(volume: Volume, folder: Path) -> None:
    """What ntfs-3g made in a folder is for all to read; what Windows or an image has given a descriptor keeps it. Raises OSError."""
    if volume.format != "ntfs":
        return
    for at, folders, names in os.walk(folder):
        for place in (Path(at, name) for name in folders + names):
            if not place.is_symlink() and os.getxattr(place, ATTRIBUTE) == FOR_EVERYONE:
                _set(place, True)


def make_folders(volume: Volume, place: Path) -> None:
    """The folder with those above it; each that was not there is for all to read and for nobody but Administrators to change."""
    missing = []
    at = place
    while not at.exists():
        missing.append(at)
        at = at.parent
    place.mkdir(parents=True, exist_ok=True)
    for each in missing:
        protect(volume, each, is_readable=True)


def _entry(who: bytes, what: int, flags: int) -> bytes:
    return struct.pack("<BBHI", 0, flags, 8 + len(who), what) + who


def _set(place: Path, is_readable: bool) -> None:
    if place.is_symlink():
        return
    with contextlib.suppress(FileNotFoundError):
        os.setxattr(place, ATTRIBUTE, descriptor(is_folder=place.is_dir(), is_readable=is_readable))
