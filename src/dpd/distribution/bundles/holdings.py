# SPDX-License-Identifier: Apache-2.0
"""What a distribution point has, as a list that travels: so that another one can put into a bundle what is missing there.

It proves nothing and needs no signature: a list that is wrong makes a bundle too big, or one whose import says what it
still lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dpd.content.library import Library
from dpd.content.records import BlobState
from dpd.content.repository import id_of
from dpd.content.signatures.document import MAX_SOURCE_VERSION, PACKAGE_ID, Fields, canonical, is_number, parse, shown
from dpd.errors import ContentCorrupt

FORMAT = "dpd-holdings/1"

_WHAT = "list of holdings"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Holdings:
    """Package versions with the SHA-256 of each, and blobs that are whole. `id` is that of the distribution point."""

    id: str = ""
    packages: frozenset[tuple[str, int, str]] = field(default=frozenset())
    blobs: frozenset[str] = field(default=frozenset())


NOTHING = Holdings()


def holdings_of(library: Library) -> Holdings:
    """What this library has; blobs that are known to be damaged are left out."""
    contents = library.contents()
    damaged = {row.sha256 for row in library.damaged_blobs() if row.state is BlobState.DAMAGED}
    blobs = {each.sha256 for content in contents for each in library.files(content)}
    packages = frozenset((content.package_id, content.source_version, content.sha256) for content in contents)
    return Holdings(id_of(library.public_key()), packages, frozenset(blobs - damaged))


def encode(holdings: Holdings) -> bytes:
    """Canonical JSON."""
    return canonical(
        {
            "blobs": sorted(holdings.blobs),
            "format": FORMAT,
            "id": holdings.id,
            "packages": [list(each) for each in sorted(holdings.packages)],
        }
    )


def decode(document: bytes) -> Holdings:
    """Raises ContentCorrupt."""
    fields = Fields(parse(document, _WHAT), {"blobs", "format", "id", "packages"}, _WHAT, _WHAT)
    fields.choice("format", FORMAT)
    blobs = frozenset(_read_hash(each) for each in _list(fields, "blobs"))
    packages = frozenset(_read_package(each) for each in _list(fields, "packages"))
    return Holdings(fields.text("id"), packages, blobs)


def _list(fields: Fields, key: str) -> Iterable[Any]:
    value = fields.value(key)
    if not isinstance(value, list):
        raise fields.refuse(key, "a list")
    return value


def _read_hash(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ContentCorrupt(f"{_WHAT}: {shown(value)}, expected a SHA-256 in 64 hexadecimal digits")
    return value


def _read_package(row: Any) -> tuple[str, int, str]:
    match row:
        case [str(package_id), version, digest] if PACKAGE_ID.fullmatch(package_id) and is_number(
            version, 1, MAX_SOURCE_VERSION
        ):
            return package_id, version, _read_hash(digest)
    raise ContentCorrupt(f"{_WHAT}: a package is {shown(row)}, expected its ID, version and SHA-256")
