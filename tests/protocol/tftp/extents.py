# SPDX-License-Identifier: Apache-2.0
"""The answer to ExtentNeeded out of a file that is in memory."""

from __future__ import annotations

from dpd.protocol.tftp.blocks import Extent
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.protocol.tftp.packet import HEADER_BYTES


def extent_of(content: bytes, needed: ExtentNeeded) -> tuple[Extent, int]:
    """The extent, and how many bytes of the content are in it."""
    extent = Extent(needed)
    found = content[needed.offset : needed.offset + needed.length]
    for index in range(-(-len(found) // needed.blksize)):
        payload = found[index * needed.blksize : (index + 1) * needed.blksize]
        at = index * extent.segment + HEADER_BYTES
        extent.wire[at : at + len(payload)] = payload
    return extent, len(found)
