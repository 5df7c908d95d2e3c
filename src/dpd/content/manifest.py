# SPDX-License-Identifier: Apache-2.0
"""The manifest of a published image: its size, its hash, the hash of every slab, and the signature over all that.

A receiver trusts what the manifest says and nothing else, so decoding is strict: every field is present, of its type and
in its range, and the totals agree. This module also runs on the machine being deployed: standard library alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from dpd.content import ed25519
from dpd.content.signature import verify
from dpd.errors import ContentCorrupt

FORMAT = "dpd-manifest/1"  # signed with the rest, so that a signature never counts for a document of another kind
FEC = "rs-cauchy/1"
HASH_BYTES = 32
MAX_DOCUMENT_BYTES = 64 << 20  # 7 TB at slabs of 5.5 MiB, which need 43 bytes each
MAX_SOURCE_VERSION = 2**31 - 1
PACKAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_MAX_SIZE_BYTES = 2**63 - 1  # what a file can have
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
    return _canonical(
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
    return _read_manifest(_parse(body))


def join_signature(body: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The signed document of a canonical body."""
    return b'{"manifest":%s,"public_key":"%s","signature":"%s"}' % (
        body,
        public_key.hex().encode("ascii"),
        signature.hex().encode("ascii"),
    )


def decode_signed(document: bytes, public_key: bytes | None) -> Manifest:
    """The manifest in a signed document. Raises ContentCorrupt.

    With a public key, that key must have signed it. With None any key may have: that shows damage, not forgery.
    """
    fields = _parse(document)
    _check_keys(fields, {"manifest", "public_key", "signature"}, "signed manifest")
    signer = _read_hex(fields, "public_key", ed25519.PUBLIC_KEY_BYTES)
    signature = _read_hex(fields, "signature", ed25519.SIGNATURE_BYTES)
    if public_key is not None and signer != public_key:
        raise ContentCorrupt(
            f"manifest: signed by the key {signer.hex()}, expected {public_key.hex()}; is this the right distribution point?"
        )
    manifest = _read_manifest(fields["manifest"])
    if not verify(signer, encode(manifest), signature):
        raise ContentCorrupt("manifest: its signature does not fit its content; fetch it again")
    return manifest


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _parse(document: bytes) -> Any:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ContentCorrupt(f"manifest: {len(document)} bytes, expected at most {MAX_DOCUMENT_BYTES}")
    try:
        return json.loads(document.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ContentCorrupt(f"manifest: not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields


def _read_manifest(fields: Any) -> Manifest:
    keys = {"fec", "format", "package_id", "sha256", "size_bytes"}
    _check_keys(fields, keys | {"slab_blake3", "slab_bytes", "slab_count", "slab_hashes", "source_version"}, "manifest")
    _read_choice(fields, "format", FORMAT)
    size_bytes = _read_number(fields, "size_bytes", 1, _MAX_SIZE_BYTES)
    slab_bytes = _read_number(fields, "slab_bytes", 1, _MAX_SLAB_BYTES)
    count = _read_number(fields, "slab_count", 1, _MAX_SIZE_BYTES)
    if count != slab_count(size_bytes, slab_bytes):
        raise ContentCorrupt(
            f"manifest: slab_count is {count}, expected {slab_count(size_bytes, slab_bytes)} for {size_bytes} bytes"
        )
    return Manifest(
        package_id=_read_package_id(fields),
        source_version=_read_number(fields, "source_version", 1, MAX_SOURCE_VERSION),
        size_bytes=size_bytes,
        sha256=_read_hex(fields, "sha256", HASH_BYTES).hex(),
        slab_bytes=slab_bytes,
        slab_hashes=_read_slab_hashes(fields, "slab_hashes", count),
        slab_blake3=_read_slab_hashes(fields, "slab_blake3", count),
        fec=_read_choice(fields, "fec", FEC),
    )


def _check_keys(fields: Any, keys: set[str], what: str) -> None:
    if not isinstance(fields, dict):
        raise ContentCorrupt(f"{what}: {type(fields).__name__}, expected an object")
    if fields.keys() != keys:
        wrong = ", ".join(sorted(repr(key[:40]) for key in fields.keys() ^ keys))
        raise ContentCorrupt(f"{what}: missing or unknown keys {wrong}; expected {', '.join(sorted(keys))}")


def _read_number(fields: dict[str, Any], key: str, low: int, high: int) -> int:
    value = fields[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ContentCorrupt(f"manifest: {key} is {_shown(value)}, expected a whole number from {low} to {high}")
    return value


def _read_text(fields: dict[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise ContentCorrupt(f"manifest: {key} is {_shown(value)}, expected a text")
    return value


def _read_choice(fields: dict[str, Any], key: str, expected: str) -> str:
    if _read_text(fields, key) != expected:
        raise ContentCorrupt(
            f"manifest: {key} is {_shown(fields[key])}, expected {expected!r}; is dpd up to date here?"
        )
    return expected


def _read_package_id(fields: dict[str, Any]) -> str:
    value = _read_text(fields, "package_id")
    if not PACKAGE_ID.fullmatch(value):
        raise ContentCorrupt(f"manifest: package_id is {_shown(value)}, expected 1 to 64 of [A-Za-z0-9._-]")
    return value


def _read_hex(fields: dict[str, Any], key: str, size: int) -> bytes:
    value = _read_text(fields, key)
    if not re.fullmatch(r"[0-9a-f]*", value) or len(value) != 2 * size:
        raise ContentCorrupt(f"manifest: {key} is {_shown(value)}, expected {2 * size} lower-case hexadecimal digits")
    return bytes.fromhex(value)


def _read_slab_hashes(fields: dict[str, Any], key: str, count: int) -> tuple[bytes, ...]:
    try:
        joined = base64.b64decode(_read_text(fields, key), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentCorrupt(f"manifest: {key} is no base64: {error}") from None
    if len(joined) != count * HASH_BYTES:
        raise ContentCorrupt(f"manifest: {key} has {len(joined)} bytes, expected {HASH_BYTES} for each of {count}")
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else f"{value}" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
