# SPDX-License-Identifier: Apache-2.0
"""Signed JSON: a canonical body, the key that signed it, the signature. Reading is strict: every field is there, of its
type and in its range, and there is no other. This module also runs on the machine being deployed: standard library alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import Any

from dpd.content.signatures import ed25519
from dpd.content.signatures.signature import verify
from dpd.errors import ContentCorrupt

HASH_BYTES = 32
MAX_DOCUMENT_BYTES = (
    64 << 20
)  # 4 TB at slabs of 5.5 MiB, whose two hashes need 86 bytes; 500,000 files of a description
MAX_SOURCE_VERSION = 2**31 - 1
MAX_SIZE_BYTES = 2**63 - 1  # what a file can have
PACKAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def parse(document: bytes, what: str) -> Any:
    """Raises ContentCorrupt that begins with `what`."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ContentCorrupt(f"{what}: {len(document)} bytes, expected at most {MAX_DOCUMENT_BYTES}")
    try:
        return json.loads(document.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ContentCorrupt(f"{what}: not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields


def join_signature(what: str, body: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The signed document of a canonical body."""
    return b'{"%s":%s,"public_key":"%s","signature":"%s"}' % (
        what.encode("ascii"),
        body,
        public_key.hex().encode("ascii"),
        signature.hex().encode("ascii"),
    )


def split_signature(document: bytes, public_key: bytes | None, what: str) -> tuple[Any, bytes]:
    """The body of a signed document, and who signed it. Raises ContentCorrupt.

    With a public key, that key must have signed it. With None any key may have: that shows damage, not forgery.
    """
    fields = Fields(parse(document, what), {what, "public_key", "signature"}, f"signed {what}", what)
    signer = fields.hex("public_key", ed25519.PUBLIC_KEY_BYTES)
    signature = fields.hex("signature", ed25519.SIGNATURE_BYTES)
    if public_key is not None and signer != public_key:
        raise ContentCorrupt(
            f"{what}: signed by the key {signer.hex()}, expected {public_key.hex()}; is this the right distribution point?"
        )
    body = fields.value(what)
    if not verify(signer, canonical(body), signature):
        raise ContentCorrupt(f"{what}: its signature does not fit its content; fetch it again")
    return body, signer


class Fields:
    """The fields of an object that has exactly these keys. Every method raises ContentCorrupt that begins with `what`."""

    def __init__(self, value: Any, keys: Set[str], name: str, what: str) -> None:
        """`name` is the object's within the document."""
        if not isinstance(value, dict):
            raise ContentCorrupt(f"{name}: {type(value).__name__}, expected an object")
        if value.keys() != keys:
            wrong = ", ".join(sorted(repr(key[:40]) for key in value.keys() ^ keys))
            raise ContentCorrupt(f"{name}: missing or unknown keys {wrong}; expected {', '.join(sorted(keys))}")
        self._value, self._what = value, what

    def value(self, key: str) -> Any:
        """As it is."""
        return self._value[key]

    def refuse(self, key: str, expected: str) -> ContentCorrupt:
        """The error to raise."""
        return ContentCorrupt(f"{self._what}: {key} is {shown(self._value[key])}, expected {expected}")

    def number(self, key: str, low: int, high: int) -> int:
        """A whole one within bounds."""
        value = self._value[key]
        if not is_number(value, low, high):
            raise self.refuse(key, f"a whole number from {low} to {high}")
        return int(value)

    def text(self, key: str) -> str:
        """Any text."""
        value = self._value[key]
        if not isinstance(value, str):
            raise self.refuse(key, "a text")
        return value

    def choice(self, key: str, expected: str) -> str:
        """The one text that this dpd knows."""
        if self.text(key) != expected:
            raise self.refuse(key, f"{expected!r}; is dpd up to date here?")
        return expected

    def package_id(self, key: str) -> str:
        """The ID of a package."""
        value = self.text(key)
        if not PACKAGE_ID.fullmatch(value):
            raise self.refuse(key, "1 to 64 of [A-Za-z0-9._-]")
        return value

    def hex(self, key: str, size: int) -> bytes:
        """That many bytes."""
        value = self.text(key)
        if not re.fullmatch(r"[0-9a-f]*", value) or len(value) != 2 * size:
            raise self.refuse(key, f"{2 * size} lower-case hexadecimal digits")
        return bytes.fromhex(value)


def is_number(value: Any, low: int, high: int) -> bool:
    """Whether it is a whole number within bounds; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def shown(value: Any) -> str:
    """A value as a message may show it."""
    text = repr(value) if isinstance(value, str) else f"{value}" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
