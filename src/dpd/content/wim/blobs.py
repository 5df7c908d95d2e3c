# SPDX-License-Identifier: Apache-2.0
"""The blob table of a WIM: which resources it has, and how they are laid out. Nothing is decompressed.

A resource holds one blob, stored or compressed in chunks, with a table of the chunks' offsets before them (behind them in
a pipable WIM). Entries of 4 bytes, of 8 from 4 GiB on; the first chunk has none. A solid resource holds many blobs: 16
bytes that tell its original size, chunk size and compression, 4 bytes with the size of each chunk, the chunks. In the
table solid resources and their blobs stand together as a run of entries; the blobs' offsets count through all
resources of the run, as if these were one.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from dpd.content.wim.file import WimFile
from dpd.content.wim.header import (
    HEADER_BYTES,
    RESOURCE_COMPRESSED,
    RESOURCE_FREE,
    RESOURCE_METADATA,
    RESOURCE_SOLID,
    VERSION_SOLID,
    Header,
)
from dpd.errors import ContentCorrupt

_ENTRY = struct.Struct("<QQQHI20s")
# Bytes of an entry: its flags, and the one that is 1 in the original size of a solid resource.
_FLAGS_AT, _HUGE_AT = 7, 20
_METADATA = re.compile(
    b"[" + re.escape(bytes(each for each in range(256) if each & RESOURCE_METADATA)) + b"]", re.DOTALL
)
_HUGE = re.compile(b"\x01")
_ENTRIES_PER_READ = 20_000  # 1 MB
_SOLID_RESOURCE = 1 << 32  # stands in the original size of an entry that describes a solid resource, not a blob in it
_SOLID_HEADER = struct.Struct("<QII")
_SOLID_COMPRESSIONS = ("none", "xpress", "lzx", "lzms")
_SIZES_PER_READ = 1 << 18  # 1 MiB of a solid resource's chunk table
_NO_HASH = bytes(20)


class BlobEntry(NamedTuple):
    """One entry of the table, as it stands there. For a blob in a solid resource `size_bytes` is its original size and
    `offset` counts within the run's resources. A tuple, since an image has 100,000 of them."""

    number: int
    size_bytes: int
    flags: int
    offset: int
    original_size: int
    part: int
    references: int
    sha1: bytes

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes

    @property
    def is_solid_resource(self) -> bool:
        return bool(self.flags & RESOURCE_SOLID) and self.original_size == _SOLID_RESOURCE

    @property
    def is_in_solid(self) -> bool:
        return bool(self.flags & RESOURCE_SOLID) and self.original_size != _SOLID_RESOURCE

    @property
    def blob_bytes(self) -> int:
        """How large the blob is when it is taken out."""
        return self.size_bytes if self.is_in_solid else self.original_size

    @property
    def is_stored(self) -> bool:
        """Whether the file has the blob's very bytes at `offset`."""
        return not self.flags & (RESOURCE_SOLID | RESOURCE_COMPRESSED | RESOURCE_FREE)

    @property
    def has_hash(self) -> bool:
        return self.sha1 != _NO_HASH


@dataclass(frozen=True, slots=True)
class SolidResource:
    """Where many blobs lie compressed as one. `table_bytes` is its header and the sizes of its chunks."""

    offset: int
    size_bytes: int
    original_size: int
    compression: str
    chunk_bytes: int
    chunk_count: int
    table_bytes: int


@dataclass(frozen=True, slots=True)
class BlobSummary:
    """What the table of one file holds. `blob_bytes` is the size of all file contents taken out, `chunk_table_bytes` what
    the chunk tables of resources with one blob take."""

    blob_count: int
    metadata_count: int
    blob_bytes: int
    stored_count: int
    chunk_table_bytes: int
    solid_resources: tuple[SolidResource, ...]


def entries(file: WimFile, header: Header) -> Iterator[BlobEntry]:
    """The table as it stands. Raises ContentCorrupt where it is no table or is not within the file."""
    known = _known_flags(header)
    number = 0
    for piece in _pieces(file, header):
        for packed, offset, original_size, part, references, sha1 in _ENTRY.iter_unpack(piece):
            size, flags = packed & (1 << 56) - 1, packed >> 56 & known
            yield BlobEntry(number, size, flags, offset, original_size, part, references, sha1)
            number += 1


def leading_entries(file: WimFile, header: Header) -> Iterator[BlobEntry]:
    """Of the table the metadata of images and the solid resources, each in its order. They are looked for column by column: a million
    entries cost 20 ms. Raises ContentCorrupt as `entries`."""
    known = _known_flags(header)
    first = 0
    for piece in _pieces(file, header):
        flags, is_huge = piece[_FLAGS_AT :: _ENTRY.size], piece[_HUGE_AT :: _ENTRY.size]
        found = [each.start() for each in _METADATA.finditer(flags)]
        if known & RESOURCE_SOLID:
            found += [each.start() for each in _HUGE.finditer(is_huge) if flags[each.start()] & RESOURCE_SOLID]
        for at in sorted(set(found)):
            packed, *rest = _ENTRY.unpack_from(piece, at * _ENTRY.size)
            yield BlobEntry(first + at, packed & (1 << 56) - 1, packed >> 56 & known, *rest)
        first += len(flags)


def _known_flags(header: Header) -> int:
    """Before solid resources came, their bit meant nothing."""
    return 0xFF if header.version == VERSION_SOLID else 0xFF & ~RESOURCE_SOLID


def _pieces(file: WimFile, header: Header) -> Iterator[bytes]:
    """The table, some entries at a time. Raises ContentCorrupt where it is no table or is not within the file."""
    table = header.blob_table
    if table.size_bytes % _ENTRY.size or (header.image_count and not table.size_bytes):
        raise ContentCorrupt(f"blob table damaged: {table.size_bytes} bytes, expected entries of {_ENTRY.size} bytes")
    file.check_bounds(table, "blob table")
    if table.flags & RESOURCE_COMPRESSED:
        raise ContentCorrupt("blob table damaged: marked as compressed, expected it uncompressed")
    for at in range(table.offset, table.end, _ENTRIES_PER_READ * _ENTRY.size):
        yield file.read(at, min(_ENTRIES_PER_READ * _ENTRY.size, table.end - at))


def check_blobs(file: WimFile, header: Header) -> BlobSummary:
    """Every resource lies within the file and can be as large as it says. Raises ContentCorrupt that names the blob."""
    solid: list[SolidResource] = []
    run = _SolidRun()
    blobs = metadata = blob_bytes = stored = table_bytes = solid_bytes = 0
    for entry in entries(file, header):
        flags = entry.flags
        if not flags & RESOURCE_SOLID:
            run = run.ended()
        if flags & RESOURCE_FREE or entry.part != header.part_number:
            continue
        if not entry.is_in_solid:
            _check_bounds(file, entry)
        if entry.is_solid_resource:
            solid_bytes += entry.size_bytes
            if solid_bytes > file.size_bytes:  # also keeps the reading of their tables within one pass over the file
                raise ContentCorrupt(f"blob table damaged: solid resource {entry.number} overlaps with others")
            solid.append(_solid_resource(file, entry))
            run.add(solid[-1])
            continue
        if flags & RESOURCE_SOLID:
            run.note(entry)
        else:
            table_bytes += _check_resource(header, entry)
            stored += entry.is_stored
        if flags & RESOURCE_METADATA:
            metadata += 1
        else:
            blobs += 1
            blob_bytes += entry.blob_bytes
    run.ended()
    return BlobSummary(blobs, metadata, blob_bytes, stored, table_bytes, tuple(solid))


def _check_bounds(file: WimFile, entry: BlobEntry) -> None:
    if entry.end > file.size_bytes:
        raise ContentCorrupt(
            f"truncated: the resource of blob {entry.number} is at bytes {entry.offset} to {entry.end - 1}, but the file ends at byte {file.size_bytes}"
        )
    if entry.size_bytes and entry.offset < HEADER_BYTES:
        raise ContentCorrupt(f"blob table damaged: blob {entry.number} is at byte {entry.offset}, within the header")


def _check_resource(header: Header, entry: BlobEntry) -> int:
    """The bytes of the chunk table of a resource with one blob."""
    if not entry.flags & RESOURCE_COMPRESSED:
        if entry.size_bytes != entry.original_size:
            raise ContentCorrupt(
                f"blob table damaged: blob {entry.number} is stored in {entry.size_bytes} bytes, but has {entry.original_size}"
            )
        return 0
    table_bytes = chunk_table_bytes(entry.original_size, _chunk_bytes(header, entry))
    if entry.original_size and table_bytes >= entry.size_bytes:
        raise ContentCorrupt(
            f"blob table damaged: blob {entry.number} has {entry.original_size} bytes in a resource of {entry.size_bytes}, where its chunk table alone takes {table_bytes}"
        )
    return table_bytes


def chunk_table_bytes(original_size: int, chunk_bytes: int) -> int:
    """What the table of a compressed resource with one blob takes."""
    entry_bytes = 4 if original_size < 1 << 32 else 8
    return max(0, -(-original_size // chunk_bytes) - 1) * entry_bytes


def _chunk_bytes(header: Header, entry: BlobEntry) -> int:
    if header.compression == "none":
        raise ContentCorrupt(
            f"blob table damaged: blob {entry.number} is compressed, but the header says how: not at all"
        )
    if not _is_power_of_two(header.chunk_bytes):
        raise ContentCorrupt(f"header damaged: chunk size {header.chunk_bytes}, expected a power of two")
    return header.chunk_bytes


def _solid_resource(file: WimFile, entry: BlobEntry) -> SolidResource:
    """Read the head of a solid resource and the sizes of its chunks."""
    what = f"solid resource {entry.number}"
    if entry.size_bytes < _SOLID_HEADER.size:
        raise ContentCorrupt(
            f"blob table damaged: {what} has {entry.size_bytes} bytes, expected at least {_SOLID_HEADER.size}"
        )
    original_size, chunk_bytes, code = _SOLID_HEADER.unpack(file.read(entry.offset, _SOLID_HEADER.size))
    if not _is_power_of_two(chunk_bytes):
        raise ContentCorrupt(f"{what} damaged: chunk size {chunk_bytes}, expected a power of two")
    if code >= len(_SOLID_COMPRESSIONS):
        raise ContentCorrupt(f"{what} damaged: compression {code} is unknown, expected 0 to 3")
    count = -(-original_size // chunk_bytes)
    table_bytes = _SOLID_HEADER.size + 4 * count
    if table_bytes > entry.size_bytes:
        raise ContentCorrupt(
            f"{what} damaged: {count} chunks, whose table takes {table_bytes} bytes of a resource of {entry.size_bytes}"
        )
    found = SolidResource(
        entry.offset, entry.size_bytes, original_size, _SOLID_COMPRESSIONS[code], chunk_bytes, count, table_bytes
    )
    _check_chunk_sizes(file, found, what)
    return found


def _check_chunk_sizes(file: WimFile, solid: SolidResource, what: str) -> None:
    begin, total = solid.offset + _SOLID_HEADER.size, 0
    for first in range(0, solid.chunk_count, _SIZES_PER_READ):
        count = min(_SIZES_PER_READ, solid.chunk_count - first)
        sizes = struct.unpack(f"<{count}I", file.read(begin + 4 * first, 4 * count))
        if max(sizes) > solid.chunk_bytes or min(sizes) == 0:
            wrong = next(i for i, size in enumerate(sizes) if not 0 < size <= solid.chunk_bytes)
            raise ContentCorrupt(
                f"{what} damaged: chunk {first + wrong} has {sizes[wrong]} bytes, expected 1 to {solid.chunk_bytes}"
            )
        total += sum(sizes)
    if solid.table_bytes + total > solid.size_bytes:
        raise ContentCorrupt(
            f"{what} damaged: its chunks end {solid.table_bytes + total - solid.size_bytes} bytes behind its end"
        )


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


class _SolidRun:
    """Entries that stand together. The resources of a run may stand behind blobs in them, so it is judged at its end."""

    def __init__(self) -> None:
        self._resources: list[SolidResource] = []
        self._blobs: list[BlobEntry] = []

    def add(self, resource: SolidResource) -> None:
        self._resources.append(resource)

    def note(self, blob: BlobEntry) -> None:
        self._blobs.append(blob)

    def ended(self) -> _SolidRun:
        """A new run. Raises ContentCorrupt that names a blob of this one that is not whole within one of its resources."""
        if not self._blobs:
            return self if not self._resources else _SolidRun()
        begins = [0, *accumulate(each.original_size for each in self._resources)]
        for blob in self._blobs:
            at = bisect_right(begins, blob.offset)
            if at == len(begins) or blob.end > begins[at]:
                raise ContentCorrupt(
                    f"blob table damaged: blob {blob.number} is at bytes {blob.offset} to {blob.end - 1} of solid resources, of which there are {begins[-1]}"
                )
        return _SolidRun()
