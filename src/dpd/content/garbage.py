# SPDX-License-Identifier: Apache-2.0
"""What lies in the library and nobody needs, and what should lie there and does not: the one look at all files.

Garbage comes from work that ended early: blobs that came for content which then did not, parts that nobody goes on with,
files that a power cut brought back. What running work counts on is none: blobs that are held, parts that are written to,
places that are noted as loose.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dpd.content.intake import Progress
from dpd.content.records import BlobRow, BlobState
from dpd.content.stock import Stock
from dpd.content.storage.root_folder import RootFolder

_BATCH = 500  # blobs that go in one transaction
_NAMED = 20  # in a report
_HASH_DIGITS = 64


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was found, and removed where `deleted`: blobs that no content needs, parts of tries that ended early, files that
    belong to no blob. `missing`, the hashes of blobs whose files are gone, is told and not mended. `examples` are the first
    of what was found."""

    deleted: bool
    garbage_blobs: int
    stale_parts: int
    orphan_files: int
    freed_bytes: int
    missing: tuple[str, ...]
    examples: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there was nothing to remove."""
        return not (self.garbage_blobs or self.stale_parts or self.orphan_files)


class Collection:
    """One look, folder by folder. Files are listed first, rows are asked behind that and under `change`: so a file without
    a row and without a note is one that no work of ours has just made. It goes while `change` is still held."""

    def __init__(self, stock: Stock, progress: Progress, *, delete: bool) -> None:
        self._stock = stock
        self._progress = progress
        self._delete = delete
        self._stale_parts = self._orphan_files = self._freed_bytes = 0
        self._missing: list[str] = []
        self._examples: list[str] = []

    def run(self) -> GcReport:
        """Raises OSError where a file cannot go."""
        garbage = self._take_garbage()
        for folder in self._stock.roots.folders():
            for number in range(256):
                self._compare(folder, f"{number:02x}")
                self._progress(number, 256)
            self._take_parts(folder)
        self._take_indexes()
        self._take_manifests()
        return GcReport(
            deleted=self._delete,
            garbage_blobs=len(garbage),
            stale_parts=self._stale_parts,
            orphan_files=self._orphan_files,
            freed_bytes=self._freed_bytes + sum(row.size_bytes for row in garbage),
            missing=tuple(self._missing),
            examples=tuple(self._examples),
        )

    def _take_garbage(self) -> list[BlobRow]:
        with self._stock.change:
            held = self._stock.held()
            garbage = [row for row in self._stock.blobs.unneeded() if row.sha256 not in held]
        for row in garbage[:_NAMED]:
            self._examples.append(f"blob {row.sha256}")
        rows = iter(garbage if self._delete else ())
        while batch := list(islice(rows, _BATCH)):  # in steps, so that others come in between
            self._stock.drop(row.sha256 for row in batch)
        return garbage

    def _compare(self, folder: RootFolder, prefix: str) -> None:
        """The blobs whose hashes begin so, with their parity."""
        files = folder.files_of(prefix)
        with self._stock.change:
            rows = self._stock.blobs.hashes_of(folder.number, prefix)
            loose = {place.sha256 for place in self._stock.blobs.loose() if place.root == folder.number}
            for path in files:
                if path.stem not in rows and path.stem not in loose:
                    self._orphan_files += self._take(path)
            gone = rows - {path.name for path in files if not path.suffix}
            self._tell_missing(sorted(sha256 for sha256 in gone if not folder.blob(sha256).exists()))

    def _tell_missing(self, hashes: list[str]) -> None:
        self._missing += hashes
        for sha256 in hashes if self._delete else ():
            self._stock.blobs.mark(sha256, BlobState.DAMAGED)

    def _take_parts(self, folder: RootFolder) -> None:
        """Parts with names of their own belong to what runs now: opening swept all others."""
        with self._stock.change:
            for part in folder.parts():
                if len(part.stem) == _HASH_DIGITS and not self._stock.is_claimed(part.stem):
                    self._stale_parts += self._take(part)

    def _take_indexes(self) -> None:
        indexes = iter(self._stock.store.chunk_indexes())
        while batch := list(islice(indexes, _BATCH)):
            with self._stock.change:
                known = self._stock.blobs.known(path.name for path in batch)
                self._orphan_files += sum(self._take(path) for path in batch if path.name not in known)

    def _take_manifests(self) -> None:
        manifests = list(self._stock.store.manifests())
        with self._stock.change:
            used = self._stock.catalogue.manifests()
            self._orphan_files += sum(self._take(path) for path in manifests if path.stem not in used)

    def _take(self, path: Path) -> int:
        """How many files that is: none where it has gone meanwhile."""
        try:
            size_bytes = path.stat().st_size
        except FileNotFoundError:
            return 0
        self._freed_bytes += size_bytes
        if len(self._examples) < _NAMED:
            self._examples.append(str(path))
        if self._delete:
            path.unlink(missing_ok=True)
        return 1
