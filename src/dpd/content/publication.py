# SPDX-License-Identifier: Apache-2.0
"""Publishing: a file, a folder or the parts of a split WIM become a content of the library.

The source is read once: copied into incoming/, hashed and checked in the same pass. Then the copies are on the disk, and
what remains are the short steps of `Stock.install`, of which the last is one transaction.
"""

from __future__ import annotations

import errno
import os
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dpd.content.description import TAG, hash_of_files, path_trouble
from dpd.content.folder import FolderFile, scan
from dpd.content.folder_intake import FolderIntake, take_all
from dpd.content.image_lookup import likely_wim
from dpd.content.intake import Digests, ParityPart, Progress, Source, open_source, take_in
from dpd.content.kinds import ContentFormat, ContentKind, guess_kind
from dpd.content.manifest import MAX_SOURCE_VERSION, PACKAGE_ID, Manifest, encode
from dpd.content.records import Content, FileEntry
from dpd.content.stock import Ready, Recipe, Stock
from dpd.content.storage.disk import NO_ROOM, in_words
from dpd.content.storage.roots import Guest
from dpd.content.storage.stored_parity import ParityCode, parity_file_bytes
from dpd.content.wim import reader as wim
from dpd.content.wim.integrity import IntegrityVerifier
from dpd.content.wim.split import find_parts
from dpd.content.wim.tags import image_tags
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

_SPARE_BYTES = 4 << 20  # for the manifest and the catalogue, beside the blob


@dataclass(frozen=True, slots=True)
class Order:
    """What the caller wants published, and as what. None: the version after the newest, the kind that is likely.
    `is_ours`: the file may be moved into the library, and is gone afterwards in any case."""

    source: Path
    package_id: str
    source_version: int | None = None
    kind: ContentKind | None = None
    tags: tuple[str, ...] = ()
    is_ours: bool = False

    def check(self) -> None:
        """Raises ContentError."""
        check_names(self.package_id, self.source_version)
        for tag in self.tags:
            check_tag(tag)


@dataclass(frozen=True, slots=True)
class Means:
    """How blobs are made: slabs and the parity beside them are for contents of one file."""

    slab_bytes: int
    parity_code: ParityCode | None
    chunks: bool


class Named(Protocol):
    """A content, or what describes one that is to come."""

    @property
    def package_id(self) -> str: ...
    @property
    def source_version(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def manifest_body(
    named: Named, slab_bytes: int, slab_hashes: tuple[bytes, ...], slab_blake3: tuple[bytes, ...]
) -> bytes:
    """The canonical body of the slab manifest of one file."""
    manifest = Manifest(
        named.package_id, named.source_version, named.size_bytes, named.sha256, slab_bytes, slab_hashes, slab_blake3
    )
    return encode(manifest)


def check_names(package_id: str, source_version: int | None) -> None:
    """Raises ContentError."""
    if not PACKAGE_ID.fullmatch(package_id):
        raise ContentError(
            f"package {package_id[:80]!r}: expected 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001"
        )
    if source_version is not None and not 1 <= source_version <= MAX_SOURCE_VERSION:
        raise ContentError(f"{package_id} version {source_version}: expected 1 to {MAX_SOURCE_VERSION}")


def check_tag(tag: str) -> None:
    """Raises ContentError."""
    if not TAG.fullmatch(tag):
        raise ContentError(
            f'tag {tag[:80]!r}: expected a word of A-Z a-z 0-9 . _ - or "key=value", such as language=de-DE'
        )


def publish(stock: Stock, order: Order, means: Means, progress: Progress) -> Content:
    """Blocks for as long as the copy takes. Raises ContentError, with nothing left behind."""
    order.check()
    with _disk_trouble_told(order.source):
        if order.source.is_dir():
            return _publish_folder(stock, order, means, progress)
        with open_source(order.source) as opened:
            summary = check_format(opened)
            if summary is not None and summary.total_parts > 1:
                return _publish_split(stock, order, means, progress)
            return _FilePublication(stock, order, means, opened, summary).run(progress)


# ---- one file


class _FilePublication:
    """A file that becomes one blob, with slabs."""

    def __init__(
        self, stock: Stock, order: Order, means: Means, source: Source, summary: wim.WimSummary | None
    ) -> None:
        self._stock, self._order, self._means = stock, order, means
        self._source, self._summary = source, summary

    def run(self, progress: Progress) -> Content:
        self._refuse_other_size()
        with Guest(self._stock.roots) as guest:
            return self._run(*self._part(guest), progress)

    def _run(self, root: int, part: Path, progress: Progress) -> Content:
        code = self._means.parity_code
        parity = ParityPart(self._stock.roots.folder(root).new_part(), code) if code is not None else None
        try:
            digests = self._take_in(part, parity, progress)
            ready = Ready(
                part,
                digests.sha256,
                self._source.size_bytes,
                root,
                parity=parity.part if parity is not None else None,
                chunk_index=digests.chunk_index,
            )
            return self._install(ready, digests)
        finally:
            part.unlink(missing_ok=True)
            if parity is not None:
                parity.part.unlink(missing_ok=True)

    def _refuse_other_size(self) -> None:
        """The cheap half of refusing other content under a version that exists: before anything is read."""
        order = self._order
        if order.source_version is None:
            return
        existing = self._stock.catalogue.find(order.package_id, order.source_version)
        if existing is not None and existing.size_bytes != self._source.size_bytes:
            raise other_content(str(order.source), existing)

    def _part(self, guest: Guest) -> tuple[int, Path]:
        """The root, and the copy to be made there; a file of ours is that copy where it can be moved there."""
        code, size_bytes = self._means.parity_code, self._source.size_bytes
        beside = _SPARE_BYTES
        beside += 0 if code is None else parity_file_bytes(code, self._means.slab_bytes, size_bytes)
        device = os.fstat(self._source.descriptor).st_dev
        root = self._stock.roots.of_device(device, beside) if self._order.is_ours else None
        if root is not None and guest.enter(root):
            part = self._stock.roots.folder(root).new_part()
            try:
                os.rename(self._source.path, part)
                part.chmod(0o640)
                return root, part
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise  # but two mounts of one disk, say
        root = guest.place(size_bytes + beside)
        return root, self._stock.roots.folder(root).new_part()

    def _take_in(self, part: Path, parity: ParityPart | None, progress: Progress) -> Digests:
        verifier = IntegrityVerifier(self._summary.integrity) if self._summary and self._summary.integrity else None
        is_there = part.exists()
        try:
            return take_in(
                self._source,
                None if is_there else part,
                self._means.slab_bytes,
                verifier,
                progress,
                parity,
                chunks=self._means.chunks,
            )
        except ContentCorrupt as error:
            raise ContentCorrupt(f"{self._source.path}: {error}; copy or capture it again") from None

    def _install(self, ready: Ready, digests: Digests) -> Content:
        images = () if self._summary is None else self._summary.images
        named = _name(
            self._order,
            ContentFormat.RAW if self._summary is None else ContentFormat.WIM,
            sha256=ready.sha256,
            files=[FileEntry(content_name(self._order.source), ready.size_bytes, ready.sha256)],
            images=images,
            slab_count=len(digests.slab_hashes),
        )

        def manifest(content: Content) -> bytes:
            return manifest_body(content, self._means.slab_bytes, digests.slab_hashes, digests.slab_blake3)

        settle = _settling(self._stock, self._order, named)
        files = [FileEntry(named.name, ready.size_bytes, ready.sha256)]
        return self._stock.install(Recipe(settle, files, manifest=manifest), [ready])


# ---- several files


def _publish_folder(stock: Stock, order: Order, means: Means, progress: Progress) -> Content:
    folder = scan(order.source)
    images = _images_of(folder.files)
    with _intake(stock, folder.size_bytes, means, progress) as intake:
        take_all(intake, folder.files)
        named = _name(
            order,
            ContentFormat.TREE,
            sha256=hash_of_files(intake.files, folder.directories),
            files=intake.files,
            images=images,
        )
        settle = _settling(stock, order, named)
        content = stock.install(Recipe(settle, intake.files, folder.directories), intake.ready)
        intake.adopted()
        return content


def _publish_split(stock: Stock, order: Order, means: Means, progress: Progress) -> Content:
    parts = find_parts(order.source)
    with _intake(stock, parts.size_bytes, means, progress) as intake:
        for path in parts.parts:
            _take_part(intake, path)
        intake.sync()  # a part may be small
        files = sorted(intake.files, key=lambda each: each.path)
        named = _name(order, ContentFormat.SPLIT_WIM, sha256=hash_of_files(files, ()), files=files, images=parts.images)
        return stock.install(Recipe(_settling(stock, order, named), files), intake.ready)


def _take_part(intake: FolderIntake, path: Path) -> None:
    integrity = wim.check(path).integrity
    verifier = IntegrityVerifier(integrity) if integrity is not None else None
    try:
        intake.take(FolderFile(content_name(path), path, path.stat().st_size), verifier)
    except ContentCorrupt as error:
        raise ContentCorrupt(f"{path}: {error}; copy or split it again") from None


@contextmanager
def _intake(stock: Stock, total_bytes: int, means: Means, progress: Progress) -> Iterator[FolderIntake]:
    intake = FolderIntake(stock, total_bytes, progress, chunks=means.chunks)
    try:
        yield intake
    finally:
        intake.close()


def _images_of(files: Sequence[FolderFile]) -> tuple[ImageSummary, ...]:
    """Those of the WIM that the images of a folder are likely to be in."""
    by_path = {each.path: each for each in files}
    found = likely_wim(list(by_path))
    if not found:
        return ()
    with open_source(Path(by_path[found].source), may_be_empty=True, below=by_path[found].below) as opened:
        return wim.check(opened.descriptor, str(opened.path)).images


# ---- of all


def _name(
    order: Order,
    content_format: ContentFormat,
    *,
    sha256: str,
    files: Sequence[FileEntry],
    images: tuple[ImageSummary, ...],
    slab_count: int = 0,
) -> Content:
    """The content as its source and caller name it; version 0 where the catalogue shall choose."""
    return Content(
        package_id=order.package_id,
        source_version=order.source_version or 0,
        kind=order.kind or guess_kind(content_format),
        format=content_format,
        name=content_name(order.source),
        size_bytes=sum(each.size_bytes for each in files),
        sha256=sha256,
        slab_count=slab_count,
        file_count=len(files),
        images=images,
        tags=tuple(sorted({*order.tags, *image_tags(images)})),
        added_at=time.time(),
    )


def content_name(source: Path) -> str:
    """The file's own name as texts may have it."""
    name = os.fsencode(Path(os.path.abspath(source)).name or "root").decode("utf-8", "replace")
    plain = "".join("\ufffd" if ord(each) < 32 or ord(each) == 127 else each for each in name)
    plain = unicodedata.normalize("NFC", plain)
    return "content" if path_trouble(plain) else plain


def _settling(stock: Stock, order: Order, named: Content) -> Callable[[], Content]:
    """Gives content its final version. What exists already keeps its name and time; its files are made anew."""

    def settle() -> Content:
        if named.source_version == 0:
            newest = stock.catalogue.find(named.package_id, None)
            version = newest.source_version + 1 if newest else 1
            check_names(named.package_id, version)
            return replace(named, source_version=version)
        existing = stock.catalogue.find(named.package_id, named.source_version)
        if existing is None:
            return named
        if existing.sha256 != named.sha256:
            raise other_content(str(order.source), existing)
        kind, tags = order.kind or existing.kind, tuple(sorted({*existing.tags, *named.tags}))
        return replace(existing, slab_count=named.slab_count, images=named.images, kind=kind, tags=tags)

    return settle


def other_content(source: str, existing: Content) -> ContentError:
    """The refusal of other content under a version that exists."""
    return ContentError(
        f"{source}: {existing} exists with other content ({existing.size_bytes} bytes, SHA-256 {existing.sha256}); publish under a new version, or remove that one first"
    )


def check_format(source: Source) -> wim.WimSummary | None:
    """The summary of what is, or by its name should be, a WIM; None for anything else."""
    if Path(source.path).suffix.lower() not in wim.SUFFIXES and not wim.has_magic(os.pread(source.descriptor, 8, 0)):
        return None
    return wim.check(source.descriptor, str(source.path))


@contextmanager
def _disk_trouble_told(source: Path) -> Iterator[None]:
    try:
        yield
    except LibraryFull as error:
        raise LibraryFull(f"{source}: {error}") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise LibraryFull(
                f"{source}: the disk became full while it was published; make room, for example with `dpd content remove`"
            ) from None
        raise ContentError(f"{source}: cannot be published: {in_words(error)}") from error
