# SPDX-License-Identifier: Apache-2.0
"""What goes into a bundle or a folder: the files of the repository layout, in an order in which they can be taken in as they
come. First who offers them, then the documents of each package, then the blobs, each once.

Documents are made when they are needed and not kept: the descriptions of a thousand trees would fill the memory.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.bundles.holdings import NOTHING, Holdings
from dpd.distribution.bundles.listing import BundleFile
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

PIECE_BYTES = 1 << 20
_CHOICE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?::([1-9][0-9]{0,9}))?")

Pieces = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of the layout, and how its bytes are had."""

    file: BundleFile
    pieces: Callable[[], Pieces]


@dataclass(frozen=True, slots=True)
class Plan:
    """Package versions and their files. `kept_back` blobs are not among them, since the receiver has them."""

    packages: tuple[tuple[str, int], ...]
    files: tuple[PlannedFile, ...]
    kept_back: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(each.file.size_bytes for each in self.files)


def choose(library: Library, names: Sequence[str]) -> list[Content]:
    """The contents that are meant: "LAB00001" is the newest version, "LAB00001:3" version 3, none at all everything. Raises
    ContentNotFound, ContentError."""
    if not names:
        return library.contents()
    chosen = {}
    for name in names:
        found = _CHOICE.fullmatch(name)
        if found is None:
            raise ContentError(
                f"{name[:80]!r}: expected a package ID such as LAB00001, or LAB00001:3 for its version 3"
            )
        content = library.find(found[1], int(found[2]) if found[2] else None)
        chosen[content.package_id, content.source_version] = content
    return list(chosen.values())


def plan(
    library: Library,
    contents: Iterable[Content],
    holdings: Holdings = NOTHING,
    check: Callable[[], None] = lambda: None,
) -> Plan:
    """What of these contents the holder of `holdings` lacks. Raises ContentNotFound for what is removed meanwhile."""
    wanted = [
        content
        for content in contents
        if (content.package_id, content.source_version, content.sha256) not in holdings.packages
    ]
    documents = [_document(repository.IDENTITY, lambda: repository.encode_identity(library.public_key()))]
    documents += _newest(wanted)
    blobs: dict[str, int] = {}
    for content in wanted:
        check()
        documents += _documents(library, content)
        blobs |= {each.sha256: each.size_bytes for each in library.files(content)}
    files = [_blob(library, digest, size) for digest, size in blobs.items() if digest not in holdings.blobs]
    indexes = [each for digest in blobs if digest not in holdings.blobs for each in _chunk_index(library, digest)]
    packages = tuple((content.package_id, content.source_version) for content in wanted)
    return Plan(packages, (*documents, *indexes, *files), len(blobs) - len(files))


def _newest(contents: Iterable[Content]) -> list[PlannedFile]:
    versions: dict[str, int] = {}
    for content in contents:
        versions[content.package_id] = max(content.source_version, versions.get(content.package_id, 0))
    return [_newest_document(package_id, version) for package_id, version in versions.items()]


def _newest_document(package_id: str, version: int) -> PlannedFile:
    return _document(repository.newest(package_id), lambda: repository.encode_newest(version))


def _documents(library: Library, content: Content) -> Iterator[PlannedFile]:
    name = content.package_id, content.source_version
    yield _document(repository.description(*name), lambda: library.description(content))
    if content.is_one_file:
        yield _document(repository.manifest(*name), lambda: library.manifest(content))


def _chunk_index(library: Library, digest: str) -> Iterator[PlannedFile]:
    """None where the blob is small, or its index is not here: whoever has none does without."""
    try:
        yield _document(repository.chunks(digest), lambda: library.chunk_index(digest))
    except ContentNotFound:
        return


def _document(path: str, make: Callable[[], bytes]) -> PlannedFile:
    document = make()
    file = BundleFile(path, len(document), hashlib.sha256(document).hexdigest())

    def pieces() -> Pieces:
        again = make()
        if hashlib.sha256(again).hexdigest() != file.sha256:
            raise ContentError(f"{path}: changed while it was exported; export it again")
        yield again

    return PlannedFile(file, pieces)


def _blob(library: Library, digest: str, size_bytes: int) -> PlannedFile:
    return PlannedFile(
        BundleFile(repository.blob(digest), size_bytes, digest), lambda: _read_blob(library, digest, size_bytes)
    )


def _read_blob(library: Library, digest: str, size_bytes: int) -> Pieces:
    """The bytes, compared on the way: nothing damaged leaves without a word."""
    descriptor, _ = library.open_hash(digest)
    whole, left = hashlib.sha256(), size_bytes
    try:
        while left and (piece := os.read(descriptor, min(PIECE_BYTES, left))):
            whole.update(piece)
            left -= len(piece)
            yield piece
    except OSError as error:
        raise ContentCorrupt(f"blob {digest} cannot be read: {error.strerror}; {_NEXT_STEP}") from None
    finally:
        os.close(descriptor)
    if left or whole.hexdigest() != digest:
        raise ContentCorrupt(f"blob {digest} is damaged here; {_NEXT_STEP}")


_NEXT_STEP = "`dpd content validate --all` finds what it belongs to and repairs it, then export again"
