# SPDX-License-Identifier: Apache-2.0
"""The content library of one distribution point: publish, receive, find, check, mend and remove content.

What is published or received becomes content in one transaction, behind everything that it is made of; until then the old
state holds, and opening again puts away what a crash left. Every method may be called from any thread, and blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from dpd.content.arrival import Arrival, replacement
from dpd.content.blob_part import BlobPart
from dpd.content.damage import Damage, Inspection, damage_in_words
from dpd.content.description import Description, describe, encode
from dpd.content.drain import DrainReport, drain
from dpd.content.garbage import Collection, GcReport
from dpd.content.intake import Progress
from dpd.content.kinds import ContentKind
from dpd.content.manifest import Manifest
from dpd.content.publication import Means, Order, check_tag, publish
from dpd.content.records import BlobRow, BlobState, Content, ContentQuery, FileEntry, RootState, Totals
from dpd.content.stock import Stock
from dpd.content.storage.disk import in_words
from dpd.content.storage.roots import Guest, RootStatus
from dpd.content.storage.stored_parity import ParityCode, StoredParity
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

__all__ = ["Content", "ImageSummary", "Library", "Progress"]

EVERYTHING = ContentQuery()


def _no_progress(done: int, total: int) -> None:
    """The default: nobody watches."""


class Library:
    """One library, owned by this process until `close`. Raises LibraryInUse if another process owns it."""

    def __init__(self, root: Path, *, slab_bytes: int) -> None:
        self.parity_code: ParityCode | None = None  # what publishing stores beside each image from now on
        self.makes_chunk_index = True  # whether large blobs get one from now on
        self._slab_bytes = slab_bytes
        self._stock = Stock(root)
        self._work = self._stock.occupancy.work  # a long stream, which close() ends and waits for
        self._catalogue = self._stock.catalogue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends publishing, receiving and verifying at their next piece, waits for them, gives the library back. What came of
        blobs that are being received stays for the next try. Idempotent."""
        self._stock.occupancy.close()
        self._stock.close()

    # ---- coming in

    def publish(
        self,
        source: Path,
        package_id: str,
        source_version: int | None = None,
        *,
        kind: ContentKind | None = None,
        tags: Sequence[str] = (),
        is_ours: bool = False,
        progress: Progress = _no_progress,
    ) -> Content:
        """Add a file, a folder, or a split WIM by its first part; None takes the version after the newest. The same under
        the same version changes nothing but makes its blobs anew. `is_ours`: a single file may be moved instead of copied.

        Blocks for as long as the copy takes. Raises ContentError, with nothing left behind.
        """
        return self.publish_order(Order(source, package_id, source_version, kind, tuple(tags), is_ours), progress)

    def publish_order(self, order: Order, progress: Progress) -> Content:
        """The same as one value."""
        with self._work():
            return publish(self._stock, order, self._means(), self.unless_closing(progress))

    def arrive(self, description: Description, manifest: Manifest | None = None) -> Arrival:
        """Begin to take in content from elsewhere. Raises ContentError where this version exists with other content."""
        with self._work():
            return Arrival(self._stock, self._means(), description, manifest)

    def repair_part(self, sha256: str) -> BlobPart:
        """A blob that is damaged or missing, to be received anew. Raises ContentNotFound, LibraryFull."""
        with self._work():
            return replacement(self._stock, self._means(), sha256)

    # ---- looking

    def contents(self) -> list[Content]:
        """Everything, by package, oldest version first."""
        return self._catalogue.contents()

    def page(
        self, after: tuple[str, int] | None = None, limit: int = 100, query: ContentQuery = EVERYTHING
    ) -> list[Content]:
        """What a query finds, in that order, behind one package and version."""
        return self._catalogue.page(after, limit, query)

    def versions(self) -> set[tuple[str, int]]:
        """Which versions of which packages there are, and nothing else of them."""
        return self._catalogue.versions()

    def totals(self) -> Totals:
        """Everything in numbers."""
        return self._catalogue.totals()

    def find(self, package_id: str, source_version: int | None = None) -> Content:
        """This version, or the newest. Raises ContentNotFound."""
        content = self._catalogue.find(package_id, source_version)
        if content is not None:
            return content
        newest = self._catalogue.find(package_id, None)
        if newest is None:
            raise ContentNotFound(f"package {package_id!r} is not in the library; `dpd content list` shows what is")
        raise ContentNotFound(
            f"package {package_id} has no version {source_version}; its newest is {newest.source_version}"
        )

    def files(self, content: Content, after: str = "", limit: int = -1) -> list[FileEntry]:
        """Its files by path, behind one of them, at most so many. Raises ContentNotFound where it has been removed."""
        files = self._catalogue.files(content, after, limit)
        self._check_there(content)
        return files

    def users_of(self, sha256: str) -> list[Content]:
        """The contents that a blob is part of."""
        return self._catalogue.users_of(sha256)

    # ---- giving out

    def open_blob(self, content: Content) -> int:
        """A descriptor for reading content of one file; the caller closes it. It survives removal and publishing again.
        Raises ContentError for content of several files."""
        if not content.is_one_file:
            raise ContentError(
                f"{content}: a {content.format} of {content.file_count} files, expected content of one file; ask for its files by path"
            )
        row = self._stock.blobs.blob(content.sha256)
        self._check_there(content)  # removed meanwhile? then that is the reason
        return self._open(row, str(content), content.sha256)[0]

    def file(self, content: Content, path: str) -> BlobRow:
        """The blob behind one of its paths. Raises ContentNotFound."""
        row = self._catalogue.file(content, path)
        if row is None:
            self._check_there(content)
            raise ContentNotFound(
                f"{content}: has no file {path[:200]!r}; `dpd content show --files` lists those it has"
            )
        return row

    def open_file(self, content: Content, path: str) -> tuple[int, int]:
        """Descriptor and size of one of its files. Raises ContentNotFound."""
        row = self.file(content, path)
        return self._open(row, f"{content}: {path}", row.sha256)

    def open_hash(self, sha256: str) -> tuple[int, int]:
        """Descriptor and size of a blob. Raises ContentNotFound, and ContentCorrupt where it is damaged."""
        row = self._stock.blobs.blob(sha256)
        if row is None:
            raise ContentNotFound(f"blob {sha256[:64]} is not in the library")
        return self._open(row, f"blob {sha256}", sha256)

    def open_damaged(self, sha256: str) -> tuple[int, int]:
        """The same without regard to damage, to save what is good of it."""
        row = self._stock.blobs.blob(sha256)
        if row is None:
            raise ContentNotFound(f"blob {sha256[:64]} is not in the library")
        return self._stock.open_row(row), row.size_bytes

    def open_parity(self, content: Content) -> StoredParity | None:
        """The parity kept beside the blob, closed by the caller; None where there is none. Raises ContentCorrupt where it
        cannot be used."""
        row = self._stock.blobs.blob(content.sha256)
        return None if row is None else self._stock.open_parity(row, self._slab_bytes)

    def manifest(self, content: Content) -> bytes:
        """The signed slab manifest. Raises ContentError for content of several files, which has none."""
        name = self._check_there(content)
        if not name:
            raise ContentError(
                f"{content}: a {content.format} of {content.file_count} files, which has no slab manifest"
            )
        try:
            return self._stock.store.manifest(name).read_bytes()
        except OSError as error:
            self._check_there(content)  # removed meanwhile? then that is the reason
            raise ContentCorrupt(
                f"{content}: its manifest {name} cannot be read: {error.strerror}; publish it again"
            ) from None

    def description(self, content: Content) -> bytes:
        """The signed description, with every file."""
        files, directories = self.files(content), self._catalogue.directories(content)
        return self._stock.key.sign(encode(describe(content, files, directories)), "description")

    def chunk_index(self, sha256: str) -> bytes:
        """The encoded chunk index of a blob. Raises ContentNotFound."""
        try:
            return self._stock.store.chunks(sha256).read_bytes()
        except OSError:
            raise ContentNotFound(f"blob {sha256[:64]} has no chunk index here") from None

    # ---- changing

    def set_tags(self, package_id: str, source_version: int | None, tags: Sequence[str]) -> Content:
        """Other tags for this version, or the newest. Raises ContentNotFound."""
        for tag in tags:
            check_tag(tag)
        content = self.find(package_id, source_version)
        if not self._catalogue.set_tags(content, sorted(set(tags))):
            raise ContentNotFound(f"{content} has been removed from the library")
        return self.find(package_id, content.source_version)

    def remove(self, package_id: str, source_version: int | None = None) -> Content:
        """Take out this version, or the newest. Open descriptors of its blobs stay good. Raises ContentNotFound."""
        content = self.find(package_id, source_version)
        try:
            self._stock.remove(content)
        except OSError as error:
            raise ContentError(
                f"{content}: removed, but its files are not: {in_words(error)}; the next start removes them"
            ) from error
        return content

    # ---- checking

    def verify(self, package_id: str, source_version: int | None = None, *, progress: Progress = _no_progress) -> None:
        """Read the content again and compare every blob, slab by slab where it has slabs, and its stored parity. Raises
        ContentCorrupt that names what is damaged."""
        content = self.find(package_id, source_version)
        damages = self.damage(content, progress=progress)
        if damages:
            raise ContentCorrupt(damage_in_words(self._stock, content, damages, self._slab_bytes))
        with self._work():
            self._inspection(_no_progress).check_parity(content)

    def damage(
        self, content: Content, progress: Progress = _no_progress, *, known: Container[str] = ()
    ) -> list[Damage]:
        """Read every blob of it but the known ones from the disk; what is damaged is told, and not given out until it is
        mended. What was and is whole again is given out again."""
        with self._work():
            return self._inspection(progress).damages(content, known)

    def damaged_blobs(self) -> list[BlobRow]:
        """The blobs that were found damaged, and not mended since."""
        return self._stock.blobs.damaged()

    def unservable(self, package_ids: Sequence[str]) -> set[tuple[str, int]]:
        """Package and version of those of these packages that cannot be given out whole: a blob is damaged, or in a root
        that is missing."""
        wanted, missing = set(package_ids), self._stock.roots.missing()
        found = {(package_id, version) for package_id, version in self._catalogue.damaged() if package_id in wanted}
        return found | set(self._catalogue.in_roots(missing, package_ids) if missing else ())

    # ---- roots

    def roots(self) -> list[RootStatus]:
        """The folders that hold blobs, in the order in which they are filled."""
        return self._stock.roots.status()

    def add_root(self, path: Path, reserve_bytes: int = 0) -> RootStatus:
        """Take another folder into use. Raises ContentError."""
        return self._stock.roots.add(path, reserve_bytes)

    def set_root(self, root: int, reserve_bytes: int | None = None, *, active: bool | None = None) -> RootStatus:
        """What is not given stays. Raises ContentError, ContentNotFound."""
        state = None if active is None else RootState.ACTIVE if active else RootState.DRAINING
        return self._stock.roots.change(root, reserve_bytes=reserve_bytes, state=state)

    def drain_root(self, root: int, *, progress: Progress = _no_progress) -> DrainReport:
        """Move its blobs to other roots, from now on without new ones. Raises ContentError, LibraryFull; what was moved until
        then stays moved."""
        with self._work():
            return drain(self._stock, root, self.unless_closing(progress))

    def remove_root(self, root: int) -> RootStatus:
        """A drained one is a root no more. Raises ContentError, ContentNotFound."""
        with self._stock.change:
            return self._stock.roots.remove(root)

    def gc(self, *, delete: bool = False, progress: Progress = _no_progress) -> GcReport:
        """Look for what nobody needs, and remove it where `delete`. Safe beside all other work."""
        with self._work():
            try:
                return Collection(self._stock, self.unless_closing(progress), delete=delete).run()
            except OSError as error:
                raise ContentError(f"library {self._stock.store.root}: {in_words(error)}; check the disk") from None

    # ---- identity

    def public_key(self) -> bytes:
        """The 32 bytes that receivers check manifests and control datagrams with."""
        return self._stock.key.public

    def sign_control(self, body: bytes) -> bytes:
        """The signature behind a BEAT or CONTROL of these bytes; from any thread."""
        return self._stock.key.sign_control(body)

    def sign(self, body: bytes) -> bytes:
        """The 64 bytes that sign a canonical body, which must say of which format it is."""
        return self._stock.key.sign_bytes(body)

    def next_epoch(self) -> int:
        """A number that differs from the one before, also across restarts; 16 bits, wraps."""
        return self._catalogue.next_epoch()

    # ---- work that others do on its files

    def unless_closing(self, progress: Progress) -> Progress:
        """Progress that ends the work which reports it once the library closes."""

        def report(done: int, total: int) -> None:
            if self._stock.occupancy.is_closing:
                raise ContentError(f"stopped at byte {done} of {total}: the library is closing; try again later")
            progress(done, total)

        return report

    @contextmanager
    def staging(self, size_bytes: int) -> Iterator[Path]:
        """A private folder for so many bytes that are to be published with `is_ours`, removed with all in it at the end.
        Raises LibraryFull."""
        with self._work(), Guest(self._stock.roots) as guest:
            folder = self._stock.roots.folder(guest.place(size_bytes)).new_part()
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    # ---- inside

    def _means(self) -> Means:
        return Means(self._slab_bytes, self.parity_code, self.makes_chunk_index)

    def _inspection(self, progress: Progress) -> Inspection:
        return Inspection(self._stock, self._slab_bytes, self.unless_closing(progress), self.manifest)

    def _open(self, row: BlobRow | None, what: str, sha256: str) -> tuple[int, int]:
        if row is None or row.state is BlobState.DAMAGED:
            trouble = "is not there" if row is None else "is damaged"
            raise ContentCorrupt(f"{what}: its blob {sha256} {trouble}; publish it again")
        try:
            return self._stock.roots.open_blob(sha256)[0], row.size_bytes
        except OSError as error:
            raise ContentCorrupt(
                f"{what}: its blob {sha256} cannot be opened: {error.strerror}; publish it again"
            ) from None

    def _check_there(self, content: Content) -> str:
        """The name of its manifest. Raises ContentNotFound where it has been removed meanwhile."""
        name = self._catalogue.manifest_of(content)
        if name is None:
            raise ContentNotFound(f"{content} has been removed from the library")
        return name
