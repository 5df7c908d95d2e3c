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


def blob_entry(size: int, offset: int, *, flags: int = 0, original_size: int | None = None, part: int = 1) -> bytes:
    return struct.pack("<QQQHI20s", size | flags << 56, offset, original_size or size, part, 1, bytes(20))


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
) -> bytes:
    """A WIM of one image with an integrity table (none for chunk_bytes 0); `blobs` replaces the blob table."""
    body, entries = b"", b""
    for content in resources:
        entries += blob_entry(len(content), HEADER_BYTES + len(body))
        body += content
    table = entries if blobs is None else blobs
    xml = encode_xml(image_xml(image(1))) if xml is None else xml
    table_at = HEADER_BYTES + len(body)
    xml_at = table_at + len(table)
    integrity = integrity_table(body + table, chunk_bytes) if chunk_bytes else b""
    header = struct.pack(
        "<8s4I16s2HI", b"MSWIM\0\0\0", HEADER_BYTES, 0x10D00, COMPRESSED_LZX, 32768, bytes(16), 1, 1, image_count
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
