# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a PE/COFF image are, and what its Authenticode hash covers ("PE Format" and "Windows Authenticode
Portable Executable Signature Format", Microsoft). Where those leave room, this reads as EDK2's DxeImageVerificationLib does.

Strict: an image whose parts overlap, or reach outside the file or into its signature, is refused and not guessed at.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dpd.errors import MalformedImage

MAX_HEADER_BYTES = 1 << 20
MAX_SECTIONS = 96  # what Windows and shim load
MAX_SECTION_TEXT_BYTES = 1 << 16
MAX_CERTIFICATE_TABLE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
DOS_HEADER_BYTES = 64
COFF = struct.Struct("<4sHHIIIHH")  # "PE\0\0" and the file header
SECTION = struct.Struct("<8sIIII16x")
CERTIFICATE = struct.Struct("<IHH")  # WIN_CERTIFICATE
PKCS_SIGNED_DATA = 0x0002
CERTIFICATE_TABLE = 4  # its place among the data directories
CHECKSUM_AT = 64  # within the optional header, as the two below
SUBSYSTEM_AT = 68
HEADERS_SIZE_AT = 60
DIRECTORIES_AT = {0x10B: 96, 0x20B: 112}  # PE32, PE32+
# Microsoft's two authorities for Windows boot loaders, as their certificates name them.
GENERATIONS = {"Windows UEFI CA 2023": "2023", "Microsoft Windows Production PCA 2011": "2011"}
LONG_NAME = b"/"  # a section name of more than 8 characters stands in the string table
SYMBOL_BYTES = 18


@dataclass(frozen=True, slots=True)
class Section:
    name: bytes
    at: int
    size_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts are; `certificates_entry` is the place of the certificate table's directory entry, 0 for none."""

    machine: int
    subsystem: int
    file_bytes: int
    headers_bytes: int
    checksum_at: int
    certificates_entry: int
    certificates_at: int
    certificates_bytes: int
    sections: tuple[Section, ...]
    strings_at: int

    @property
    def signed_end(self) -> int:
        """Where what is hashed ends."""
        return self.file_bytes - self.certificates_bytes


def read_layout(file: BinaryIO) -> Layout:
    """Read the headers of a seekable file. Raises MalformedImage."""
    file_bytes = file.seek(0, os.SEEK_END)
    at = _pe_header_at(file)
    magic, machine, count, _, symbols_at, symbols, optional_bytes, _ = COFF.unpack(
        _read(file, at, COFF.size, "PE header")
    )
    if magic != b"PE\0\0":
        raise MalformedImage("no_pe", "no PE signature")
    optional_at = at + COFF.size
    optional = _read(file, optional_at, optional_bytes, "optional header")
    directories_at = DIRECTORIES_AT.get(int.from_bytes(optional[:2], "little"))
    if directories_at is None or len(optional) < directories_at:
        raise MalformedImage("no_pe", "neither PE32 nor PE32+")
    entry, table_at, table_bytes = _certificate_table(optional, directories_at, file_bytes)
    headers_bytes = int.from_bytes(optional[HEADERS_SIZE_AT : HEADERS_SIZE_AT + 4], "little")
    sections_at = optional_at + optional_bytes
    if not sections_at + count * SECTION.size <= headers_bytes <= min(file_bytes - table_bytes, MAX_HEADER_BYTES):
        raise MalformedImage("bad_headers", f"{headers_bytes} bytes of headers")
    return Layout(
        machine=machine,
        subsystem=int.from_bytes(optional[SUBSYSTEM_AT : SUBSYSTEM_AT + 2], "little"),
        file_bytes=file_bytes,
        headers_bytes=headers_bytes,
        checksum_at=optional_at + CHECKSUM_AT,
        certificates_entry=optional_at + entry if entry else 0,
        certificates_at=table_at,
        certificates_bytes=table_bytes,
        sections=_read_sections(file, sections_at, count, file_bytes - table_bytes),
        strings_at=symbols_at + symbols * SYMBOL_BYTES if symbols_at else 0,
    )


def _pe_header_at(file: BinaryIO) -> int:
    """Behind the header that DOS would start."""
    dos = _read(file, 0, DOS_HEADER_BYTES, "DOS header")
    if dos[:2] != b"MZ":
        raise MalformedImage("no_pe", "it does not start with MZ")
    at = int.from_bytes(dos[60:64], "little")
    if at > MAX_HEADER_BYTES:
        raise MalformedImage("no_pe", f"a PE header at {at}")
    return at


def _certificate_table(optional: bytes, directories_at: int, file_bytes: int) -> tuple[int, int, int]:
    """The place of its directory entry within the optional header, its place in the file, and its size."""
    count = int.from_bytes(optional[directories_at - 4 : directories_at], "little")
    entry = directories_at + 8 * CERTIFICATE_TABLE
    if count <= CERTIFICATE_TABLE:
        return 0, 0, 0
    if len(optional) < entry + 8:
        raise MalformedImage("no_pe", "an optional header without its data directories")
    at, size_bytes = struct.unpack_from("<II", optional, entry)
    if size_bytes == 0:
        return entry, 0, 0
    # Anything behind the table would be signed by nobody.
    if size_bytes > MAX_CERTIFICATE_TABLE_BYTES or at % 8 or at + size_bytes != file_bytes:
        raise MalformedImage("bad_certificate_table", f"{size_bytes} bytes at {at}: expected the file's end")
    return entry, at, size_bytes


def _read_sections(file: BinaryIO, at: int, count: int, limit: int) -> tuple[Section, ...]:
    if not 0 < count <= MAX_SECTIONS:
        raise MalformedImage("bad_sections", f"{count} sections")
    table = _read(file, at, count * SECTION.size, "section table")
    sections = []
    for name, used, _, size_bytes, start in SECTION.iter_unpack(table):
        if size_bytes and start + size_bytes > limit:
            raise MalformedImage("bad_sections", f"section {name!r} reaches beyond the file or into its signature")
        sections.append(Section(name.rstrip(b"\0"), start, size_bytes, min(used, size_bytes)))
    return tuple(sections)


def authenticode_digest(file: BinaryIO, layout: Layout, algorithm: str) -> bytes:
    """The Authenticode hash: all but the checksum, the directory entry of the signature, and the signature."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for start, end in _hashed_ranges(layout):
        while start < end:
            part = _read(file, start, min(end - start, CHUNK_BYTES), "image")
            digest.update(part)
            start += len(part)
    return digest.digest()


def _hashed_ranges(layout: Layout) -> Iterator[tuple[int, int]]:
    yield 0, layout.checksum_at
    if layout.certificates_entry:
        yield layout.checksum_at + 4, layout.certificates_entry
        yield layout.certificates_entry + 8, layout.headers_bytes
    else:
        yield layout.checksum_at + 4, layout.headers_bytes
    hashed_bytes = end = layout.headers_bytes
    for section in sorted(layout.sections, key=lambda section: section.at):
        if section.size_bytes:
            if section.at < end:
                raise MalformedImage("bad_sections", f"section {section.name!r} overlaps what stands before it")
            end = section.at + section.size_bytes
            yield section.at, end
            hashed_bytes += section.size_bytes
    # By the count of bytes, not by the end of the last section: so say the specification, EDK2 and pesign alike.
    yield hashed_bytes, layout.signed_end


def signature_blocks(file: BinaryIO, layout: Layout) -> Iterator[bytes]:
    """The CMS blocks of the certificate table; entries are padded to 8 bytes."""
    table = _read(file, layout.certificates_at, layout.certificates_bytes, "certificate table")
    while table:
        if len(table) < CERTIFICATE.size:
            raise MalformedImage("bad_certificate_table", f"{len(table)} bytes are left over")
        length, _, kind = CERTIFICATE.unpack_from(table)
        if not CERTIFICATE.size < length <= len(table):
            raise MalformedImage("bad_certificate_table", f"an entry of {length} bytes where {len(table)} are left")
        if kind == PKCS_SIGNED_DATA:
            yield table[CERTIFICATE.size : length]
        table = table[length + -length % 8 :]


def section_text(file: BinaryIO, layout: Layout, name: bytes) -> bytes:
    """The used bytes of the section of that name, b"" where there is none."""
    for section in layout.sections:
        if _section_name(file, layout, section) == name:
            if section.used_bytes > MAX_SECTION_TEXT_BYTES:
                raise MalformedImage("bad_sections", f"section {name.decode()} has {section.used_bytes} bytes")
            return _read(file, section.at, section.used_bytes, "section")
    return b""


def _section_name(file: BinaryIO, layout: Layout, section: Section) -> bytes:
    number = section.name[len(LONG_NAME) :]
    if not section.name.startswith(LONG_NAME) or not number.isdigit() or not layout.strings_at:
        return section.name
    at = layout.strings_at + int(number)
    if at >= layout.signed_end:
        raise MalformedImage("bad_sections", "a section name outside the file")
    return _read(file, at, min(32, layout.signed_end - at), "section name").partition(b"\0")[0]


def _read(file: BinaryIO, at: int, count: int, what: str) -> bytes:
    file.seek(at)
    found = file.read(count)
    if len(found) != count:
        raise MalformedImage("cut_short", f"the {what} ends after {len(found)} of {count} bytes")
    return found
