# SPDX-License-Identifier: Apache-2.0
"""The manifest of a published image: its size, its hash, the hash of every slab, and the signature over all that.

A receiver trusts what the manifest says and nothing else, so decoding is strict: every field is present, of its type and
in its range, and the totals agree. This module also runs on the machine being deployed: standard library alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from dpd.content.signatures import document as signed_document
from dpd.content.signatures.document import (
    HASH_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_SIZE_BYTES,
    MAX_SOURCE_VERSION,
    PACKAGE_ID,
    Fields,
    canonical,
    parse,
    split_signature,
)
from dpd.errors import ContentCorrupt

__all__ = [
    "FEC", "FORMAT", "HASH_BYTES", "MAX_DOCUMENT_BYTES", "MAX_SOURCE_VERSION", "PACKAGE_ID",
    "Manifest", "SlabCheck", "decode", "decode_signed", "encode", "join_signature", "slab_count",
]  # fmt: skip

FORMAT = "dpd-manifest/1"  # signed with the rest, so that a signature never counts for a document of another kind
FEC = "rs-cauchy/1"
_MAX_SLAB_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a receiver needs to know that it holds the image.

    `slab_hashes` are SHA-256 and `slab_blake3` BLAKE3 of the same bytes, in the order of the slabs. One is enough:
    SHA-256 is in every standard library, BLAKE3 costs a quarter of it where the blake3 package is installed.
    """

    package_id: str
    source_version: int
    size_bytes: int
    sha256: str
    slab_bytes: int
    slab_hashes: tuple[bytes, ...]
    slab_blake3: tuple[bytes, ...]
    fec: str = FEC

    @property
    def slab_count(self) -> int:
        return len(self.slab_hashes)

    def extent(self, slab: int) -> tuple[int, int]:
        """First byte of a slab and the byte behind its last one."""
        begin = slab * self.slab_bytes
        return begin, min(begin + self.slab_bytes, self.size_bytes)


class SlabCheck:
    """Compares slabs with a manifest by the fastest hash that is installed."""

    def __init__(self, manifest: Manifest) -> None:
        self._hash, self._expected = _sha256, manifest.slab_hashes
        try:
            from blake3 import blake3
        except ImportError:
            return
        self._hash, self._expected = (lambda content: blake3(content).digest()), manifest.slab_blake3

    def fits(self, slab: int, content: bytes | memoryview) -> bool:
        """Whether these are the bytes of that slab."""
        return self._hash(content) == self._expected[slab]


def _sha256(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


def slab_count(size_bytes: int, slab_bytes: int) -> int:
    """How many slabs an image of this size has; the last one may be shorter."""
    return -(-size_bytes // slab_bytes)


def encode(manifest: Manifest) -> bytes:
    """The canonical body, which is what gets signed: JSON with sorted keys and no spaces; equal manifests, equal bytes."""
    return canonical(
        {
            "fec": manifest.fec,
            "format": FORMAT,
            "package_id": manifest.package_id,
            "sha256": manifest.sha256,
            "size_bytes": manifest.size_bytes,
            "slab_blake3": _join_hashes(manifest.slab_blake3),
            "slab_bytes": manifest.slab_bytes,
            "slab_count": manifest.slab_count,
            "slab_hashes": _join_hashes(manifest.slab_hashes),
            "source_version": manifest.source_version,
        }
    )


def _join_hashes(hashes: tuple[bytes, ...]) -> str:
    return base64.b64encode(b"".join(hashes)).decode("ascii")


def decode(body: bytes) -> Manifest:
    """The manifest in a canonical body. Raises ContentCorrupt."""
    return _read_manifest(parse(body, "manifest"))


def join_signature(body: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The signed document of a canonical body."""
    return signed_document.join_signature("manifest", body, public_key, signature)


def decode_signed(document: bytes, public_key: bytes | None) -> Manifest:
    """The manifest in a signed document. Raises ContentCorrupt.

    With a public key, that key must have signed it. With None any key may have: that shows damage, not forgery.
    """
    return _read_manifest(split_signature(document, public_key, "manifest")[0])


def _read_manifest(value: Any) -> Manifest:
    keys = {"fec", "format", "package_id", "sha256", "size_bytes"}
    keys |= {"slab_blake3", "slab_bytes", "slab_count", "slab_hashes", "source_version"}
    fields = Fields(value, keys, "manifest", "manifest")
    fields.choice("format", FORMAT)
    size_bytes = fields.number("size_bytes", 1, MAX_SIZE_BYTES)
    slab_bytes = fields.number("slab_bytes", 1, _MAX_SLAB_BYTES)
    count = fields.number("slab_count", 1, MAX_SIZE_BYTES)
    if count != slab_count(size_bytes, slab_bytes):
        raise ContentCorrupt(
            f"manifest: slab_count is {count}, expected {slab_count(size_bytes, slab_bytes)} for {size_bytes} bytes"
        )
    return Manifest(
        package_id=fields.package_id("package_id"),
        source_version=fields.number("source_version", 1, MAX_SOURCE_VERSION),
        size_bytes=size_bytes,
        sha256=fields.hex("sha256", HASH_BYTES).hex(),
        slab_bytes=slab_bytes,
        slab_hashes=_read_slab_hashes(fields, "slab_hashes", count),
        slab_blake3=_read_slab_hashes(fields, "slab_blake3", count),
        fec=fields.choice("fec", FEC),
    )


def _read_slab_hashes(fields: Fields, key: str, count: int) -> tuple[bytes, ...]:
    try:
        joined = base64.b64decode(fields.text(key), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentCorrupt(f"manifest: {key} is no base64: {error}") from None
    if len(joined) != count * HASH_BYTES:
        raise ContentCorrupt(f"manifest: {key} has {len(joined)} bytes, expected {HASH_BYTES} for each of {count}")
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))
