# SPDX-License-Identifier: Apache-2.0
"""Is what is in a WIM what its own SHA-1 sums say? What is stored plain is compared here; what is compressed, by wimlib.

A library's own check is another one: that a file is byte for byte what was published. This one tells of damage that was in
the file before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dpd.content.wim import tool as wim_tool
from dpd.content.wim.blobs import BlobEntry, entries
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import RESOURCE_FREE
from dpd.errors import ContentCorrupt, ContentError

Progress = Callable[[int, int], None]

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WimCheck:
    """How much of a WIM was compared. `unchecked` resources are compressed, and wimlib's program is not installed."""

    resources: int
    checked: int
    by_wimlib: bool

    @property
    def unchecked(self) -> int:
        return self.resources - self.checked


def verify_wim(parts: Sequence[int], names: Sequence[str], progress: Progress) -> WimCheck:
    """Compare what is in a WIM, open as descriptors of its parts in order, `names` being theirs in messages.

    Every byte is read once: by wimlib where something is compressed and it is there, else here. Raises ContentCorrupt.
    """
    resources = [_resources(part, name) for part, name in zip(parts, names, strict=True)]
    total = sum(map(len, resources))
    if wim_tool.is_installed() and not all(each.is_stored for listed in resources for each in listed):
        try:
            wim_tool.verify(parts, progress)
        except ContentCorrupt as error:
            raise ContentCorrupt(f"{names[0]}: {error}") from None
        return WimCheck(total, total, by_wimlib=True)
    stored = [[each for each in listed if each.is_stored and each.has_hash] for listed in resources]
    sizes = [sum(each.size_bytes for each in listed) for listed in stored]
    begins = [0, *accumulate(sizes)]
    for part, name, listed, begin in zip(parts, names, stored, begins, strict=False):
        _compare(part, name, listed, progress, begin, begins[-1])
    return WimCheck(total, sum(map(len, stored)), by_wimlib=False)


def _resources(descriptor: int, name: str) -> list[BlobEntry]:
    """All that this part has, in the order in which they lie there."""
    try:
        file = WimFile(descriptor)
        header = file.read_header()
        own = (entry for entry in entries(file, header) if entry.part == header.part_number)
        counted = [each for each in own if not each.is_solid_resource and not each.flags & RESOURCE_FREE]
    except ContentCorrupt as error:
        raise ContentCorrupt(f"{name}: {error}") from None
    return sorted(counted, key=lambda entry: entry.offset)


def _compare(
    descriptor: int, name: str, listed: Sequence[BlobEntry], progress: Progress, done: int, total: int
) -> None:
    for entry in listed:
        digest = hashlib.sha1(usedforsecurity=False)
        for at in range(entry.offset, entry.end, _PIECE_BYTES):
            piece = _read(descriptor, name, at, min(_PIECE_BYTES, entry.end - at))
            digest.update(piece)
            done += len(piece)
            progress(done, total)
        if digest.digest() != entry.sha1:
            raise ContentCorrupt(
                f"{name}: blob {entry.number} (bytes {entry.offset} to {entry.end - 1}) has another SHA-1 than its blob table says; capture or copy it again"
            )


def _read(descriptor: int, name: str, offset: int, length: int) -> bytes:
    try:
        piece = os.pread(descriptor, length, offset)
    except OSError as error:
        raise ContentError(f"{name}: cannot be read at byte {offset}: {error.strerror}") from None
    if len(piece) != length:
        raise ContentCorrupt(f"{name}: truncated: it ends within bytes {offset} to {offset + length - 1}")
    return piece
