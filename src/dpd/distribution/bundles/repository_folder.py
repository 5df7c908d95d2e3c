# SPDX-License-Identifier: Apache-2.0
"""The repository layout as files in a folder, for a web server or to be copied into a bucket.

Whoever reads there meanwhile finds the old state or the new one: each file appears whole, blobs before the documents that
name them, and the number of the newest version last.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpd.content import repository
from dpd.content.intake import Progress
from dpd.content.repository import Kind
from dpd.content.storage.disk import NO_ROOM
from dpd.distribution.bundles.plan import Plan, PlannedFile
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

_ORDER = (Kind.BLOB, Kind.CHUNKS, Kind.MANIFEST, Kind.DESCRIPTION, Kind.IDENTITY, Kind.NEWEST)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what was there already."""

    written: int
    written_bytes: int
    kept: int


class RepositoryFolder:
    """One export into one folder."""

    def __init__(self, folder: Path, progress: Progress, check: Callable[[], None]) -> None:
        self._folder = folder
        self._progress = progress
        self._check = check
        self._done = self._total = self._written = self._written_bytes = self._kept = 0

    def write(self, plan: Plan) -> Exported:
        """Everything that is not there yet. Raises ContentError, LibraryFull; what was written stays, and is not written
        again."""
        self._total = plan.size_bytes
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._refuse_if_foreign(plan)
            for each in sorted(plan.files, key=_rank):
                self._put(each)
        except OSError as error:
            kind = LibraryFull if error.errno in NO_ROOM else ContentError
            raise kind(
                f"{error.filename or self._folder}: {error.strerror}; export into a folder with room that dpd may write to"
            ) from None
        return Exported(self._written, self._written_bytes, self._kept)

    def _refuse_if_foreign(self, plan: Plan) -> None:
        """Two keys in one repository: whoever trusts the first could read only half of it."""
        path = self._folder / repository.IDENTITY
        ours = next(each for each in plan.files if each.file.path == repository.IDENTITY)
        if path.exists() and path.read_bytes() != b"".join(ours.pieces()):
            raise ContentError(
                f"{path}: the repository of another distribution point; export into a folder of its own, or empty this one"
            )

    def _put(self, planned: PlannedFile) -> None:
        path = self._folder / planned.file.path
        if self._is_there(path, planned):
            self._kept += 1
            self._advance(planned.file.size_bytes)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            self._write_part(part, planned)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        self._written += 1
        self._written_bytes += planned.file.size_bytes

    def _write_part(self, part: Path, planned: PlannedFile) -> None:
        with part.open("xb") as file:
            for piece in planned.pieces():
                self._check()
                file.write(piece)
                self._advance(len(piece))
            file.flush()
            os.fsync(file.fileno())

    def _is_there(self, path: Path, planned: PlannedFile) -> bool:
        """A blob by its name and size; a document by its bytes; a newer "newest" stays."""
        name = repository.parse(planned.file.path)
        with suppress(OSError, ContentCorrupt):
            if name is not None and name.kind is Kind.BLOB:
                return path.stat().st_size == planned.file.size_bytes
            found, wanted = path.read_bytes(), b"".join(planned.pieces())
            if name is not None and name.kind is Kind.NEWEST:
                return repository.decode_newest(found) >= repository.decode_newest(wanted)
            return found == wanted
        return False

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


def _rank(planned: PlannedFile) -> int:
    name = repository.parse(planned.file.path)
    assert name is not None  # plans hold nothing else
    return _ORDER.index(name.kind)
