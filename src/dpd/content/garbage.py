# SPDX-License-Identifier: Apache-2.0
"""What lies in the library and nobody needs, and what should lie there and does not: the one look at all files.

Garbage comes from work that ended early: blobs that came for content which then did not, parts that nobody goes on with,
files that a power cut brought back. What running work counts on is none: blobs that are held, parts that are written to,
places that are noted as loose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dpd.content.intake import Progress
from dpd.content.records import BlobRow, BlobState
from dpd.content.root_folder import RootFolder
from dpd.content.stock import Stock

_BATCH = 500  # blobs that go in one transaction
_NAMED = 20  # in a report


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was found, and removed where `deleted`: blobs that no content needs, parts of tries that ended early, files that
    belong to no blob. `missing`, the hashes of blobs whose files are gone, is told and not mended. `examples` are paths."""

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
    """One look. Files are listed first, rows are asked behind that and under `change`: so a file without a row and without
    a note is one that no work of ours has just made."""

    def __init__(self, stock: Stock, progress: Progress) -> None:
        self._stock = stock
        self._progress = progress
        self._missing: list[str] = []
        self._garbage: list[BlobRow] = []
        self._parts: list[Path] = []
        self._orphans: list[Path] = []

    def run(self, *, delete: bool) -> GcReport:
        """Raises OSError where a file cannot go."""
        found = [(folder, list(self._blob_files(folder))) for folder in self._stock.roots.folders()]
        manifests, indexes = list(self._stock.store.manifests()), list(self._stock.store.chunk_indexes())
        with self._stock.change:
            held, used = self._stock.held(), self._stock.catalogue.manifests()
            self._garbage = [row for row in self._stock.blobs.unneeded() if row.sha256 not in held]
            for folder, files in found:
                self._compare(folder, files)
                self._parts += [part for part in folder.parts() if self._is_stale(part)]
            self._orphans += [path for path in manifests if path.stem not in used and path.exists()]
            known = self._stock.blobs.known(path.name for path in indexes)
            self._orphans += [path for path in indexes if path.name not in known and path.exists()]
            report = self._report(delete)
            if delete:
                self._drop_files()
        if delete:
            self._drop_blobs()
        return report

    def _blob_files(self, folder: RootFolder) -> Iterator[Path]:
        for number, path in enumerate((*folder.blobs(), *folder.parities())):
            if number % 1000 == 0:
                self._progress(number, 0)
            yield path

    def _compare(self, folder: RootFolder, files: Sequence[Path]) -> None:
        rows = self._rows_of(folder.number)
        loose = {place.sha256 for place in self._stock.blobs.loose() if place.root == folder.number}
        self._orphans += [path for path in files if path.stem not in rows and path.stem not in loose and path.exists()]
        gone = rows.keys() - {path.name for path in files if not path.suffix}
        self._missing += sorted(sha256 for sha256 in gone if not folder.blob(sha256).exists())

    def _rows_of(self, root: int) -> dict[str, BlobRow]:
        rows: dict[str, BlobRow] = {}
        after = ""
        while page := self._stock.blobs.of_root(root, after, 10_000):
            rows.update((row.sha256, row) for row in page)
            after = page[-1].sha256
        return rows

    def _is_stale(self, part: Path) -> bool:
        """Parts with names of their own belong to what runs now: opening swept all others."""
        return len(part.stem) == 64 and not self._stock.is_claimed(part.stem)

    def _report(self, deleted: bool) -> GcReport:
        garbage_bytes = sum(row.size_bytes for row in self._garbage)
        files = [*self._parts, *self._orphans]
        names = [str(self._stock.path_of(row)) for row in self._garbage[:_NAMED]]
        return GcReport(
            deleted=deleted,
            garbage_blobs=len(self._garbage),
            stale_parts=len(self._parts),
            orphan_files=len(self._orphans),
            freed_bytes=garbage_bytes + sum(map(_size_of, files)),
            missing=tuple(self._missing),
            examples=tuple([*names, *map(str, files)][:_NAMED]),
        )

    def _drop_files(self) -> None:
        for path in (*self._parts, *self._orphans):
            path.unlink(missing_ok=True)
        for sha256 in self._missing:
            self._stock.blobs.mark(sha256, BlobState.DAMAGED)

    def _drop_blobs(self) -> None:
        """In steps, so that others come in between; whoever has begun to count on a blob since keeps it."""
        rows = iter(self._garbage)
        while batch := list(islice(rows, _BATCH)):
            self._stock.drop(row.sha256 for row in batch)
            self._progress(0, 0)


def _size_of(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
