# SPDX-License-Identifier: Apache-2.0
"""Content that comes from elsewhere, as its description says: the blobs that are missing here are received, and with the
last of them it becomes content in one transaction, with a manifest and a description signed by our key.

Blobs stay when a try ends early: large ones as soon as they are whole, small ones in batches, so that a tree of thousands
of files costs neither an fsync nor a transaction for each. The next try finds them, unless gc took them meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dpd.content.blob_part import SMALL_BYTES, BlobPart, PartPlace, Shape, Wanted
from dpd.content.description import Description
from dpd.content.intake import Digesting, Digests, fill
from dpd.content.manifest import Manifest, decode_signed
from dpd.content.publication import Means, manifest_body, other_content
from dpd.content.records import BlobRow, Content, FileEntry
from dpd.content.stock import Ready, Recipe, Stock
from dpd.content.storage.disk import disk_trouble_told
from dpd.content.storage.roots import Guest
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

BATCH_BLOBS, BATCH_BYTES, BATCH_S = 1000, 64 << 20, 2.0  # what a kill in between may cost of small blobs


def take_part(stock: Stock, wanted: Wanted) -> PartPlace:
    """Where a blob is to come: what an earlier try left of it, if nobody else goes on with that now. Raises LibraryFull."""
    with ExitStack() as stack:
        guest = stack.enter_context(Guest(stock.roots))
        is_kept = stock.claim(wanted.sha256)
        if is_kept:
            stack.callback(stock.disclaim, wanted.sha256)
            root, part = _kept_part(stock, wanted, guest)
        else:
            root = guest.place(wanted.size_bytes)
            part = stock.roots.folder(root).new_part()
        parity = stock.roots.folder(root).new_part()
        return PartPlace(root, part, parity, stack.pop_all().close, is_kept, stock.occupancy)


def _kept_part(stock: Stock, wanted: Wanted, guest: Guest) -> tuple[int, Path]:
    for folder in stock.roots.folders():
        part = folder.kept_part(wanted.sha256)
        if part.exists() and guest.enter(folder.number):
            stock.roots.place(max(0, wanted.size_bytes - part.stat().st_size))  # or LibraryFull, before anything comes
            return folder.number, part
    root = guest.place(wanted.size_bytes)
    return root, stock.roots.folder(root).kept_part(wanted.sha256)


class Arrival:
    """One content on its way in. `receive` may be called from several threads; `finish` and `abandon` end it."""

    def __init__(self, stock: Stock, means: Means, description: Description, manifest: Manifest | None) -> None:
        """Raises ContentError where this version exists with other content, ContentCorrupt for a manifest of something
        else."""
        self._stock, self._means, self._description = stock, means, description
        self._manifest = _fitting(manifest, description, means.slab_bytes)
        self._refuse_other_content()
        self._lock = threading.Lock()
        self._pending: list[Ready] = []
        self._pending_since = 0.0
        self._digests: Digests | None = None
        self._wanted = {each.sha256: Wanted(each.sha256, each.size_bytes) for each in description.files}
        self._is_over = False
        self._guest = Guest(stock.roots)
        here = stock.hold(self._wanted)
        try:
            self._refuse_other_sizes(here)
        except BaseException:
            stock.release(self._wanted)
            raise
        self._here = {sha256 for sha256, row in here.items() if stock.is_usable(row)}

    @property
    def missing(self) -> list[Wanted]:
        """The blobs that have to come, in the order of the files."""
        with self._lock:
            return [wanted for sha256, wanted in self._wanted.items() if sha256 not in self._here]

    def receive(self, sha256: str) -> BlobPart:
        """Begin with one of them, or go on with it. Raises ContentError, LibraryFull."""
        wanted = self._wanted[sha256]
        return BlobPart(wanted, self._shape(), take_part(self._stock, wanted), self._keep)

    def finish(self) -> Content:
        """All blobs are here: from now on the content exists. Raises ContentError."""
        with self._stock.occupancy.work():
            return self._finish()

    def _finish(self) -> Content:
        missing = self.missing
        if missing:
            raise ContentError(f"{self._description}: {len(missing)} of its blobs have not come; ask for them again")
        try:
            self._flush()
            files, directories = self._description.files, self._description.directories
            manifest = self._manifest_body() if self._description.is_one_file else None
            with disk_trouble_told(str(self._description)):
                return self._stock.install(
                    Recipe(self._settle, files, directories, None if manifest is None else lambda content: manifest), []
                )
        finally:
            self.abandon()

    def abandon(self) -> None:
        """It comes no further now. What came stays for the next try. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        with self._stock.occupancy.work_if_open() as is_open, self._guest:
            if not is_open:
                return  # the next open puts away what waited
            try:
                self._flush()
            finally:
                self._stock.release(self._wanted)

    def _shape(self) -> Shape:
        if not self._description.is_one_file:
            return Shape(None, chunks=self._means.chunks, in_batches=True)
        means = self._means
        return Shape(means.slab_bytes, self._manifest, means.parity_code, means.chunks, in_batches=True)

    def _keep(self, ready: Ready, digests: Digests) -> None:
        """A blob is whole. A large one is on the disk already."""
        with disk_trouble_told(str(self._description)):
            if ready.size_bytes > SMALL_BYTES:
                self._stock.adopt([ready])
            else:
                ready = self._set_aside(ready)
        with self._lock:
            self._here.add(ready.sha256)
            if self._description.is_one_file:
                self._digests = digests
            if ready.size_bytes <= SMALL_BYTES:
                self._pending_since = self._pending_since if self._pending else time.monotonic()
                self._pending.append(ready)
            is_due = self._is_due()
        if is_due:
            self._flush()

    def _set_aside(self, ready: Ready) -> Ready:
        """Whole, but not the library's yet: no other arrival shall go on with it, and gc not find it."""
        with self._lock:
            self._guest.stay(ready.root)
        part = self._stock.roots.folder(ready.root).new_part()
        os.rename(ready.part, part)
        return replace(ready, part=part)

    def _is_due(self) -> bool:
        """Whether the small blobs that wait are many, large or old enough to share one wait for the disk."""
        waiting = self._pending
        if len(waiting) >= BATCH_BLOBS or sum(each.size_bytes for each in waiting) >= BATCH_BYTES:
            return True
        return bool(waiting) and time.monotonic() - self._pending_since > BATCH_S

    def _flush(self) -> None:
        """Whatever has come is on the disk and in the library."""
        with self._lock:
            ready, self._pending = self._pending, []
        try:
            with disk_trouble_told(str(self._description)):
                for root in {each.root for each in ready}:
                    self._stock.roots.folder(root).sync()
                self._stock.adopt(ready)
        except BaseException:
            with self._lock:
                self._here.difference_update(each.sha256 for each in ready)
            for each in ready:
                each.discard()
            raise

    def _refuse_other_content(self) -> None:
        existing = self._stock.catalogue.find(self._description.package_id, self._description.source_version)
        if existing is not None and existing.sha256 != self._description.sha256:
            raise other_content("what is offered", existing)

    def _refuse_other_sizes(self, here: Mapping[str, BlobRow]) -> None:
        """What is here already has its hash and its size, so a description that says another size is wrong in that."""
        for sha256, row in here.items():
            told = self._wanted[sha256].size_bytes
            if told != row.size_bytes:
                raise ContentCorrupt(
                    f"{self._description}: says that blob {sha256} has {told} bytes, and it has {row.size_bytes}; ask another source"
                )

    def _settle(self) -> Content:
        told = self._description
        slabs = -(-told.size_bytes // self._means.slab_bytes) if told.is_one_file else 0
        existing = self._stock.catalogue.find(told.package_id, told.source_version)
        if existing is None:
            return _content(told, slabs)
        if existing.sha256 != told.sha256:
            raise other_content("what has come", existing)
        return replace(existing, slab_count=slabs, kind=told.kind, images=told.images, tags=told.tags)

    def _manifest_body(self) -> bytes:
        """Of hashes that we have made ourselves."""
        hashes = self._slab_hashes(self._description.files[0])
        return manifest_body(self._description, self._means.slab_bytes, *hashes)

    def _slab_hashes(self, entry: FileEntry) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Found as the blob came; or by whoever has it already; or, where it came before a restart, by reading it."""
        if self._digests is not None:
            return self._digests.slab_hashes, self._digests.slab_blake3
        for user in self._stock.catalogue.users_of(entry.sha256):
            manifest = own_manifest(self._stock, user)
            if manifest is not None and manifest.slab_bytes == self._means.slab_bytes:
                return manifest.slab_hashes, manifest.slab_blake3
        digests = self._read_again(entry)
        return digests.slab_hashes, digests.slab_blake3

    def _read_again(self, entry: FileEntry) -> Digests:
        row = self._stock.blobs.blob(entry.sha256)
        if row is None:
            raise ContentError(f"{self._description}: its blob {entry.sha256} has gone; ask for it again")
        digesting, slab_bytes = Digesting(self._means.slab_bytes, cuts=False), self._means.slab_bytes
        buffer = memoryview(bytearray(min(slab_bytes, entry.size_bytes)))
        descriptor = self._stock.open_row(row)
        try:
            for begin in range(0, entry.size_bytes, slab_bytes):
                piece = buffer[: fill(descriptor, buffer[: entry.size_bytes - begin], begin)]
                for lane in digesting.lanes:
                    lane.update(piece)
        finally:
            os.close(descriptor)
        digests = digesting.digests()
        if digests.sha256 != entry.sha256:
            raise ContentCorrupt(f"{self._description}: its blob {entry.sha256} is damaged; ask for it again")
        return digests


def _fitting(manifest: Manifest | None, description: Description, slab_bytes: int) -> Manifest | None:
    """The manifest, if slabs can be checked by it: one of other slabs is of no use here."""
    if manifest is None or not description.is_one_file:
        return None
    says = (manifest.package_id, manifest.source_version, manifest.size_bytes, manifest.sha256)
    if says != (description.package_id, description.source_version, description.size_bytes, description.sha256):
        raise ContentCorrupt(f"{description}: its manifest is that of other content; ask another source")
    return manifest if manifest.slab_bytes == slab_bytes else None


def _content(told: Description, slab_count: int) -> Content:
    return Content(
        package_id=told.package_id,
        source_version=told.source_version,
        kind=told.kind,
        format=told.content_format,
        name=told.name,
        size_bytes=told.size_bytes,
        sha256=told.sha256,
        slab_count=slab_count,
        file_count=len(told.files),
        images=told.images,
        tags=told.tags,
        added_at=time.time(),
    )


def own_manifest(stock: Stock, content: Content) -> Manifest | None:
    """The manifest that we signed for content of one file; None where it is damaged, or there is none."""
    name = stock.catalogue.manifest_of(content)
    if not name:
        return None
    try:
        return decode_signed(stock.store.manifest(name).read_bytes(), stock.key.public)
    except (OSError, ContentCorrupt):
        return None


def replacement(stock: Stock, means: Means, sha256: str) -> BlobPart:
    """A blob of the library, to be received anew: when it is finished, it takes the place of the one that is damaged or
    missing. Raises ContentNotFound, LibraryFull."""
    row = stock.blobs.blob(sha256)
    if row is None:
        raise ContentNotFound(f"blob {sha256[:64]} is not in the library")
    manifests = (own_manifest(stock, user) for user in stock.catalogue.users_of(sha256) if user.is_one_file)
    fitting = [each for each in manifests if each is not None and each.slab_bytes == means.slab_bytes]
    has_slabs = bool(fitting) or any(user.is_one_file for user in stock.catalogue.users_of(sha256))
    shape = Shape(None, chunks=means.chunks)
    if has_slabs:
        shape = Shape(means.slab_bytes, fitting[0] if fitting else None, means.parity_code, means.chunks)
    wanted = Wanted(sha256, row.size_bytes)
    return BlobPart(wanted, shape, take_part(stock, wanted), lambda ready, digests: _adopt(stock, ready))


def _adopt(stock: Stock, ready: Ready) -> None:
    with disk_trouble_told(f"blob {ready.sha256}"):
        stock.adopt([ready])
