# SPDX-License-Identifier: Apache-2.0
"""The newc format of cpio, which Linux unpacks as its first file system (Documentation/driver-api/early-userspace/buffer-format.rst).

Equal trees give equal bytes: members are sorted, belong to root, have one time and numbers of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
FOLDER, FILE, LINK, CHARACTER_DEVICE = 0o040000, 0o100000, 0o120000, 0o020000
MAX_BYTES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One name. `content` of a link is where it points; a file may lie on the disk as `source` instead. `device` is a device's
    major and minor number."""

    name: str
    mode: int
    content: bytes = b""
    source: Path | None = None
    device: tuple[int, int] = (0, 0)

    def read(self) -> bytes:
        return self.content if self.source is None else self.source.read_bytes()


def write_archive(out: IO[bytes], members: Iterable[Member], mtime: int) -> int:
    """Write an archive; how many bytes it has. A folder comes before what is in it, since `/` sorts low enough."""
    written = 0
    for number, member in enumerate(sorted(members, key=lambda each: each.name.split("/")), start=1):
        written += _write(out, member, number, mtime)
    return written + _write(out, Member(TRAILER, 0), 0, 0)


def _write(out: IO[bytes], member: Member, number: int, mtime: int) -> int:
    content, name = member.read(), member.name.encode()
    if len(content) > MAX_BYTES:
        raise ValueError(f"{member.name}: {len(content)} bytes, which newc cannot say")
    links = 2 if member.mode & 0o170000 == FOLDER else 1
    fields = (number, member.mode, 0, 0, links, mtime, len(content), 0, 0, *member.device, len(name) + 1, 0)
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return out.write(_padded(head)) + out.write(_padded(content))


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
