# SPDX-License-Identifier: Apache-2.0
"""Tiny WIMs by hand, so that every field can be made wrong; the real ones come from wimlib in tests/interop."""

from __future__ import annotations

import hashlib
import struct

HEADER_BYTES = 208
COMPRESSED_LZX = 0x40002
RESOURCES = (b"first resource" * 40, b"second resource" * 30)

# Where a field sits in the header: offset and struct code
FIELDS = {
    "magic": (0, "8s"),
    "header_bytes": (8, "I"),
    "version": (12, "I"),
    "flags": (16, "I"),
    "chunk_bytes": (20, "I"),
    "guid": (24, "16s"),
    "part_number": (40, "H"),
    "total_parts": (42, "H"),
    "image_count": (44, "I"),
    "blob_table_size": (48, "Q"),
    "blob_table_offset": (56, "Q"),
    "xml_size": (72, "Q"),
    "xml_offset": (80, "Q"),
    "xml_original_size": (88, "Q"),
    "boot_metadata_size": (96, "Q"),
    "boot_metadata_offset": (104, "Q"),
    "boot_index": (120, "I"),
    "integrity_size": (124, "Q"),
    "integrity_offset": (132, "Q"),
    "integrity_original_size": (140, "Q"),
}


def image_xml(*images: str) -> str:
    return "<WIM>" + "".join(images) + "</WIM>"


def image(index: int, name: str = "one", extra: str = "") -> str:
    return f'<IMAGE INDEX="{index}"><NAME>{name}</NAME><TOTALBYTES>1160</TOTALBYTES>{extra}</IMAGE>'


def encode_xml(text: str) -> bytes:
    return b"\xff\xfe" + text.encode("utf-16-le")


def resource(size: int, offset: int, flags: int = 0) -> bytes:
    return struct.pack("<QQQ", size | flags << 56, offset, size)


def blob_entry(
    size: int,
    offset: int,
    *,
    flags: int = 0,
    original_size: int | None = None,
    part: int = 1,
    sha1: bytes = bytes(20),
) -> bytes:
    original_size = size if original_size is None else original_size
    return struct.pack("<QQQHI20s", size | flags << 56, offset, original_size, part, 1, sha1)


def solid_resource(
    chunks: tuple[bytes, ...], original_size: int, *, chunk_bytes: int = 1024, compression: int = 3
) -> bytes:
    """A solid resource as it stands in the file; the chunks are what the compressor would have made."""
    sizes = b"".join(struct.pack("<I", len(chunk)) for chunk in chunks)
    return struct.pack("<QII", original_size, chunk_bytes, compression) + sizes + b"".join(chunks)


def integrity_table(covered: bytes, chunk_bytes: int) -> bytes:
    digests = [hashlib.sha1(covered[at : at + chunk_bytes]).digest() for at in range(0, len(covered), chunk_bytes)]
    return struct.pack("<3I", 12 + 20 * len(digests), len(digests), chunk_bytes) + b"".join(digests)


def make_wim(
    *,
    xml: bytes | None = None,
    image_count: int = 1,
    chunk_bytes: int = 256,
    blobs: bytes | None = None,
    resources: tuple[bytes, ...] = RESOURCES,
    guid: bytes = bytes(16),
    part: tuple[int, int] = (1, 1),
    version: int = 0x10D00,
) -> bytes:
    """A WIM of one image with an integrity table (none for chunk_bytes 0); `blobs` replaces the blob table."""
    body, entries = b"", b""
    for content in resources:
        sha1 = hashlib.sha1(content, usedforsecurity=False).digest()
        entries += blob_entry(len(content), HEADER_BYTES + len(body), part=part[0], sha1=sha1)
        body += content
    table = entries if blobs is None else blobs
    xml = encode_xml(image_xml(image(1))) if xml is None else xml
    table_at = HEADER_BYTES + len(body)
    xml_at = table_at + len(table)
    integrity = integrity_table(body + table, chunk_bytes) if chunk_bytes else b""
    header = struct.pack(
        "<8s4I16s2HI", b"MSWIM\0\0\0", HEADER_BYTES, version, COMPRESSED_LZX, 32768, guid, *part, image_count
    )
    header += resource(len(table), table_at, 2) + resource(len(xml), xml_at, 2) + resource(0, 0)
    header += struct.pack("<I", 0) + resource(len(integrity), xml_at + len(xml) if integrity else 0)
    return header.ljust(HEADER_BYTES, b"\0") + body + table + xml + integrity


def make_pipable(wim: bytes) -> bytes:
    """The same as a pipable WIM: an opening header without tables, the real one behind everything."""
    closing = b"WLPWM\0\0\0" + wim[8:HEADER_BYTES]
    opening = (b"WLPWM\0\0\0" + wim[8:48]).ljust(HEADER_BYTES, b"\0")
    return opening + wim[HEADER_BYTES:] + closing


def set_field(wim: bytes, name: str, value: int | bytes) -> bytes:
    """The WIM with another value in one field of its (first) header."""
    offset, code = FIELDS[name]
    changed = bytearray(wim)
    struct.pack_into(f"<{code}", changed, offset, value)
    return bytes(changed)
