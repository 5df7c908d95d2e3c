# SPDX-License-Identifier: Apache-2.0
"""The content library of one distribution point: publish, find, verify and remove images.

Publishing goes: stream the source into incoming/ -> blob under its hash -> signed manifest -> catalogue row. The row is
the publish point. Until it is committed, the old state holds, and whatever a crash leaves is swept at the next open.
Removing goes the other way: first the row, then files that no other row needs.

Every method may be called from any thread. Streams run side by side; the short steps that add or drop files for good
run one after the other under `_change`.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from dpd.content import wim
from dpd.content.catalogue import Catalogue, Content
from dpd.content.intake import Digests, ParityPart, Progress, Source, open_source, take_in
from dpd.content.manifest import MAX_SOURCE_VERSION, PACKAGE_ID, Manifest, decode_signed, encode
from dpd.content.signing import own_key
from dpd.content.store import Store, in_words
from dpd.content.stored_parity import ParityCode, StoredParity, parity_file_bytes
from dpd.content.verification import compare_slabs
from dpd.content.wim_integrity import IntegrityVerifier
from dpd.content.wim_xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, LibraryFull

__all__ = ["Content", "ImageSummary", "Library", "Progress"]

_SPARE_BYTES = 4 << 20  # for the manifest and the catalogue, beside the blob
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def _no_progress(done: int, total: int) -> None:
    """The default: nobody watches."""


class Library:
    """One library, owned by this process until `close`. Raises LibraryInUse if another process owns it."""

    def __init__(self, root: Path, *, slab_bytes: int) -> None:
        self.parity_code: ParityCode | None = None  # what publishing stores beside each image from now on
        self._slab_bytes = slab_bytes
        self._change = threading.Lock()
        self._idle = threading.Condition()
        self._running = 0
        self._closing = False
        self._store = Store(root)
        try:
            self._catalogue = self._open_catalogue()
        except BaseException:
            self._store.close()
            raise
        try:
            self._store.sweep(*self._catalogue.used_files())
            self._key = own_key(self._store, self._catalogue.used_files()[1])
        except OSError as error:
            self.close()
            raise ContentError(f"library {root}: {in_words(error)}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends publishing and verifying at their next piece, waits for them, gives the library back. Idempotent."""
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: self._running == 0)
        self._catalogue.close()
        self._store.close()

    def publish(
        self, source: Path, package_id: str, source_version: int | None = None, *, progress: Progress = _no_progress
    ) -> Content:
        """Add an image; None takes the version after the newest. The same image under the same version changes nothing.

        Blocks for as long as the copy takes. Raises ContentError, with nothing left behind.
        """
        _check_names(package_id, source_version)
        with open_source(source) as opened, self._work(), self._disk_trouble_told(opened):
            self._refuse_other_size(opened, package_id, source_version)
            summary = _check_format(opened)
            self._refuse_if_full(opened)
            part = self._store.new_part()
            code = self.parity_code
            parity = ParityPart(self._store.new_part(), code) if code is not None else None
            try:
                digests = self._take_in(opened, part, summary, progress, parity)
                named = _describe(opened, digests, summary, package_id, source_version)
                return self._install(opened, part, parity, digests, named)
            finally:
                part.unlink(missing_ok=True)
                if parity is not None:
                    parity.part.unlink(missing_ok=True)

    def contents(self) -> list[Content]:
        """Everything, by package, oldest version first."""
        return self._catalogue.contents()

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

    def verify(self, package_id: str, source_version: int | None = None, *, progress: Progress = _no_progress) -> None:
        """Read the blob again and compare each slab, and its stored parity. Raises ContentCorrupt that names the slabs and
        their bytes."""
        content = self.find(package_id, source_version)
        with self._work():
            descriptor = self.open_blob(content)
            try:
                manifest = self._checked_manifest(content)
                compare_slabs(content, manifest, descriptor, self._unless_closing(progress))
            finally:
                os.close(descriptor)
            self._check_parity(content)

    def remove(self, package_id: str, source_version: int | None = None) -> Content:
        """Take out this version, or the newest. Open descriptors of its blob stay good. Raises ContentNotFound."""
        with self._change:
            content = self.find(package_id, source_version)
            manifest = self._catalogue.manifest_of(content)
            self._catalogue.remove(content)
            try:
                self._drop_unused(content.sha256, manifest)
            except OSError as error:
                raise ContentError(
                    f"{content}: removed, but its files are not: {in_words(error)}; the next start sweeps them"
                ) from error
            return content

    def open_blob(self, content: Content) -> int:
        """A descriptor for reading; the caller closes it. It survives removal and publishing again."""
        try:
            return os.open(self._store.blob(content.sha256), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._manifest_name(content)  # removed meanwhile? then that is the reason
            raise ContentCorrupt(
                f"{content}: its blob {content.sha256} cannot be opened: {error.strerror}; publish it again"
            ) from None

    def open_parity(self, content: Content) -> StoredParity | None:
        """The parity kept beside the blob, closed by the caller; None where there is none. Raises ContentCorrupt where it
        cannot be used."""
        try:
            descriptor = os.open(self._store.parity(content.sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ContentCorrupt(f"stored parity cannot be opened: {error.strerror}") from None
        return StoredParity(descriptor, content.sha256, content.size_bytes, self._slab_bytes)

    def manifest(self, content: Content) -> bytes:
        """The signed manifest."""
        name = self._manifest_name(content)
        try:
            return self._store.manifest(name).read_bytes()
        except OSError as error:
            self._manifest_name(content)  # removed meanwhile? then that is the reason
            raise ContentCorrupt(
                f"{content}: its manifest {name} cannot be read: {error.strerror}; publish it again"
            ) from None

    def public_key(self) -> bytes:
        """The 32 bytes that receivers check manifests and control datagrams with."""
        return self._key.public

    def sign_control(self, body: bytes) -> bytes:
        """The signature behind a BEAT or CONTROL of these bytes; from any thread."""
        return self._key.sign_control(body)

    def next_epoch(self) -> int:
        """A number that differs from the one before, also across restarts; 16 bits, wraps."""
        return self._catalogue.next_epoch()

    def _open_catalogue(self) -> Catalogue:
        """An empty catalogue would have every blob swept away, so none is made where there are blobs."""
        return Catalogue(self._store.database, may_make=next(self._store.blobs(), None) is None)

    def _refuse_other_size(self, source: Source, package_id: str, source_version: int | None) -> None:
        """The cheap half of refusing other content under a version that exists: before anything is read."""
        if source_version is None:
            return
        existing = self._catalogue.find(package_id, source_version)
        if existing is not None and existing.size_bytes != source.size_bytes:
            raise _other_content(source, existing)

    def _refuse_if_full(self, source: Source) -> None:
        if self._store.free_bytes() < self._needed_bytes(source):
            raise self._no_room(source)

    def _needed_bytes(self, source: Source) -> int:
        code = self.parity_code
        parity_bytes = 0 if code is None else parity_file_bytes(code, self._slab_bytes, source.size_bytes)
        return source.size_bytes + parity_bytes + _SPARE_BYTES

    def _no_room(self, source: Source) -> LibraryFull:
        needed = self._needed_bytes(source)
        return LibraryFull(
            f"{source.path}: needs {needed} bytes in {self._store.root}, {self._store.free_bytes()} are free; make room, for example with `dpd content remove`"
        )

    def _take_in(
        self,
        source: Source,
        part: Path,
        summary: wim.WimSummary | None,
        progress: Progress,
        parity: ParityPart | None,
    ) -> Digests:
        verifier = IntegrityVerifier(summary.integrity) if summary and summary.integrity else None
        try:
            return take_in(source, part, self._slab_bytes, verifier, self._unless_closing(progress), parity)
        except ContentCorrupt as error:
            raise ContentCorrupt(f"{source.path}: {error}; copy or capture it again") from None

    def _install(
        self, source: Source, part: Path, parity: ParityPart | None, digests: Digests, named: Content
    ) -> Content:
        """Make a part that is complete part of the library. The only place where content begins to exist."""
        with self._change:
            content = self._settle_version(source, named)
            manifest = Manifest(
                package_id=content.package_id,
                source_version=content.source_version,
                size_bytes=content.size_bytes,
                sha256=content.sha256,
                slab_bytes=self._slab_bytes,
                slab_hashes=digests.slab_hashes,
                slab_blake3=digests.slab_blake3,
            )
            body = encode(manifest)
            name = sha256(body).hexdigest()
            before = self._catalogue.manifest_of(content)
            try:
                self._store.adopt(part, content.sha256, parity.part if parity is not None else None)
                self._store.write_manifest(name, self._key.sign(body))
                self._catalogue.put(content, name)
            finally:
                self._drop_unused(content.sha256, name, before)
            return content

    def _settle_version(self, source: Source, named: Content) -> Content:
        """The content under its final version. What exists already keeps its name and time; its files are made anew."""
        if named.source_version == 0:
            newest = self._catalogue.find(named.package_id, None)
            version = newest.source_version + 1 if newest else 1
            _check_names(named.package_id, version)
            return replace(named, source_version=version)
        existing = self._catalogue.find(named.package_id, named.source_version)
        if existing is None:
            return named
        if existing.sha256 != named.sha256:
            raise _other_content(source, existing)
        return replace(existing, slab_count=named.slab_count)

    def _drop_unused(self, blob: str, *manifests: str | None) -> None:
        blobs, used = self._catalogue.used_files()
        if blob not in blobs:
            self._store.drop_blob(blob)
        for name in manifests:
            if name is not None and name not in used:
                self._store.manifest(name).unlink(missing_ok=True)

    def _manifest_name(self, content: Content) -> str:
        name = self._catalogue.manifest_of(content)
        if name is None:
            raise ContentNotFound(f"{content} has been removed from the library")
        return name

    def _checked_manifest(self, content: Content) -> Manifest:
        manifest = decode_signed(self.manifest(content), self._key.public)
        says = (manifest.package_id, manifest.source_version, manifest.size_bytes, manifest.sha256)
        if says != (content.package_id, content.source_version, content.size_bytes, content.sha256):
            raise ContentCorrupt(f"{content}: its manifest is that of other content; publish it again")
        return manifest

    def _check_parity(self, content: Content) -> None:
        try:
            parity = self.open_parity(content)
            if parity is not None:
                with closing(parity):
                    for slab in range(parity.slab_count):
                        parity.rows(slab)
        except ContentCorrupt as error:
            raise ContentCorrupt(f"{content}: the image is whole, but its {error}; publish it again") from None

    def _unless_closing(self, progress: Progress) -> Progress:
        def report(done: int, total: int) -> None:
            if self._closing:
                raise ContentError(f"stopped at byte {done} of {total}: the library is closing; try again later")
            progress(done, total)

        return report

    @contextmanager
    def _work(self) -> Iterator[None]:
        """A long stream, which close() ends and waits for."""
        with self._idle:
            if self._closing:
                raise ContentError(f"library {self._store.root}: has been closed")
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    @contextmanager
    def _disk_trouble_told(self, source: Source) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._no_room(source) from None
            raise ContentError(f"{source.path}: cannot be published: {in_words(error)}") from error


def _check_names(package_id: str, source_version: int | None) -> None:
    if not PACKAGE_ID.fullmatch(package_id):
        raise ContentError(
            f"package {package_id[:80]!r}: expected 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001"
        )
    if source_version is not None and not 1 <= source_version <= MAX_SOURCE_VERSION:
        raise ContentError(f"{package_id} version {source_version}: expected 1 to {MAX_SOURCE_VERSION}")


def _check_format(source: Source) -> wim.WimSummary | None:
    """The summary of what is, or by its name should be, a WIM; None for anything else."""
    if source.path.suffix.lower() not in wim.SUFFIXES and not wim.has_magic(os.pread(source.descriptor, 8, 0)):
        return None
    return wim.check(source.descriptor, str(source.path))


def _describe(
    source: Source, digests: Digests, summary: wim.WimSummary | None, package_id: str, source_version: int | None
) -> Content:
    """The content as its source and caller name it; version 0 where the catalogue shall choose."""
    return Content(
        package_id=package_id,
        source_version=source_version or 0,
        kind="raw" if summary is None else "wim",
        name=os.fsencode(source.path.name).decode("utf-8", "replace"),
        size_bytes=source.size_bytes,
        sha256=digests.sha256,
        slab_count=len(digests.slab_hashes),
        images=() if summary is None else summary.images,
        added_at=time.time(),
    )


def _other_content(source: Source, existing: Content) -> ContentError:
    return ContentError(
        f"{source.path}: {existing} exists with other content ({existing.size_bytes} bytes, SHA-256 {existing.sha256}); publish under a new version, or remove that one first"
    )
