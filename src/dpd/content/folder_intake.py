# SPDX-License-Identifier: Apache-2.0
"""Files of a folder on their way in: each is read once, hashed, and kept where the library lacks it.

A file of less than a piece is read whole and hashed before anything is written, so that one which is there already costs
no write; some at a time, since of thousands the questions to the library take as long as the files. Larger ones stream, and
their copy goes again where it was not needed. Small copies are not synced one by one: the caller syncs the file system
once, behind the last of them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from dpd.content.below import FilesBelow
from dpd.content.folder import FolderFile
from dpd.content.intake import Check, Progress, Source, fill, opened, source_of, take_in
from dpd.content.records import FileEntry
from dpd.content.stock import Ready, Stock
from dpd.content.storage.roots import Guest
from dpd.errors import ContentError

SMALL_BYTES = 1 << 20
BATCH_FILES, BATCH_BYTES = 500, 8 << 20  # read and not written yet


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
        self._small: dict[str, memoryview] = {}  # by their hashes, read and not asked for yet
        self._small_bytes = 0
        self._files_below: FilesBelow | None = None
        self._unsynced: set[int] = set()

    def take(self, file: FolderFile, check: Check | None = None) -> None:
        """Raises ContentError, LibraryFull, OSError."""
        descriptor = opened(file.source, lambda: self._open(file))
        try:
            source = source_of(descriptor, file.source)
            if source.size_bytes <= SMALL_BYTES and check is None:
                digest = self._take_small(source)
            else:
                digest = self._take_large(source, check)
        finally:
            os.close(descriptor)
        self.files.append(FileEntry(file.path, source.size_bytes, digest))
        self._done_bytes += source.size_bytes
        self._progress(self._done_bytes, max(self._total_bytes, self._done_bytes))

    def sync(self) -> None:
        """All that is ready is on the disk."""
        self._keep_small()
        self._close_folder()
        for root in self._unsynced:
            self._stock.roots.folder(root).sync()
        self._unsynced.clear()

    def adopted(self) -> None:
        """What was ready is the library's."""
        self.ready = []

    def close(self) -> None:
        """Let go of what is held, and of parts that were not adopted. Idempotent."""
        self._close_folder()
        held, self._held, ready, self.ready, failed = self._held, set(), self.ready, [], None
        for each in ready:
            try:
                each.discard()
            except OSError as error:  # the next open sweeps it
                failed = error
        self._stock.release(held)
        self._guest.close()
        if failed is not None:
            raise failed

    def _open(self, file: FolderFile) -> int:
        if file.below is None:
            return os.open(file.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if self._files_below is None or self._files_below.folder != file.below:
            self._close_folder()
            self._files_below = FilesBelow(file.below)
        return self._files_below.open(file.path)

    def _close_folder(self) -> None:
        if self._files_below is not None:
            self._files_below.close()
        self._files_below = None

    def _take_small(self, source: Source) -> str:
        content = memoryview(bytearray(source.size_bytes))
        if fill(source.descriptor, content, 0) < len(content):
            raise ContentError(
                f"{source.path}: became shorter while it was read; publish again when its writer is done"
            )
        source.check_unchanged()
        digest = sha256(content).hexdigest()
        if digest not in self._held and digest not in self._small:
            self._small[digest] = content
            self._small_bytes += len(content)
            if len(self._small) >= BATCH_FILES or self._small_bytes >= BATCH_BYTES:
                self._keep_small()
        return digest

    def _keep_small(self) -> None:
        """Those that the library lacks, as parts."""
        small, self._small, self._small_bytes = self._small, {}, 0
        here = self._hold(small)
        lacking = {digest: content for digest, content in small.items() if digest not in here}
        if not lacking:
            return
        root = self._guest.place(sum(map(len, lacking.values())))
        folder = self._stock.roots.folder(root)
        self._unsynced.add(root)
        for digest, content in lacking.items():
            part = folder.new_part()
            self.ready.append(Ready(part, digest, len(content), root))
            _write(part, content)

    def _take_large(self, source: Source, check: Check | None) -> str:
        root = self._guest.place(source.size_bytes)
        part = self._stock.roots.folder(root).new_part()
        try:
            digests = take_in(source, part, None, check, self._within(source), chunks=self._chunks)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        ready = Ready(part, digests.sha256, source.size_bytes, root, chunk_index=digests.chunk_index)
        if digests.sha256 in self._held or self._hold([digests.sha256]):
            ready.discard()
        else:
            self.ready.append(ready)
        return digests.sha256

    def _within(self, source: Source) -> Progress:
        return lambda done, total: self._progress(
            self._done_bytes + done, max(self._total_bytes, self._done_bytes + total)
        )

    def _hold(self, hashes: Collection[str]) -> set[str]:
        """Those of these blobs of which nothing has to be kept, for the library has them."""
        rows = self._stock.hold(hashes)
        self._held.update(hashes)
        return {digest for digest, row in rows.items() if self._stock.is_usable(row)}


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
