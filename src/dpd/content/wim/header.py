# SPDX-License-Identifier: Apache-2.0
"""The header of a WIM: 208 bytes, little-endian, that name where everything else lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from dpd.errors import ContentCorrupt

MAGIC = b"MSWIM\0\0\0"
PIPABLE_MAGIC = b"WLPWM\0\0\0"
HEADER_BYTES = 208
VERSION = 0x10D00
VERSION_SOLID = 0xE00  # Windows 8 and later: solid resources, LZMS

RESOURCE_FREE, RESOURCE_METADATA, RESOURCE_COMPRESSED, RESOURCE_SOLID = 0x1, 0x2, 0x4, 0x10

_FLAG_COMPRESSION = 0x2
_FLAG_WRITE_IN_PROGRESS = 0x40
_COMPRESSIONS = {
    0x20000: "xpress",
    0x40000: "lzx",
    0x80000: "lzms",
    0x200000: "xpress",
}  # the last: Windows 8's own bit
_HEADER = struct.Struct("<8s4I16s2HI24s24s24sI24s60x")
_RESOURCE = struct.Struct("<QQQ")


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

    @property
    def compression(self) -> str:
        """Of the resources that are compressed and not solid: none, xpress, lzx or lzms. Raises ContentCorrupt."""
        return _compression(self.flags)


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
    if fields.version not in (VERSION, VERSION_SOLID):
        raise ContentCorrupt(f"version {fields.version:#x} is unknown, expected {VERSION:#x} or {VERSION_SOLID:#x}")
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
