# SPDX-License-Identifier: Apache-2.0
"""The site's policy as a document in a bucket: packed and cut for its publisher, put together and judged for a point."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

from dpd.bus.messages import PolicyHead
from dpd.errors import BusError

CHUNK_BYTES = 256 << 10  # a NATS message holds 1 MiB
MAX_POLICY_BYTES = 256 << 20  # of JSON; a hundred thousand computers are 20 MB
MAX_CHUNKS = 1024
SLOTS = 2


def pack_policy(site: str, version: int, model: bytes, *, at: float, slot: int) -> tuple[PolicyHead, list[bytes]]:
    """The head and its chunks; to be put in the order chunks, head."""
    packed = zlib.compress(model)
    chunks = [packed[start : start + CHUNK_BYTES] for start in range(0, len(packed), CHUNK_BYTES)]
    digest = hashlib.sha256(model).hexdigest()
    return PolicyHead(site, version, digest, len(model), len(chunks), slot % SLOTS, at), chunks


def check_head(head: PolicyHead, site: str) -> None:
    """Whether its chunks are worth fetching. Raises BusError."""
    if head.site != site:
        raise BusError(f"policy of site {head.site[:63]!r}: expected site {site}; two sites may not share a bucket")
    if not 0 < head.chunks <= MAX_CHUNKS or not 0 < head.size_bytes <= MAX_POLICY_BYTES or head.version < 1:
        raise BusError(
            f"policy version {head.version}: {head.size_bytes} bytes in {head.chunks} chunks: expected at most {MAX_POLICY_BYTES} in {MAX_CHUNKS}"
        )


def unpack_policy(head: PolicyHead, chunks: Sequence[bytes]) -> bytes:
    """The model as JSON. Raises BusError where it is not what the head says."""
    inflate = zlib.decompressobj()
    try:
        model = inflate.decompress(b"".join(chunks), head.size_bytes + 1)  # never more memory than the head admits to
    except zlib.error as error:
        raise BusError(f"policy version {head.version}: damaged: {error}") from None
    if len(model) != head.size_bytes or not inflate.eof:
        raise BusError(f"policy version {head.version}: damaged: expected {head.size_bytes} bytes, found others")
    if hashlib.sha256(model).hexdigest() != head.sha256:
        raise BusError(f"policy version {head.version}: damaged: its hash is not the head's")
    return model
