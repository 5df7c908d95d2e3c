# SPDX-License-Identifier: Apache-2.0
"""Where a WIM keeps what says where all else is. A program that applies an image reads this first, most of it at the file's end;
then come the contents of files in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from dpd.content.wim.blobs import leading_entries
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES, PIPABLE_MAGIC, RESOURCE_METADATA
from dpd.errors import ContentCorrupt

Extent = tuple[int, int]  # the first byte, and the one behind the last

_SOLID_HEADER_BYTES = 16


def index_extents(file: WimFile, image: int = 0) -> Iterator[Extent]:
    """Header, XML data, blob table, the headers of solid resources, and the metadata of an image, or of all. Each is told before anything
    is read that only it leads to. Nothing where the file is no WIM; what is damaged is left out."""
    if file.size_bytes < HEADER_BYTES:
        return
    yield 0, HEADER_BYTES
    if file.read(0, len(PIPABLE_MAGIC)) == PIPABLE_MAGIC:
        yield file.size_bytes - HEADER_BYTES, file.size_bytes
    try:
        header = file.read_header()
        for table in (header.xml_data, header.blob_table):
            file.check_bounds(table, "table")
            if table.size_bytes:
                yield table.offset, table.end
        metadata = 0
        for entry in leading_entries(file, header):
            if entry.is_solid_resource:
                yield entry.offset, min(entry.offset + _SOLID_HEADER_BYTES, file.size_bytes)
            elif entry.flags & RESOURCE_METADATA:
                metadata += 1  # those of the images, in their order
                if image in (0, metadata) and entry.end <= file.size_bytes:
                    yield entry.offset, entry.end
    except ContentCorrupt:
        return
