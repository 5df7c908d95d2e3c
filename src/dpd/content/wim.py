# SPDX-License-Identifier: Apache-2.0
"""The Windows Imaging Format, as much as a distribution point needs: what is in a file, and is the file whole.

Layout (all little-endian): a header of 208 bytes; the resources (file contents and metadata, compressed); the blob
table, one entry of 50 bytes per resource; the XML data; optionally the integrity table. A pipable WIM, made by wimlib to
be applied from a pipe, starts with an empty header and has the real one as its last 208 bytes. A solid WIM (.esd) packs
many blobs into one resource. A split WIM (.swm) is one part of several, each a file of this layout.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd.content.wim_integrity import MAX_TABLE_BYTES, IntegrityTable, read_table
from dpd.content.wim_xml import MAX_XML_BYTES, ImageSummary, read_images
from dpd.errors import ContentCorrupt, ContentError

MAGIC = b"MSWIM\0\0\0"
PIPABLE_MAGIC = b"WLPWM\0\0\0"
HEADER_BYTES = 208
SUFFIXES = frozenset({".wim", ".swm", ".esd"})

_VERSION = 0x10D00
_VERSION_SOLID = 0xE00  # Windows 8 and later: solid resources, LZMS
_FLAG_COMPRESSION = 0x2
_FLAG_WRITE_IN_PROGRESS = 0x40
_COMPRESSIONS = {
    0x20000: "xpress",
    0x40000: "lzx",
    0x80000: "lzms",
    0x200000: "xpress",
}  # the last: Windows 8's own bit
_RESOURCE_FREE, _RESOURCE_COMPRESSED, _RESOURCE_SOLID = 0x1, 0x4, 0x10
_SOLID_RESOURCE = 1 << 32  # stands in the original size of an entry that describes a solid resource, not a blob in it

_HEADER = struct.Struct("<8s4I16s2HI24s24s24sI24s60x")
_RESOURCE = struct.Struct("<QQQ")
_BLOB = struct.Struct("<QQQHI20s")
_BLOBS_PER_READ = 20_000  # 1 MB


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a part of the file lies."""

    size_bytes: int
    flags: int
    offset: int
    original_size: int

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The 208 bytes, split into their fields."""

    magic: bytes
    header_bytes: int
    version: int
    flags: int
    chunk_bytes: int
    guid: bytes
    part_number: int
    total_parts: int
    image_count: int
    blob_table: Resource
    xml_data: Resource
    boot_metadata: Resource
    boot_index: int
    integrity_table: Resource


@dataclass(frozen=True, slots=True)
class WimSummary:
    """What a sound WIM holds. `integrity` is for an IntegrityVerifier; None where the file has no such table."""

    size_bytes: int
    compression: str
    solid: bool
    pipable: bool
    part_number: int
    total_parts: int
    boot_index: int
    images: tuple[ImageSummary, ...]
    integrity: IntegrityTable | None


def check(source: Path | int, name: str = "") -> WimSummary:
    """Read a WIM's header and tables (not its resources) by path or descriptor.

    Raises ContentCorrupt with `name`, or the path, and the exact reason if anything is damaged or lies beyond the end.
    """
    if isinstance(source, int):
        return _check_named(source, name or f"file descriptor {source}")
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # O_NONBLOCK: never wait on a FIFO
    except OSError as error:
        raise ContentError(f"{source}: cannot be opened: {error.strerror}") from None
    try:
        return _check_named(descriptor, name or str(source))
    finally:
        os.close(descriptor)


def has_magic(start: bytes) -> bool:
    """Whether a file that begins so calls itself a WIM."""
    return start.startswith((MAGIC, PIPABLE_MAGIC))


def parse_header(header: bytes) -> Header:
    """The fields of 208 bytes, each checked as far as it can be without the file. Raises ContentCorrupt."""
    if len(header) < HEADER_BYTES:
        raise ContentCorrupt(f"truncated: {len(header)} bytes, a WIM header alone has {HEADER_BYTES}")
    fields = _split(_HEADER.unpack_from(header))
    if not has_magic(fields.magic):
        raise ContentCorrupt(f"no WIM: starts with {fields.magic.hex(' ')}, expected {MAGIC.hex(' ')}")
    if fields.header_bytes != HEADER_BYTES:
        raise ContentCorrupt(f"header damaged: header size {fields.header_bytes}, expected {HEADER_BYTES}")
    if fields.version not in (_VERSION, _VERSION_SOLID):
        raise ContentCorrupt(f"version {fields.version:#x} is unknown, expected {_VERSION:#x} or {_VERSION_SOLID:#x}")
    if fields.flags & _FLAG_WRITE_IN_PROGRESS:
        raise ContentCorrupt("unfinished: marked as being written; wait for its writer, or export it to a new file")
    if not 1 <= fields.part_number <= fields.total_parts:
        raise ContentCorrupt(f"header damaged: part {fields.part_number} of {fields.total_parts}")
    _compression(fields.flags)
    return fields


def _split(values: tuple[Any, ...]) -> Header:
    *plain, blob_table, xml_data, boot_metadata, boot_index, integrity_table = values
    tables = [_resource(raw) for raw in (blob_table, xml_data, boot_metadata)]
    fields: list[Any] = [*plain, *tables, boot_index, _resource(integrity_table)]
    return Header(*fields)


def _resource(raw: bytes) -> Resource:
    size_and_flags, offset, original_size = _RESOURCE.unpack(raw)
    return Resource(size_and_flags & (1 << 56) - 1, size_and_flags >> 56, offset, original_size)


def _compression(flags: int) -> str:
    if not flags & _FLAG_COMPRESSION:
        return "none"
    named = {name for bit, name in _COMPRESSIONS.items() if flags & bit}
    if len(named) != 1:
        found = " and ".join(sorted(named)) or "none that is known"
        raise ContentCorrupt(f"header damaged: flags {flags:#x} name {found} as compression, expected exactly one")
    return named.pop()


def _check_named(descriptor: int, name: str) -> WimSummary:
    try:
        return _check(_File(descriptor))
    except ContentCorrupt as error:
        raise ContentCorrupt(f"{name}: {error}") from None
    except OSError as error:
        raise ContentError(f"{name}: cannot be read: {error.strerror}") from None


class _File:
    """An open file of known size; what is asked for is read whole or refused."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ContentCorrupt("not a regular file")
        self.size_bytes = status.st_size

    def read(self, offset: int, length: int) -> bytes:
        piece = os.pread(self._descriptor, length, offset)
        if len(piece) != length:
            raise ContentCorrupt(f"truncated: it ends within bytes {offset} to {offset + length - 1}")
        return piece

    def read_resource(self, resource: Resource, what: str, limit: int) -> bytes:
        """A table of the header, stored plain. Raises ContentCorrupt."""
        self.check_bounds(resource, what)
        if resource.flags & _RESOURCE_COMPRESSED or resource.size_bytes != resource.original_size:
            raise ContentCorrupt(
                f"{what} damaged: {resource.size_bytes} bytes for {resource.original_size}, expected it uncompressed"
            )
        if resource.size_bytes > limit:
            raise ContentCorrupt(f"{what} refused: {resource.size_bytes} bytes, expected at most {limit}")
        return self.read(resource.offset, resource.size_bytes)

    def check_bounds(self, resource: Resource, what: str) -> None:
        if resource.size_bytes == 0:  # absent; writers leave any offset behind
            return
        if resource.end > self.size_bytes:
            raise ContentCorrupt(
                f"truncated: {what} is at bytes {resource.offset} to {resource.end - 1}, but the file ends at byte {self.size_bytes}"
            )
        if resource.offset < HEADER_BYTES:
            raise ContentCorrupt(f"{what} damaged: at byte {resource.offset}, within the header")


def _check(file: _File) -> WimSummary:
    header = _read_header(file)
    file.check_bounds(header.boot_metadata, "boot metadata")
    file.check_bounds(header.integrity_table, "integrity table")
    images = _read_images(file, header)
    solid = _check_blobs(file, header)
    return WimSummary(
        size_bytes=file.size_bytes,
        compression=_compression(header.flags),
        solid=solid,
        pipable=header.magic == PIPABLE_MAGIC,
        part_number=header.part_number,
        total_parts=header.total_parts,
        boot_index=header.boot_index,
        images=images,
        integrity=_read_integrity(file, header),
    )


def _read_header(file: _File) -> Header:
    header = parse_header(file.read(0, min(file.size_bytes, HEADER_BYTES)))
    if header.magic != PIPABLE_MAGIC:
        return header
    closing = file.read(file.size_bytes - HEADER_BYTES, HEADER_BYTES)
    if file.size_bytes < 2 * HEADER_BYTES or not closing.startswith(PIPABLE_MAGIC):
        raise ContentCorrupt("truncated: a pipable WIM, but its closing header is not at the end of the file")
    return parse_header(closing)


def _read_images(file: _File, header: Header) -> tuple[ImageSummary, ...]:
    if header.xml_data.size_bytes == 0:
        raise ContentCorrupt("header damaged: no XML data, so it was never finished")
    images = read_images(file.read_resource(header.xml_data, "XML data", MAX_XML_BYTES))
    if len(images) != header.image_count:
        raise ContentCorrupt(f"XML data damaged: {len(images)} images, but the header counts {header.image_count}")
    if header.boot_index > header.image_count:
        raise ContentCorrupt(f"header damaged: boot index {header.boot_index} of {header.image_count} images")
    return images


def _check_blobs(file: _File, header: Header) -> bool:
    """Whether the WIM is solid, once every resource that its blob table names is seen to lie within the file."""
    table, solid = header.blob_table, False
    if table.size_bytes % _BLOB.size or (header.image_count and not table.size_bytes):
        raise ContentCorrupt(f"blob table damaged: {table.size_bytes} bytes, expected entries of {_BLOB.size} bytes")
    file.check_bounds(table, "blob table")
    if table.flags & _RESOURCE_COMPRESSED:
        raise ContentCorrupt("blob table damaged: marked as compressed, expected it uncompressed")
    for number, flags, offset, end, original_size, part in _blobs(file, table):
        solid = solid or bool(flags & _RESOURCE_SOLID)
        in_solid = flags & _RESOURCE_SOLID and original_size != _SOLID_RESOURCE  # its offset counts within another
        if end > file.size_bytes and part == header.part_number and not in_solid and not flags & _RESOURCE_FREE:
            raise ContentCorrupt(
                f"truncated: the resource of blob {number} is at bytes {offset} to {end - 1}, but the file ends at byte {file.size_bytes}"
            )
    return solid


def _blobs(file: _File, table: Resource) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Number, flags, offset, end, original size and part of each entry: plain integers, an image has 100,000 of them."""
    number = 0
    for at in range(table.offset, table.end, _BLOBS_PER_READ * _BLOB.size):
        entries = file.read(at, min(_BLOBS_PER_READ * _BLOB.size, table.end - at))
        for packed, offset, original_size, part, _, _ in _BLOB.iter_unpack(entries):
            yield number, packed >> 56, offset, offset + (packed & (1 << 56) - 1), original_size, part
            number += 1


def _read_integrity(file: _File, header: Header) -> IntegrityTable | None:
    resource = header.integrity_table
    if resource.size_bytes == 0:
        return None
    table = file.read_resource(resource, "integrity table", MAX_TABLE_BYTES)
    return read_table(table, HEADER_BYTES, max(header.blob_table.end, HEADER_BYTES))
