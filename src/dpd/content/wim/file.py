# SPDX-License-Identifier: Apache-2.0
"""The bytes of a WIM: what a table names is read whole, or refused where it lies outside of the file."""

from __future__ import annotations

import os
import stat

from dpd.content.wim.header import HEADER_BYTES, PIPABLE_MAGIC, RESOURCE_COMPRESSED, Header, Resource, parse_header
from dpd.errors import ContentCorrupt


class WimFile:
    """An open file of known size. Raises ContentCorrupt for what is no regular file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ContentCorrupt("not a regular file")
        self.size_bytes = status.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; `offset` must lie within the file. Raises ContentCorrupt."""
        piece = os.pread(self._descriptor, length, offset)
        if len(piece) != length:
            raise ContentCorrupt(f"truncated: it ends within bytes {offset} to {offset + length - 1}")
        return piece

    def read_header(self) -> Header:
        """The header; of a pipable WIM the one at its end, since the first one has no tables."""
        header = parse_header(self.read(0, min(self.size_bytes, HEADER_BYTES)))
        if header.magic != PIPABLE_MAGIC:
            return header
        closing = self.read(self.size_bytes - HEADER_BYTES, HEADER_BYTES)
        if self.size_bytes < 2 * HEADER_BYTES or not closing.startswith(PIPABLE_MAGIC):
            raise ContentCorrupt("truncated: a pipable WIM, but its closing header is not at the end of the file")
        return parse_header(closing)

    def read_resource(self, resource: Resource, what: str, limit: int) -> bytes:
        """A table of the header, stored plain. Raises ContentCorrupt."""
        self.check_bounds(resource, what)
        if resource.flags & RESOURCE_COMPRESSED or resource.size_bytes != resource.original_size:
            raise ContentCorrupt(
                f"{what} damaged: {resource.size_bytes} bytes for {resource.original_size}, expected it uncompressed"
            )
        if resource.size_bytes > limit:
            raise ContentCorrupt(f"{what} refused: {resource.size_bytes} bytes, expected at most {limit}")
        return self.read(resource.offset, resource.size_bytes) if resource.size_bytes else b""

    def check_bounds(self, resource: Resource, what: str) -> None:
        """Raises ContentCorrupt where the resource is not within the file, or is within the header."""
        if resource.size_bytes == 0:  # absent; writers leave any offset behind
            return
        if resource.end > self.size_bytes:
            raise ContentCorrupt(
                f"truncated: {what} is at bytes {resource.offset} to {resource.end - 1}, but the file ends at byte {self.size_bytes}"
            )
        if resource.offset < HEADER_BYTES:
            raise ContentCorrupt(f"{what} damaged: at byte {resource.offset}, within the header")
