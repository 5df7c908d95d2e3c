# SPDX-License-Identifier: Apache-2.0
"""Files of a folder on their way in: each is read once, hashed, and kept where the library lacks it.

A file of less than a piece is read whole and hashed before anything is written, so that one which is there already costs
no write; larger ones stream, and their copy goes again where it was not needed. Small copies are not synced one by one:
the caller syncs the file system once, behind the last of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from dpd.content.folder import FolderFile
from dpd.content.intake import Check, Progress, Source, fill, open_source, take_in
from dpd.content.records import FileEntry
from dpd.content.stock import Ready, Stock
from dpd.content.storage.roots import Guest
from dpd.errors import ContentError

SMALL_BYTES = 1 << 20


class FolderIntake:
    """The files of one content. What it has found to be here is held until `close`."""

    def __init__(self, stock: Stock, total_bytes: int, progress: Progress, *, chunks: bool) -> None:
        self.files: list[FileEntry] = []
        self.ready: list[Ready] = []
        self._stock = stock
        self._total_bytes, self._done_bytes = total_bytes, 0
        self._progress = progress
        self._chunks = chunks
        self._held: set[str] = set()
        self._guest = Guest(stock.roots)
        self._unsynced: set[int] = set()

    def take(self, file: FolderFile, check: Check | None = None) -> None:
        """Raises ContentError, LibraryFull, OSError."""
        with open_source(file.source, may_be_empty=True, below=file.below) as source:
            if source.size_bytes <= SMALL_BYTES and check is None:
                digest = self._take_small(source)
            else:
                digest = self._take_large(source, check)
            self.files.append(FileEntry(file.path, source.size_bytes, digest))
            self._done_bytes += source.size_bytes
        self._progress(self._done_bytes, max(self._total_bytes, self._done_bytes))

    def sync(self) -> None:
        """All that is ready is on the disk."""
        for root in self._unsynced:
            self._stock.roots.folder(root).sync()
        self._unsynced.clear()

    def close(self) -> None:
        """Let go of what is held, and of parts that were not adopted. Idempotent."""
        held, self._held = self._held, set()
        with ExitStack() as stack:  # each of these, whatever becomes of the others
            stack.callback(self._guest.close)
            stack.callback(self._stock.release, held)
            for each in self.ready:
                stack.callback(each.discard)

    def _take_small(self, source: Source) -> str:
        content = memoryview(bytearray(source.size_bytes))
        if fill(source.descriptor, content, 0) < len(content):
            raise ContentError(
                f"{source.path}: became shorter while it was read; publish again when its writer is done"
            )
        source.check_unchanged()
        digest = sha256(content).hexdigest()
        if not self._is_here(digest):
            root = self._guest.place(len(content))
            part = self._stock.roots.folder(root).new_part()
            self.ready.append(Ready(part, digest, len(content), root))
            _write(part, content)
            self._unsynced.add(root)
        return digest

    def _take_large(self, source: Source, check: Check | None) -> str:
        root = self._guest.place(source.size_bytes)
        part = self._stock.roots.folder(root).new_part()
        try:
            digests = take_in(source, part, None, check, self._within(source), chunks=self._chunks)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        ready = Ready(part, digests.sha256, source.size_bytes, root, chunk_index=digests.chunk_index)
        if self._is_here(digests.sha256):
            ready.discard()
        else:
            self.ready.append(ready)
        return digests.sha256

    def _within(self, source: Source) -> Progress:
        return lambda done, total: self._progress(
            self._done_bytes + done, max(self._total_bytes, self._done_bytes + total)
        )

    def _is_here(self, digest: str) -> bool:
        """Whether nothing has to be kept of these bytes: the library has them, or an earlier file of the same folder."""
        if digest in self._held:
            return True
        row = self._stock.hold([digest]).get(digest)
        self._held.add(digest)
        return row is not None and self._stock.is_usable(row)


def _write(part: Path, content: memoryview) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
    finally:
        os.close(descriptor)


def take_all(intake: FolderIntake, files: Sequence[FolderFile]) -> None:
    """All of them, on the disk when this returns."""
    for file in files:
        intake.take(file)
    intake.sync()
