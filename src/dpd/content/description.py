# SPDX-License-Identifier: Apache-2.0
"""The description of one published version: what it is called and for, and its files by path, size and SHA-256; signed.

A description says nothing of times and modes, so that equal trees are equal content. The SHA-256 of a content of several
files is that of its list: canonical JSON of the files and the empty folders. Where another distribution point or a bundle
says what to store, this is all that is believed, so decoding is strict: every field, every path, and the totals agree.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.records import Content, FileEntry
from dpd.content.signatures.document import (
    HASH_BYTES,
    MAX_SIZE_BYTES,
    MAX_SOURCE_VERSION,
    Fields,
    canonical,
    is_number,
    parse,
    shown,
    split_signature,
)
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt

FORMAT = "dpd-content/1"  # signed with the rest, so that a signature never counts for a document of another kind
MAX_PATH_BYTES = 4000
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(=[^\x00-\x1f\x7f=]{1,200})?")

_WHAT = "description"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEYS = {"format", "package_id", "source_version", "kind", "content_format", "name", "size_bytes", "sha256"}
_KEYS |= {"images", "tags", "files", "directories"}


@dataclass(frozen=True, slots=True)
class Description:
    """What makes a content, but for the moment at which it was added. `files` and `directories`, the empty ones, are in the
    order of their paths."""

    package_id: str
    source_version: int
    kind: ContentKind
    content_format: ContentFormat
    name: str
    size_bytes: int
    sha256: str
    images: tuple[ImageSummary, ...]
    tags: tuple[str, ...]
    files: tuple[FileEntry, ...]
    directories: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.package_id} version {self.source_version}"

    @property
    def is_one_file(self) -> bool:
        """Whether there is a slab manifest of it."""
        return self.content_format in (ContentFormat.WIM, ContentFormat.RAW)


def describe(content: Content, files: Sequence[FileEntry], directories: Sequence[str]) -> Description:
    """Of content in the library."""
    return Description(
        package_id=content.package_id,
        source_version=content.source_version,
        kind=content.kind,
        content_format=content.format,
        name=content.name,
        size_bytes=content.size_bytes,
        sha256=content.sha256,
        images=content.images,
        tags=content.tags,
        files=tuple(files),
        directories=tuple(directories),
    )


def hash_of_files(files: Iterable[FileEntry], directories: Iterable[str]) -> str:
    """The SHA-256 of a content of several files. Both are in the order of their paths."""
    return hashlib.sha256(canonical({"directories": list(directories), "files": _rows(files)})).hexdigest()


def path_trouble(path: str) -> str:
    """What is wrong with a path within a content; "" where nothing is."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is no UTF-8"
    if size > MAX_PATH_BYTES:
        return f"has {size} bytes, expected at most {MAX_PATH_BYTES}"
    if _CONTROL.search(path):
        return "has a control character in it"
    if not path.isascii() and not unicodedata.is_normalized("NFC", path):
        return "is not in Unicode's normal form C"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return 'is not relative, with no empty part, no "." and no ".." in it'
    return ""


def encode(description: Description) -> bytes:
    """The canonical body, which is what gets signed."""
    return canonical(
        {
            "format": FORMAT,
            "package_id": description.package_id,
            "source_version": description.source_version,
            "kind": description.kind,
            "content_format": description.content_format,
            "name": description.name,
            "size_bytes": description.size_bytes,
            "sha256": description.sha256,
            "images": [image.to_row() for image in description.images],
            "tags": list(description.tags),
            "files": _rows(description.files),
            "directories": list(description.directories),
        }
    )


def _rows(files: Iterable[FileEntry]) -> list[list[Any]]:
    return [[each.path, each.size_bytes, each.sha256] for each in files]


def decode(body: bytes) -> Description:
    """The description in a canonical body. Raises ContentCorrupt."""
    return _read(parse(body, _WHAT))


def decode_signed(document: bytes, public_key: bytes | None) -> Description:
    """The description in a signed document. Raises ContentCorrupt.

    With a public key, that key must have signed it. With None any key may have: that shows damage, not forgery.
    """
    return _read(split_signature(document, public_key, _WHAT)[0])


def signer(document: bytes) -> bytes:
    """The key that did sign a document. Raises ContentCorrupt."""
    return split_signature(document, None, _WHAT)[1]


def _read(value: Any) -> Description:
    told = Fields(value, _KEYS, _WHAT, _WHAT)
    told.choice("format", FORMAT)
    description = Description(
        package_id=told.package_id("package_id"),
        source_version=told.number("source_version", 1, MAX_SOURCE_VERSION),
        kind=ContentKind(_one_of(told, "kind", list(ContentKind))),
        content_format=ContentFormat(_one_of(told, "content_format", list(ContentFormat))),
        name=_read_name(told),
        size_bytes=told.number("size_bytes", 0, MAX_SIZE_BYTES),
        sha256=told.hex("sha256", HASH_BYTES).hex(),
        images=tuple(map(_read_image, _list(told, "images"))),
        tags=tuple(map(_read_tag, _list(told, "tags"))),
        files=tuple(map(_read_file, _list(told, "files"))),
        directories=tuple(map(_read_path, _list(told, "directories"))),
    )
    _check_order([each.path for each in description.files], description.directories)
    _check_totals(description)
    return description


def _one_of(told: Fields, key: str, choices: list[str]) -> str:
    value = told.text(key)
    if value not in choices:
        raise told.refuse(key, f"one of {', '.join(choices)}; is dpd up to date here?")
    return value


def _list(told: Fields, key: str) -> list[Any]:
    value = told.value(key)
    if not isinstance(value, list):
        raise told.refuse(key, "a list")
    return value


def _read_name(told: Fields) -> str:
    name = told.text("name")
    if path_trouble(name) or "/" in name:
        raise told.refuse("name", "a plain file name")
    return name


def _read_image(row: Any) -> ImageSummary:
    if not isinstance(row, list):
        raise ContentCorrupt(f"{_WHAT}: an image is {shown(row)}, expected a list")
    try:
        image = ImageSummary.from_row(row)
    except (TypeError, ValueError):
        raise ContentCorrupt(f"{_WHAT}: an image of {len(row)} values, expected those of an image") from None
    for each in fields(ImageSummary):
        value, example = getattr(image, each.name), _EXAMPLES[each.name]
        expected = (int, float) if isinstance(example, float) else type(example)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ContentCorrupt(
                f"{_WHAT}: {each.name} of an image is {shown(value)}, expected {type(example).__name__}"
            )
        if isinstance(value, tuple) and not all(isinstance(part, str) for part in value):
            raise ContentCorrupt(f"{_WHAT}: {each.name} of an image is no list of texts")
    return image


_EXAMPLES = {each.name: each.default for each in fields(ImageSummary) if each.default is not MISSING}
_EXAMPLES |= {"index": 1, "name": "", "architecture": "", "size_bytes": 0}


def _read_tag(tag: Any) -> str:
    if not isinstance(tag, str) or not TAG.fullmatch(tag):
        raise ContentCorrupt(f'{_WHAT}: a tag is {shown(tag)}, expected a word or "key=value"')
    return tag


def _read_file(row: Any) -> FileEntry:
    if not isinstance(row, list) or len(row) != 3:
        raise ContentCorrupt(f"{_WHAT}: a file is {shown(row)}, expected path, size and SHA-256")
    path, size_bytes, sha256 = row
    if not is_number(size_bytes, 0, MAX_SIZE_BYTES) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ContentCorrupt(f"{_WHAT}: size or SHA-256 of the file {shown(path)} is none")
    return FileEntry(_read_path(path), size_bytes, sha256)


def _read_path(path: Any) -> str:
    trouble = path_trouble(path) if isinstance(path, str) else "is no text"
    if trouble:
        raise ContentCorrupt(f"{_WHAT}: the path {shown(path)} {trouble}")
    return str(path)


def _check_order(files: Sequence[str], directories: Sequence[str]) -> None:
    for paths in (files, directories):
        for before, path in pairwise(paths):
            if before >= path:
                raise ContentCorrupt(
                    f"{_WHAT}: the path {shown(path)} comes behind {shown(before)}, expected each once, in order"
                )
    folders: set[str] = set()
    for path in (*files, *directories):
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    for path in files:
        if path in folders:
            raise ContentCorrupt(f"{_WHAT}: {shown(path)} is a file and a folder")
    for path in directories:
        if path in folders:
            raise ContentCorrupt(f"{_WHAT}: the folder {shown(path)} is not empty")
    if not set(files).isdisjoint(directories):
        raise ContentCorrupt(f"{_WHAT}: a path is a file and a folder")


def _check_totals(description: Description) -> None:
    files = description.files
    if not files or (description.is_one_file and (len(files) != 1 or description.directories)):
        raise ContentCorrupt(f"{_WHAT}: {len(files)} files, expected one, or more for a tree")
    if sum(each.size_bytes for each in files) != description.size_bytes:
        raise ContentCorrupt(f"{_WHAT}: size_bytes is {description.size_bytes}, expected the sum of its files")
    if len({each.sha256 for each in files}) != len({(each.sha256, each.size_bytes) for each in files}):
        raise ContentCorrupt(f"{_WHAT}: files of one SHA-256 have different sizes")
    if description.is_one_file and not description.size_bytes:
        raise ContentCorrupt(f"{_WHAT}: size_bytes is 0, expected at least 1 for a {description.content_format}")
    if description.is_one_file:
        expected = files[0].sha256
    else:
        expected = hash_of_files(files, description.directories)
    if description.sha256 != expected:
        raise ContentCorrupt(f"{_WHAT}: sha256 is {description.sha256}, expected {expected} of its files")
