# SPDX-License-Identifier: Apache-2.0
"""DER (ITU-T X.690), as much as signatures and certificates need: one element after the other, lengths definite and minimal.

The signature of a boot loader is CMS with a content type of its own, for which neither `cryptography` nor the standard
library has a stable reader; certificates and keys are left to `cryptography`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from dpd.errors import MalformedImage

MAX_LENGTH_BYTES = 4  # no signature block has 4 GiB


class Tag(IntEnum):
    """Identifier octets."""

    INTEGER = 0x02
    OCTET_STRING = 0x04
    OBJECT_IDENTIFIER = 0x06
    SEQUENCE = 0x30
    SET = 0x31
    CONTEXT_0 = 0xA0


@dataclass(frozen=True, slots=True)
class Element:
    """One element: `content` is its value, `encoded` the whole with tag and length."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> list[Element]:
        """What a constructed element holds. Raises MalformedImage."""
        found, rest = [], self.content
        while rest:
            child, rest = read_element(rest)
            found.append(child)
        return found

    def expect(self, tag: Tag) -> Element:
        """Itself. Raises MalformedImage where it is something else."""
        if self.tag != tag:
            raise MalformedImage("bad_der", f"expected {tag.name}, found tag 0x{self.tag:02x}")
        return self


def read_element(encoded: bytes) -> tuple[Element, bytes]:
    """The first element and what comes after it. Raises MalformedImage."""
    if len(encoded) < 2:
        raise MalformedImage("bad_der", "an element ends early")
    if encoded[0] & 0x1F == 0x1F:
        raise MalformedImage("bad_der", "tag numbers above 30 are not expected")
    start, length = _read_length(encoded)
    if start + length > len(encoded):
        raise MalformedImage("bad_der", f"an element of {length} bytes where {len(encoded) - start} are left")
    end = start + length
    return Element(encoded[0], encoded[start:end], encoded[:end]), encoded[end:]


def _read_length(encoded: bytes) -> tuple[int, int]:
    """Where the content starts, and how long it is."""
    first = encoded[1]
    if first < 0x80:
        return 2, first
    count = first & 0x7F
    octets = encoded[2 : 2 + count]
    if not 0 < count <= MAX_LENGTH_BYTES or len(octets) != count:
        raise MalformedImage("bad_der", "an indefinite, oversized or cut length")
    length = int.from_bytes(octets, "big")
    if length < 0x80 or octets[0] == 0:
        raise MalformedImage("bad_der", "a length that is not minimal")
    return 2 + count, length
