# SPDX-License-Identifier: Apache-2.0
"""Takes a bundle into the library: nothing is believed but the key that signed its listing, and everything is compared.

The documents come first, so that before the first blob is known what is lacking. A blob that is here already is compared and
passed over; one that was cut off goes on where it was. A package becomes content when its last blob is there: of a bundle that
ends early, the packages that were complete stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field

from dpd.content import description as descriptions
from dpd.content import manifest as manifests
from dpd.content import repository
from dpd.content.arrival import Arrival
from dpd.content.description import Description
from dpd.content.intake import Progress
from dpd.content.library import Library
from dpd.content.manifest import Manifest
from dpd.content.records import Content
from dpd.content.repository import Kind, Name
from dpd.content.signatures.document import MAX_DOCUMENT_BYTES
from dpd.distribution.bundles.bundle import Opened, files_of, open_bundle
from dpd.distribution.bundles.listing import BundleFile
from dpd.distribution.bundles.tar_stream import Read
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

Check = Callable[[], None]

_COPY_BYTES = 1 << 20
_SMALL = frozenset({Kind.IDENTITY, Kind.NEWEST, Kind.DESCRIPTION, Kind.MANIFEST})


@dataclass(frozen=True, slots=True)
class Imported:
    """What a bundle brought. `known` were here before; `received_bytes` went to the disk, `present_bytes` were there."""

    contents: tuple[Content, ...]
    known: tuple[Content, ...]
    received_bytes: int
    present_bytes: int


@dataclass(slots=True, eq=False)
class _Package:
    """A package version on its way in. `lacking` are its blobs that are not here yet, `givers` the packages whose arrival has
    taken in blobs that this one has too."""

    description: Description
    manifest: Manifest | None = None
    arrival: Arrival | None = None
    lacking: set[str] = field(default_factory=set)
    givers: list[_Package] = field(default_factory=list)


class BundleImport:
    """One import into one library. `trusted` are the keys that may have signed; `check` is called at each piece."""

    def __init__(self, library: Library, trusted: Set[bytes], progress: Progress, check: Check) -> None:
        self._library = library
        self._trusted = trusted
        self._progress = progress
        self._check = check
        self._packages: dict[tuple[str, int], _Package] = {}
        self._waiting: dict[str, list[tuple[tuple[str, int], _Package]]] = {}  # by blob
        self._has_begun = False
        self._imported: list[Content] = []
        self._known: list[Content] = []
        self._received_bytes = self._present_bytes = 0

    def run(self, read: Read) -> Imported:
        """Take everything in. Raises ContentError for a key that is not trusted, ContentCorrupt for a bundle that is not as it
        was signed, and as publishing does; what is complete stays."""

        def checked(count: int) -> bytes:  # also of what is no file: the listing, and zeros behind the end
            self._check()
            return read(count)

        opened = open_bundle(checked)
        self._refuse_foreign(opened.signer)
        total = sum(each.size_bytes for each in opened.listing.files)
        done = 0
        try:
            for file, offset, pieces in files_of(opened):
                self._take(opened, _named(file, offset), file, self._told(pieces, done, total))
                done += file.size_bytes
            self._begin()
            self._refuse_incomplete()
        finally:
            for package in self._packages.values():
                if package.arrival is not None:
                    package.arrival.abandon()
        return Imported(tuple(self._imported), tuple(self._known), self._received_bytes, self._present_bytes)

    def _refuse_foreign(self, signer: bytes) -> None:
        if signer not in self._trusted:
            raise ContentError(
                f"bundle: signed by the key {signer.hex()}, which is not known here; `dpd status` on the distribution point that exported it shows its key: if it is the same, import with --key {signer.hex()}"
            )

    def _told(self, pieces: Iterator[bytes], done: int, total: int) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            done += len(piece)
            self._progress(done, total)

    def _take(self, opened: Opened, name: Name, file: BundleFile, pieces: Iterator[bytes]) -> None:
        if name.kind in _SMALL and self._has_begun:
            raise ContentCorrupt(f"bundle: {file.path} stands behind files, expected before; is dpd up to date here?")
        if name.kind in _SMALL:
            self._take_document(opened, name, _read_document(file, pieces))
            return
        self._begin()
        if name.kind is Kind.BLOB:
            self._take_blob(name.sha256, file.size_bytes, pieces)
        for _ in pieces:  # a chunk index is made anew; the rest of it is compared all the same
            pass

    # ---- documents

    def _take_document(self, opened: Opened, name: Name, document: bytes) -> None:
        package = name.package_id, name.source_version
        match name.kind:
            case Kind.IDENTITY if repository.decode_identity(document).public_key != opened.signer:
                raise ContentCorrupt("bundle: its identity is not that of the key that signed it; get it again")
            case Kind.DESCRIPTION:
                described = descriptions.decode_signed(document, opened.signer)
                _refuse_other(package, (described.package_id, described.source_version), opened)
                self._packages[package] = _Package(described)
            case Kind.MANIFEST:
                told = manifests.decode_signed(document, opened.signer)
                _refuse_other(package, (told.package_id, told.source_version), opened)
                if package in self._packages:
                    self._packages[package].manifest = told

    def _begin(self) -> None:
        """Every document has been read: see what is lacking. Raises ContentError for a package that exists with other
        content."""
        if self._has_begun:
            return
        self._has_begun = True
        for name, package in list(self._packages.items()):
            self._begin_package(name, package)

    def _begin_package(self, name: tuple[str, int], package: _Package) -> None:
        known = self._find(package.description)
        if known is not None:
            self._known.append(known)
            del self._packages[name]
            return
        package.arrival = self._library.arrive(package.description, package.manifest)
        package.lacking = {wanted.sha256 for wanted in package.arrival.missing}
        for digest in package.lacking:
            self._waiting.setdefault(digest, []).append((name, package))
        self._finish_complete(name, package)

    def _find(self, described: Description) -> Content | None:
        """The same content, where it is here and none of it is known to be damaged."""
        try:
            content = self._library.find(described.package_id, described.source_version)
        except ContentNotFound:
            return None
        if content.sha256 != described.sha256:
            raise ContentError(
                f"{content}: is here with other content (SHA-256 {content.sha256}) than in the bundle ({described.sha256}); remove it here first, or export the bundle under another version"
            )
        damaged = {row.sha256 for row in self._library.damaged_blobs()}
        return None if damaged.intersection(each.sha256 for each in described.files) else content

    # ---- blobs

    def _take_blob(self, digest: str, size_bytes: int, pieces: Iterator[bytes]) -> None:
        waiting = self._waiting.pop(digest, [])
        if not waiting:
            self._present_bytes += size_bytes
            return
        (_, taker), *sharers = waiting
        assert taker.arrival is not None  # or nothing would be lacking
        self._receive(taker.arrival, digest, pieces)
        for _, sharer in sharers:
            sharer.givers.append(taker)
        for name, package in waiting:
            package.lacking.discard(digest)
            self._finish_complete(name, package)

    def _receive(self, arrival: Arrival, digest: str, pieces: Iterator[bytes]) -> None:
        """What an earlier try left is held against the bundle and passed over."""
        received = _Receiving(arrival, digest)
        self._present_bytes += received.kept_bytes
        try:
            for piece in pieces:
                self._received_bytes += received.take(memoryview(piece))
            received.part.finish()
        finally:
            received.close()

    def _finish_complete(self, name: tuple[str, int], package: _Package) -> None:
        if package.lacking or package.arrival is None:
            return
        for giver in package.givers:
            if giver in self._packages.values():
                self._begin_again(giver)
        if package.givers:
            self._begin_again(package)
        del self._packages[name]
        self._imported.append(package.arrival.finish())

    def _begin_again(self, package: _Package) -> None:
        """An arrival puts into the library what it has taken in when it ends, and sees what is there when it begins."""
        assert package.arrival is not None
        package.arrival.abandon()
        package.arrival = self._library.arrive(package.description, package.manifest)

    def _refuse_incomplete(self) -> None:
        """A bundle of what another distribution point lacked, or one by a list that has grown old."""
        for package in self._packages.values():
            raise ContentError(
                f"{package.description}: {len(package.lacking)} of its files are neither in the bundle nor here; export a bundle by a new list (`dpd bundle holdings`), or without --since"
            )


class _Receiving:
    """One blob on its way in, and the bytes that an earlier try left of it. Those may be wrong: a bundle that was changed and
    then cut off is found out at its end alone."""

    def __init__(self, arrival: Arrival, digest: str) -> None:
        self.part = arrival.receive(digest)
        self.kept_bytes = self.part.position
        self._arrival = arrival
        self._kept = self.part.open() if self.kept_bytes else -1
        self._offset = 0

    def take(self, piece: memoryview) -> int:
        """The next bytes of the blob; how many of them had not been there. Raises ContentCorrupt, LibraryFull."""
        known = piece[: max(0, self.kept_bytes - self._offset)]
        if known and os.pread(self._kept, len(known), self._offset) != known:
            self._begin_again()
            known = piece[:0]
        fresh = piece[len(known) :]
        if fresh:
            self.part.write(fresh)
        self._offset += len(piece)
        return len(fresh)

    def _begin_again(self) -> None:
        """What has been compared so far is right; the rest of what was kept is not."""
        self.part.discard()
        self.part = self._arrival.receive(self.part.sha256)
        self.kept_bytes = 0
        for begin in range(0, self._offset, _COPY_BYTES):
            self.part.write(os.pread(self._kept, min(_COPY_BYTES, self._offset - begin), begin))

    def close(self) -> None:
        """What came stays for the next try, if it did not end here; all of it together was wrong where it was complete."""
        if self._kept >= 0:
            os.close(self._kept)
        if self.part.position == self.part.size_bytes:
            self.part.discard()
        self.part.close()


def _named(file: BundleFile, offset: int) -> Name:
    name = repository.parse(file.path)
    if name is None or (name.kind is Kind.BLOB and name.sha256 != file.sha256):
        raise ContentCorrupt(
            f"bundle: byte {offset}: {file.path[:200]} is nothing that a bundle has; is dpd up to date here?"
        )
    return name


def _read_document(file: BundleFile, pieces: Iterator[bytes]) -> bytes:
    if file.size_bytes > MAX_DOCUMENT_BYTES:
        raise ContentCorrupt(f"bundle: {file.path} has {file.size_bytes} bytes, expected at most {MAX_DOCUMENT_BYTES}")
    return b"".join(pieces)


def _refuse_other(path: tuple[str, int], told: tuple[str, int], opened: Opened) -> None:
    if path != told or path not in opened.listing.packages:
        raise ContentCorrupt(
            f"bundle: the document of {path[0]} version {path[1]} speaks of {told[0]} version {told[1]}; get it again"
        )
