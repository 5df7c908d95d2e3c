# SPDX-License-Identifier: Apache-2.0
"""Is a blob still what its manifest says? Read again slab by slab; what differs is named by number and bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dpd.content.catalogue import Content
from dpd.content.intake import Progress, fill
from dpd.content.manifest import Manifest, SlabCheck
from dpd.errors import ContentCorrupt

_SLABS_NAMED = 5  # in a message


def compare_slabs(content: Content, manifest: Manifest, descriptor: int, progress: Progress) -> None:
    """Raises ContentCorrupt that names the damaged slabs of an open blob."""
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes != content.size_bytes:
        raise ContentCorrupt(
            f"{content}: its blob has {size_bytes} bytes, expected {content.size_bytes}; it differs from slab {min(size_bytes, content.size_bytes) // manifest.slab_bytes} on; publish it again"
        )
    damaged = list(_damaged_slabs(descriptor, manifest, progress))
    if damaged:
        raise ContentCorrupt(f"{content}: {_slabs_in_words(damaged, manifest)}; publish it again")


def _slabs_in_words(slabs: list[int], manifest: Manifest) -> str:
    named = []
    for slab in slabs[:_SLABS_NAMED]:
        begin, end = manifest.extent(slab)
        named.append(f"slab {slab} (bytes {begin} to {end - 1})")
    more = f" and {len(slabs) - len(named)} more" if len(slabs) > len(named) else ""
    return f"{', '.join(named)}{more} of {manifest.slab_count} damaged"


def _damaged_slabs(descriptor: int, manifest: Manifest, progress: Progress) -> Iterator[int]:
    """The slabs of an open blob that are not what the manifest says, or that the disk will not give back."""
    check, size_bytes = SlabCheck(manifest), manifest.size_bytes
    buffer = memoryview(bytearray(min(manifest.slab_bytes, size_bytes)))
    for slab in range(manifest.slab_count):
        begin, end = manifest.extent(slab)
        try:
            length = fill(descriptor, buffer[: end - begin], begin)
            is_good = check.fits(slab, buffer[:length])
        except OSError:
            is_good = False
        if not is_good:
            yield slab
        progress(end, size_bytes)
