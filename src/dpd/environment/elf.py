# SPDX-License-Identifier: Apache-2.0
"""ELF files as far as an image is made of them: which libraries a program needs, what a kernel module says of itself, and a
library that has one symbol and nothing else. 64 bits, little-endian: x64 and ARM64."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from dpd.errors import BuildError

X64, ARM64 = 62, 183  # e_machine
_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC, _INTERPRETER, _STACK = 1, 2, 3, 0x6474E551
_NULL, _NEEDED, _HASH, _STRINGS, _SYMBOLS, _STRINGS_SIZE, _SYMBOL_SIZE, _SONAME = 0, 1, 4, 5, 6, 10, 11, 14
_PAGE = 0x10000  # the largest that ARM64 has; x64 takes it too


def is_elf(content: bytes) -> bool:
    return content.startswith(_MAGIC)


def needed(content: bytes) -> list[str]:
    """What the loader looks for to run this: its interpreter by path, and libraries by name. Empty for what is no ELF file, and
    for what needs nothing."""
    if not is_elf(content):
        return []
    segments = [_SEGMENT.unpack_from(content, at) for at in _segment_offsets(content)]
    found = [_text(content, offset) for kind, _, offset, *_ in segments if kind == _INTERPRETER]
    for kind, _, offset, _, _, size, *_ in segments:
        if kind == _DYNAMIC:
            entries = list(_ENTRY.iter_unpack(content[offset : offset + size - size % _ENTRY.size]))
            strings = _file_offset(segments, dict(entries)[_STRINGS])
            found += [_text(content, strings + value) for tag, value in entries if tag == _NEEDED]
    return found


def section(content: bytes, name: str) -> bytes:
    """The bytes of the section of that name; empty where there is none."""
    header = _HEADER.unpack_from(content)
    table, entry_size, count, names = header[6], header[11], header[12], header[13]
    sections = [_SECTION.unpack_from(content, table + number * entry_size) for number in range(count)]
    for fields in sections:
        if _text(content, sections[names][4] + fields[0]) == name:
            return content[fields[4] : fields[4] + fields[5]]
    return b""


def library(machine: int, soname: str, symbol: str, value: bytes) -> bytes:
    """A shared library whose only symbol has these bytes behind it. One segment holds all of it."""
    strings = b"\0" + soname.encode() + b"\0" + symbol.encode() + b"\0"
    symbol_name, count = 1 + len(soname) + 1, 2
    hashes = struct.pack("<IIIIII", 1, count, 1, 0, 0, 0)  # one bucket, that holds symbol 1
    hashes_at = _HEADER.size + 3 * _SEGMENT.size
    symbols_at = hashes_at + len(hashes)
    strings_at = symbols_at + count * _SYMBOL.size
    dynamic_at = -(-(strings_at + len(strings)) // 16) * 16
    dynamic = b"".join(
        _ENTRY.pack(tag, number)
        for tag, number in (
            (_SONAME, 1), (_HASH, hashes_at), (_STRINGS, strings_at), (_SYMBOLS, symbols_at),
            (_STRINGS_SIZE, len(strings)), (_SYMBOL_SIZE, _SYMBOL.size), (_NULL, 0),
        )
    )  # fmt: skip
    value_at = dynamic_at + len(dynamic)
    size = value_at + len(value)
    global_object, some_section = 0x11, 1  # STB_GLOBAL with STT_OBJECT; 0 would be undefined
    symbols = bytes(_SYMBOL.size) + _SYMBOL.pack(symbol_name, global_object, 0, some_section, value_at, len(value))
    shared_object = 3
    header = _HEADER.pack(
        _MAGIC + b"\x01" + bytes(9), shared_object, machine, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 3, 0, 0, 0
    )  # fmt: skip
    readable, writable = 4, 2
    segments = (
        _SEGMENT.pack(_LOAD, readable | writable, 0, 0, 0, size, size, _PAGE)
        + _SEGMENT.pack(
            _DYNAMIC, readable | writable, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8
        )
        + _SEGMENT.pack(_STACK, readable | writable, 0, 0, 0, 0, 0, 16)
    )
    whole = header + segments + hashes + symbols + strings
    return whole + bytes(dynamic_at - len(whole)) + dynamic + value


def read(path: Path) -> bytes:
    """Raises BuildError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from None


def _segment_offsets(content: bytes) -> Iterator[int]:
    header = _HEADER.unpack_from(content)
    table, entry_size, count = header[5], header[9], header[10]
    return iter(range(table, table + entry_size * count, entry_size) if count else ())


def _file_offset(segments: list[tuple[int, ...]], address: int) -> int:
    for kind, _, offset, start, _, size, *_ in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise BuildError(f"ELF file without what is to be at {address:#x}")


def _text(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()
