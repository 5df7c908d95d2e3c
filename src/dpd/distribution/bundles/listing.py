# SPDX-License-Identifier: Apache-2.0
"""The first file of a bundle: what is in it, signed. Whoever trusts the key knows of every byte that follows whether it is
the right one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dpd.content.signatures import document as signed
from dpd.content.signatures.document import Fields
from dpd.errors import ContentCorrupt, ContentError

LISTING_PATH = "dpd-bundle.json"
FORMAT = "dpd-bundle/1"  # signed with the rest, so that a signature never counts for a document of another kind
MAX_LISTING_BYTES = signed.MAX_DOCUMENT_BYTES

_WHAT = "bundle"
_MAX_MOMENT = 2**40
_HASH_DIGITS = frozenset("0123456789abcdef")
_PATH_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file that follows in the archive, by its path in the repository layout."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a bundle has: package versions, and files in the order of the archive. `created_at` is whole seconds since the
    epoch."""

    created_at: int
    packages: tuple[tuple[str, int], ...]
    files: tuple[BundleFile, ...]


def encode(listing: Listing) -> bytes:
    """The canonical body, which is what gets signed. Raises ContentError where it would be too long to be read again."""
    body = signed.canonical(
        {
            "created_at": listing.created_at,
            "files": [[each.path, each.size_bytes, each.sha256] for each in listing.files],
            "format": FORMAT,
            "packages": [[package_id, version] for package_id, version in listing.packages],
        }
    )
    if len(body) > MAX_LISTING_BYTES - 1000:
        raise ContentError(
            f"bundle: {len(listing.files)} files in {len(listing.packages)} packages are more than one bundle lists; export the packages in several bundles"
        )
    return body


def sign(body: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The document, as it stands in the archive."""
    return signed.join_signature(_WHAT, body, public_key, signature)


def decode(document: bytes) -> tuple[Listing, bytes]:
    """The listing, and the key that signed it; whether that key is to be trusted is for the caller. Raises ContentCorrupt."""
    body, signer = signed.split_signature(document, None, _WHAT)
    fields = Fields(body, {"created_at", "files", "format", "packages"}, _WHAT, _WHAT)
    fields.choice("format", FORMAT)
    listing = Listing(
        created_at=fields.number("created_at", 0, _MAX_MOMENT),
        packages=tuple(_read_packages(fields.value("packages"))),
        files=tuple(_read_files(fields.value("files"))),
    )
    _refuse_twice("packages", sorted(listing.packages))
    _refuse_twice("files", sorted(each.path for each in listing.files))
    return listing, signer


def _rows(value: Any, key: str, width: int) -> Iterable[list[Any]]:
    if not isinstance(value, list):
        raise ContentCorrupt(f"bundle: {key} is {signed.shown(value)}, expected a list")
    for place, row in enumerate(value):
        if not isinstance(row, list) or len(row) != width:
            raise ContentCorrupt(f"bundle: {key}, entry {place}: expected a list of {width}")
        yield row


def _read_packages(value: Any) -> Iterable[tuple[str, int]]:
    for package_id, version in _rows(value, "packages", 2):
        if not isinstance(package_id, str) or not signed.PACKAGE_ID.fullmatch(package_id):
            raise ContentCorrupt(f"bundle: packages: {signed.shown(package_id)}, expected 1 to 64 of [A-Za-z0-9._-]")
        if not signed.is_number(version, 1, signed.MAX_SOURCE_VERSION):
            raise ContentCorrupt(f"bundle: packages: {package_id} has version {signed.shown(version)}")
        yield package_id, version


def _read_files(value: Any) -> Iterable[BundleFile]:
    for path, size_bytes, sha256 in _rows(value, "files", 3):
        if not isinstance(path, str) or not path or not _PATH_CHARACTERS.issuperset(path):
            raise ContentCorrupt(f"bundle: files: {signed.shown(path)}, expected a path of [A-Za-z0-9._-/]")
        if not signed.is_number(size_bytes, 0, signed.MAX_SIZE_BYTES):
            raise ContentCorrupt(f"bundle: files: {path[:80]} has the size {signed.shown(size_bytes)}")
        if not isinstance(sha256, str) or len(sha256) != 64 or not _HASH_DIGITS.issuperset(sha256):
            raise ContentCorrupt(f"bundle: files: {path[:80]} has the hash {signed.shown(sha256)}, expected 64 digits")
        yield BundleFile(path, size_bytes, sha256)


def _refuse_twice(key: str, ordered: Sequence[Any]) -> None:
    for one, next_one in pairwise(ordered):
        if one == next_one:
            raise ContentCorrupt(f"bundle: {key}: {signed.shown(one)} is there twice")
