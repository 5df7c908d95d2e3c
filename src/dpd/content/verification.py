# SPDX-License-Identifier: Apache-2.0
"""Is a blob still what its manifest says? Read again slab by slab; what differs is named by number and bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from dpd.content.catalogue import Content
from dpd.content.intake import Progress, fill
from dpd.content.manifest import Manifest
from dpd.errors import ContentCorrupt

_SLABS_NAMED = 5  # in a message


def compare_slabs(content: Content, manifest: Manifest, descriptor: int, progress: Progress) -> None:
    """Raises ContentCorrupt that names the damaged slabs of an open blob."""
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes != content.size_bytes:
        raise ContentCorrupt(
            f"{content}: its blob has {size_bytes} bytes, expected {content.size_bytes}; it differs from slab {min(size_bytes, content.size_bytes) // manifest.slab_bytes} on; publish it again"
        )
    hashes = _hash_slabs(descriptor, size_bytes, manifest.slab_bytes, progress)
    pairs = enumerate(zip(hashes, manifest.slab_hashes, strict=True))
    damaged = [slab for slab, (found, expected) in pairs if found != expected]
    if damaged:
        raise ContentCorrupt(f"{content}: {_slabs_in_words(damaged, manifest)}; publish it again")


def _slabs_in_words(slabs: list[int], manifest: Manifest) -> str:
    named = []
    for slab in slabs[:_SLABS_NAMED]:
        begin, end = manifest.extent(slab)
        named.append(f"slab {slab} (bytes {begin} to {end - 1})")
    more = f" and {len(slabs) - len(named)} more" if len(slabs) > len(named) else ""
    return f"{', '.join(named)}{more} of {manifest.slab_count} damaged"


def _hash_slabs(descriptor: int, size_bytes: int, slab_bytes: int, progress: Progress) -> Iterator[bytes]:
    """SHA-256 of each slab of an open blob; empty for a slab that the disk will not give back."""
    buffer = memoryview(bytearray(min(slab_bytes, size_bytes)))
    for begin in range(0, size_bytes, slab_bytes):
        try:
            length = fill(descriptor, buffer[: size_bytes - begin], begin)
            yield hashlib.sha256(buffer[:length]).digest()
        except OSError:
            yield b""
        progress(min(begin + slab_bytes, size_bytes), size_bytes)
