# SPDX-License-Identifier: Apache-2.0
"""A registry hive as bytes: keys and values in the form that Windows and its boot manager read, written once and whole.

Layout (regf 1.3, little-endian; described publicly by readers such as hivex): a base block of 4096 bytes with a checksum;
then bins, each a multiple of 4096 bytes that begins with "hbin". A bin is filled with cells: a size, negative while the
cell is in use, then the content; cells begin at multiples of 8 and never cross a bin. Offsets count from the first bin.
nk is a key, vk a value, lf a list of up to 507 keys sorted by upper-case name, ri a list of such lists, sk the security
descriptor that all keys share. Values of up to 4 bytes stand in the vk itself. Version 1.3 keeps a value of any length in
one cell (1.4 and later split it from 16344 bytes on).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

BLOCK_BYTES = 4096
BIN_HEADER_BYTES = 32
MAX_KEYS_IN_LIST = 507  # what fits a block: (4096 - 32 - 4 - 4) / 8
MAX_KEY_NAME = 255
MAX_VALUE_NAME = 16383
MAX_VALUE_BYTES = 1 << 20
MAX_DEPTH = 64
_NONE = 0xFFFFFFFF
_ROOT_FLAGS, _KEY_FLAGS, _COMPRESSED_NAME = 0x0C, 0x00, 0x20  # the root: hive entry, cannot be deleted
_INLINE = 0x80000000
_FIXED_TIME = 0x01DA000000000000  # the same bytes for the same keys: who asks twice gets the same file

_BASE = struct.Struct("<4sIIQIIIIIII64s")
_BIN = struct.Struct("<4sIIQQI")
_NK = struct.Struct("<2sHQIIIIIIIIIIIIIIIHH")
_VK = struct.Struct("<2sHIIIHH")
_SK = struct.Struct("<2sHIIII")

# O:BA G:SY, full access for SYSTEM and Administrators, inherited by all keys below.
_SYSTEM = bytes.fromhex("010100000000000512000000")
_ADMINISTRATORS = bytes.fromhex("01020000000000052000000020020000")
_FULL_ACCESS = 0x000F003F


class ValueType(IntEnum):
    """What a value holds."""

    STRING = 1  # REG_SZ
    BINARY = 3  # REG_BINARY
    DWORD = 4  # REG_DWORD
    STRINGS = 7  # REG_MULTI_SZ


@dataclass(frozen=True, slots=True)
class Value:
    """A named piece of data; the name "" is the key's default value."""

    name: str
    type: ValueType
    content: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key with what is below it, in any order."""

    name: str
    values: tuple[Value, ...] = ()
    keys: tuple[Key, ...] = ()


def string(name: str, value: str) -> Value:
    """A text."""
    return Value(name, ValueType.STRING, _zero_ended(value))


def strings(name: str, values: Sequence[str]) -> Value:
    """A list of texts."""
    return Value(name, ValueType.STRINGS, b"".join(map(_zero_ended, values)) + b"\0\0")


def dword(name: str, value: int) -> Value:
    """A number of 32 bits."""
    return Value(name, ValueType.DWORD, struct.pack("<I", value))


def binary(name: str, value: bytes) -> Value:
    """Bytes."""
    return Value(name, ValueType.BINARY, value)


def write_hive(root: Key, file_name: str = "") -> bytes:
    """The hive. `file_name` is for whoever looks at it. Raises ValueError for what a hive cannot hold."""
    cells = _Cells()
    security = _write_security(cells, _count(root, 0))
    at = _write_key(cells, root, _NONE, security, _ROOT_FLAGS)
    bins = cells.finish()
    return _base_block(at, len(bins), file_name) + bins


class _Cells:
    """Cells in the order of their reservation; each is filled once its content is known."""

    def __init__(self) -> None:
        self._bins = bytearray()
        self._bin_at = 0
        self._free_at = 0  # within the last bin; equal to its end where it is full

    def reserve(self, size: int) -> int:
        """Room for this many bytes; its offset."""
        whole = (size + 4 + 7) & ~7
        if self._free_at + whole > len(self._bins):
            self._close_bin()
            self._open_bin(whole)
        at = self._free_at
        struct.pack_into("<i", self._bins, at, -whole)
        self._free_at += whole
        return at

    def fill(self, at: int, content: bytes) -> None:
        self._bins[at + 4 : at + 4 + len(content)] = content

    def put(self, content: bytes) -> int:
        at = self.reserve(len(content))
        self.fill(at, content)
        return at

    def finish(self) -> bytes:
        self._close_bin()
        return bytes(self._bins)

    def _open_bin(self, wanted: int) -> None:
        self._bin_at = len(self._bins)
        size = -(-(wanted + BIN_HEADER_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
        time = _FIXED_TIME if self._bin_at == 0 else 0
        self._bins += _BIN.pack(b"hbin", self._bin_at, size, 0, time, 0).ljust(size, b"\0")
        self._free_at = self._bin_at + BIN_HEADER_BYTES

    def _close_bin(self) -> None:
        """What is left of a bin is one free cell, its size positive."""
        if left := len(self._bins) - self._free_at:
            struct.pack_into("<i", self._bins, self._free_at, left)
        self._free_at = len(self._bins)


def _base_block(root_at: int, bins_bytes: int, file_name: str) -> bytes:
    name = file_name.encode("utf-16-le")[-62:]
    head = _BASE.pack(b"regf", 1, 1, _FIXED_TIME, 1, 3, 0, 1, root_at, bins_bytes, 1, name)
    checked = head.ljust(508, b"\0")
    checksum = 0
    for (word,) in struct.iter_unpack("<I", checked):
        checksum ^= word
    # 0 and all ones are no checksums: a reader would take the block for one that was never written.
    checksum = {0: 1, _NONE: _NONE - 1}.get(checksum, checksum)
    return (checked + struct.pack("<I", checksum)).ljust(BLOCK_BYTES, b"\0")


def _count(key: Key, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ValueError(f"keys nested deeper than {MAX_DEPTH}")
    return 1 + sum(_count(each, depth + 1) for each in key.keys)


def _write_security(cells: _Cells, keys: int) -> int:
    """One descriptor for all keys: a ring of one."""
    entries = b"".join(_access_entry(who) for who in (_SYSTEM, _ADMINISTRATORS))
    access_list = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 2, 0) + entries
    owner_at = 20 + len(access_list)
    group_at = owner_at + len(_ADMINISTRATORS)
    header = struct.pack("<BBHIIII", 1, 0, 0x8004, owner_at, group_at, 0, 20)  # self-relative, an access list present
    descriptor = header + access_list + _ADMINISTRATORS + _SYSTEM
    at = cells.reserve(_SK.size + len(descriptor))
    cells.fill(at, _SK.pack(b"sk", 0, at, at, keys, len(descriptor)) + descriptor)
    return at


def _access_entry(who: bytes) -> bytes:
    """Access allowed, inherited by keys."""
    return struct.pack("<BBHI", 0, 2, 8 + len(who), _FULL_ACCESS) + who


def _write_key(cells: _Cells, key: Key, parent: int, security: int, flags: int = _KEY_FLAGS) -> int:
    name, name_flag = _name(key.name, "key", MAX_KEY_NAME)
    if not name or "\\" in key.name:
        raise ValueError(f"key name {key.name[:40]!r}: expected 1 to {MAX_KEY_NAME} characters, none a backslash")
    at = cells.reserve(_NK.size + len(name))
    keys = _in_order(key)
    children = [(each, _write_key(cells, each, at, security)) for each in keys]
    cells.fill(
        at,
        _NK.pack(
            b"nk",
            flags | name_flag,
            _FIXED_TIME,
            0,
            parent,
            len(keys),
            0,
            _write_key_list(cells, children),
            _NONE,
            len(key.values),
            _write_values(cells, key),
            security,
            _NONE,
            max((_utf16_bytes(each.name) for each in keys), default=0),
            0,
            max((_utf16_bytes(each.name) for each in key.values), default=0),
            max((len(each.content) for each in key.values), default=0),
            0,
            len(name),
            0,
        )
        + name,
    )
    return at


def _in_order(key: Key) -> list[Key]:
    """Readers search by halves, so the order is part of the format; and two names that differ in case are one."""
    if len({each.name.upper() for each in key.keys}) < len(key.keys):
        raise ValueError(f"key {key.name[:40]!r}: two keys below it have one name")
    return sorted(key.keys, key=lambda each: each.name.upper().encode("utf-16-be"))


def _write_key_list(cells: _Cells, children: list[tuple[Key, int]]) -> int:
    if not children:
        return _NONE
    lists = [cells.put(_leaf(children[at : at + MAX_KEYS_IN_LIST])) for at in range(0, len(children), MAX_KEYS_IN_LIST)]
    if len(lists) == 1:
        return lists[0]
    return cells.put(struct.pack("<2sH", b"ri", len(lists)) + struct.pack(f"<{len(lists)}I", *lists))


def _leaf(children: list[tuple[Key, int]]) -> bytes:
    """Offset and the first four characters of each; a character beyond Latin-1 makes the hint a zero."""
    entries = (struct.pack("<I4s", at, _hint(each.name)) for each, at in children)
    return struct.pack("<2sH", b"lf", len(children)) + b"".join(entries)


def _hint(name: str) -> bytes:
    try:
        return name[:4].encode("latin-1")
    except UnicodeEncodeError:
        return b""


def _write_values(cells: _Cells, key: Key) -> int:
    if not key.values:
        return _NONE
    if len({each.name.upper() for each in key.values}) < len(key.values):
        raise ValueError(f"key {key.name[:40]!r}: two of its values have one name")
    places = [_write_value(cells, each) for each in key.values]
    return cells.put(struct.pack(f"<{len(places)}I", *places))


def _write_value(cells: _Cells, value: Value) -> int:
    name, name_flag = _name(value.name, "value", MAX_VALUE_NAME)
    size = len(value.content)
    if size > MAX_VALUE_BYTES:
        raise ValueError(f"value {value.name[:40]!r}: {size} bytes, expected at most {MAX_VALUE_BYTES}")
    if size <= 4:
        size, place = size | _INLINE, int.from_bytes(value.content, "little")
    else:
        place = cells.put(value.content)
    return cells.put(_VK.pack(b"vk", len(name), size, place, value.type, name_flag >> 5, 0) + name)


def _name(name: str, what: str, limit: int) -> tuple[bytes, int]:
    """Latin-1 where that holds it, which readers call compressed."""
    if len(name) > limit or "\0" in name:
        raise ValueError(f"{what} name {name[:40]!r}: expected at most {limit} characters, none of them NUL")
    try:
        return name.encode("latin-1"), _COMPRESSED_NAME
    except UnicodeEncodeError:
        return name.encode("utf-16-le"), 0


def _utf16_bytes(name: str) -> int:
    return len(name.encode("utf-16-le"))


def _zero_ended(value: str) -> bytes:
    if "\0" in value:
        raise ValueError(f"text {value[:40]!r}: expected no NUL in it")
    return value.encode("utf-16-le") + b"\0\0"
