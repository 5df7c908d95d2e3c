# SPDX-License-Identifier: Apache-2.0
"""The Windows Imaging Format, as much as a distribution point needs: what is in a file, and is the file whole.

Layout (all little-endian): a header of 208 bytes; the resources (file contents and metadata, compressed); the blob
table, one entry of 50 bytes per resource; the XML data; optionally the integrity table. A pipable WIM, made by wimlib to
be applied from a pipe, starts with an empty header and has the real one as its last 208 bytes. A solid WIM (.esd) packs
many blobs into one resource. A split WIM (.swm) is one part of several, each a file of this layout.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dpd.content.wim.blobs import BlobSummary, check_blobs
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES, PIPABLE_MAGIC, Header, has_magic
from dpd.content.wim.integrity import MAX_TABLE_BYTES, IntegrityTable, read_table
from dpd.content.wim.xml import MAX_XML_BYTES, ImageSummary, read_images
from dpd.errors import ContentCorrupt, ContentError

__all__ = ["SUFFIXES", "WimSummary", "check", "has_magic"]

SUFFIXES = frozenset({".wim", ".swm", ".esd"})


@dataclass(frozen=True, slots=True)
class WimSummary:
    """What a sound WIM holds. `guid` is the same in all parts of a split WIM; `chunk_bytes` is 0 where nothing is
    compressed; `integrity` is for an IntegrityVerifier, None where the file has no such table."""

    size_bytes: int
    compression: str
    chunk_bytes: int
    pipable: bool
    guid: bytes
    part_number: int
    total_parts: int
    boot_index: int
    images: tuple[ImageSummary, ...]
    blobs: BlobSummary
    integrity: IntegrityTable | None

    @property
    def solid(self) -> bool:
        return bool(self.blobs.solid_resources)


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


def _check_named(descriptor: int, name: str) -> WimSummary:
    try:
        return _check(WimFile(descriptor))
    except ContentCorrupt as error:
        raise ContentCorrupt(f"{name}: {error}") from None
    except OSError as error:
        raise ContentError(f"{name}: cannot be read: {error.strerror}") from None


def _check(file: WimFile) -> WimSummary:
    header = file.read_header()
    file.check_bounds(header.boot_metadata, "boot metadata")
    file.check_bounds(header.integrity_table, "integrity table")
    images = _read_images(file, header)
    blobs = check_blobs(file, header)
    return WimSummary(
        size_bytes=file.size_bytes,
        compression=header.compression,
        chunk_bytes=header.chunk_bytes if header.compression != "none" else 0,
        pipable=header.magic == PIPABLE_MAGIC,
        guid=header.guid,
        part_number=header.part_number,
        total_parts=header.total_parts,
        boot_index=header.boot_index,
        images=images,
        blobs=blobs,
        integrity=_read_integrity(file, header),
    )


def _read_images(file: WimFile, header: Header) -> tuple[ImageSummary, ...]:
    if header.xml_data.size_bytes == 0:
        raise ContentCorrupt("header damaged: no XML data, so it was never finished")
    images = read_images(file.read_resource(header.xml_data, "XML data", MAX_XML_BYTES))
    if len(images) != header.image_count:
        raise ContentCorrupt(f"XML data damaged: {len(images)} images, but the header counts {header.image_count}")
    if header.boot_index > header.image_count:
        raise ContentCorrupt(f"header damaged: boot index {header.boot_index} of {header.image_count} images")
    return images


def _read_integrity(file: WimFile, header: Header) -> IntegrityTable | None:
    resource = header.integrity_table
    if resource.size_bytes == 0:
        return None
    table = file.read_resource(resource, "integrity table", MAX_TABLE_BYTES)
    return read_table(table, HEADER_BYTES, max(header.blob_table.end, HEADER_BYTES))
