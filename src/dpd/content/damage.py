# SPDX-License-Identifier: Apache-2.0
"""Are blobs still what their hashes say? Read again from the disk, slab by slab where there is a manifest; what differs is
told, marked, and not given out until it is mended."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256

from dpd.content.intake import Progress, fill
from dpd.content.manifest import Manifest, SlabCheck, decode_signed
from dpd.content.records import BlobRow, BlobState, Content, FileEntry
from dpd.content.stock import Stock
from dpd.errors import ContentCorrupt, ContentNotFound

_PIECE_BYTES = 4 << 20
_NAMED = 5  # slabs or files in a message


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what it should be. `slabs` are those that differ, None where that is not known; `reason` is
    "missing", "unreadable", "size" or "content"."""

    sha256: str
    size_bytes: int
    slabs: tuple[int, ...] | None
    reason: str


class Inspection:
    """One look at contents. `manifest_of` gives the signed manifest of content of one file."""

    def __init__(
        self, stock: Stock, slab_bytes: int, progress: Progress, manifest_of: Callable[[Content], bytes]
    ) -> None:
        self._stock = stock
        self._slab_bytes = slab_bytes
        self._progress = progress
        self._manifest_of = manifest_of
        self._done_bytes = self._total_bytes = 0

    def damages(self, content: Content, known: Container[str]) -> list[Damage]:
        """Of each of its blobs but the known ones, in the order of its files. Raises ContentError where it is removed
        meanwhile, or its manifest is damaged."""
        manifest = self.checked_manifest(content) if content.is_one_file else None
        blobs = {entry.sha256: entry for entry in self._stock.catalogue.files(content) if entry.sha256 not in known}
        self._done_bytes, self._total_bytes = 0, sum(entry.size_bytes for entry in blobs.values())
        found = (self._look(entry, manifest) for entry in blobs.values())
        return [damage for damage in found if damage is not None]

    def checked_manifest(self, content: Content) -> Manifest:
        """Raises ContentCorrupt where it is not signed by us, or of other content."""
        manifest = decode_signed(self._manifest_of(content), self._stock.key.public)
        says = (manifest.package_id, manifest.source_version, manifest.size_bytes, manifest.sha256)
        if says != (content.package_id, content.source_version, content.size_bytes, content.sha256):
            raise ContentCorrupt(f"{content}: its manifest is that of other content; publish it again")
        return manifest

    def check_parity(self, content: Content) -> None:
        """Raises ContentCorrupt."""
        row = self._stock.blobs.blob(content.sha256) if content.is_one_file else None
        try:
            parity = None if row is None else self._stock.open_parity(row, self._slab_bytes)
            if parity is not None:
                with closing(parity):
                    for slab in range(parity.slab_count):
                        parity.rows(slab)
        except ContentCorrupt as error:
            raise ContentCorrupt(f"{content}: the image is whole, but its {error}; publish it again") from None

    def _look(self, entry: FileEntry, manifest: Manifest | None) -> Damage | None:
        row = self._stock.blobs.blob(entry.sha256)
        if row is None:
            return None  # removed meanwhile
        try:
            descriptor = self._stock.open_row(row)
        except ContentNotFound:
            return None  # between the two looks
        except ContentCorrupt:
            is_there = os.path.lexists(self._stock.path_of(row))
            return self._tell(row, None, None, "unreadable" if is_there else "missing")
        try:
            return self._compare(row, descriptor, manifest)
        finally:
            os.close(descriptor)

    def _compare(self, row: BlobRow, descriptor: int, manifest: Manifest | None) -> Damage | None:
        is_right_size = os.fstat(descriptor).st_size == row.size_bytes
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # or the page cache would be checked, not the disk
        slabs: tuple[int, ...] | None = None
        reason = "" if is_right_size else "size"
        if manifest is not None:
            slabs = self.damaged_slabs(descriptor, manifest)
            reason = reason or ("content" if slabs else "")
        elif is_right_size:
            reason = self._trouble(row, descriptor)
        if reason:
            return self._tell(row, descriptor, slabs, reason)
        if row.state is not BlobState.HERE:
            self._mark(row, descriptor, BlobState.HERE)
        return None

    def _trouble(self, row: BlobRow, descriptor: int) -> str:
        try:
            return "" if self._digest(descriptor, row.size_bytes) == row.sha256 else "content"
        except OSError:
            return "unreadable"

    def damaged_slabs(self, descriptor: int, manifest: Manifest) -> tuple[int, ...]:
        """The slabs that are not what the manifest says, or that the disk will not give back."""
        check, found = SlabCheck(manifest), []
        buffer = memoryview(bytearray(min(manifest.slab_bytes, manifest.size_bytes)))
        for slab in range(manifest.slab_count):
            begin, end = manifest.extent(slab)
            try:
                length = fill(descriptor, buffer[: end - begin], begin)
                is_good = check.fits(slab, buffer[:length])
            except OSError:
                is_good = False
            if not is_good:
                found.append(slab)
            self._advance(end - begin)
        return tuple(found)

    def _digest(self, descriptor: int, size_bytes: int) -> str:
        whole, buffer = sha256(), memoryview(bytearray(min(_PIECE_BYTES, size_bytes)))
        for begin in range(0, size_bytes, _PIECE_BYTES):
            piece = buffer[: min(_PIECE_BYTES, size_bytes - begin)]
            whole.update(piece[: fill(descriptor, piece, begin)])
            self._advance(len(piece))
        return whole.hexdigest()

    def _advance(self, count: int) -> None:
        self._done_bytes += count
        self._progress(self._done_bytes, self._total_bytes)

    def _tell(self, row: BlobRow, descriptor: int | None, slabs: tuple[int, ...] | None, reason: str) -> Damage | None:
        if not self._mark(row, descriptor, BlobState.DAMAGED):
            return None  # mended or removed meanwhile: what was read is not what is there now
        return Damage(row.sha256, row.size_bytes, slabs, reason)

    def _mark(self, row: BlobRow, descriptor: int | None, state: BlobState) -> bool:
        """Whether the file that was read, or was not there, is still the blob's; only then it is marked."""
        with self._stock.change:
            if self._stock.blobs.blob(row.sha256) != row or not self._is_same(row, descriptor):
                return False
            if row.state is not state:
                self._stock.blobs.mark(row.sha256, state)
            return True

    def _is_same(self, row: BlobRow, descriptor: int | None) -> bool:
        try:
            there = self._stock.open_row(row)
        except ContentCorrupt:
            return descriptor is None
        try:
            return descriptor is not None and os.path.samestat(os.fstat(there), os.fstat(descriptor))
        finally:
            os.close(there)


def damage_in_words(stock: Stock, content: Content, damages: Iterable[Damage], slab_bytes: int) -> str:
    """What an operator needs to know of damaged content."""
    found = {damage.sha256: damage for damage in damages}
    if content.is_one_file:
        return f"{content}: {_blob_in_words(content, found[content.sha256], slab_bytes)}; publish it again"
    paths = [entry.path for entry in stock.catalogue.files(content) if entry.sha256 in found]
    return f"{content}: {_listed(paths)} of {content.file_count} files damaged; publish it again"


def _blob_in_words(content: Content, damage: Damage, slab_bytes: int) -> str:
    if damage.slabs:
        slabs = [_slab_in_words(content, slab, slab_bytes) for slab in damage.slabs]
        return f"{_listed(slabs)} of {content.slab_count} damaged"
    words = {"missing": "is missing", "size": f"has more than the expected {damage.size_bytes} bytes"}
    return f"its blob {damage.sha256} {words.get(damage.reason, 'is damaged')}"


def _slab_in_words(content: Content, slab: int, slab_bytes: int) -> str:
    end = min((slab + 1) * slab_bytes, content.size_bytes)
    return f"slab {slab} (bytes {slab * slab_bytes} to {end - 1})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
