# SPDX-License-Identifier: Apache-2.0
"""Emptying a root: every blob of it is copied to another root, and its file goes once the copy is the one that counts.

Copy and hash -> on the disk -> the new place is noted -> renamed -> the row says the new root -> the old file goes. At any
point the row names a whole blob, so a kill or a power cut loses nothing, and the next drain goes on with what is left.
Small blobs go many at a time, which share the waits for the disk. Readers that have a blob open keep it.

A blob that is not what its hash says stays where it is, marked damaged: a copy of it would be no better, and repairing
needs a source.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpd.content.intake import Progress, Source, open_descriptor, take_in
from dpd.content.records import BlobRow, BlobState, Place, RootState
from dpd.content.stock import Stock
from dpd.content.storage.disk import disk_trouble_told
from dpd.content.storage.root_folder import Adopted, RootFolder
from dpd.content.storage.roots import Guest, RootCondition, Roots
from dpd.errors import ContentError, ContentNotFound, LibraryFull

_SMALL_BYTES = 1 << 20  # from here on a blob waits for the disk by itself
_BATCH_BLOBS = 256
_BATCH_BYTES = 64 << 20
_TRIES = 5  # of a blob whose file is never the one that was looked at


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did: moved away, in blobs and bytes; the damaged ones that stay, and those of which nothing is known, since
    their files could not be opened."""

    root: int
    blobs: int
    size_bytes: int
    damaged: tuple[str, ...]
    unopened: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Copy:
    """A blob and its copy, which is no blob yet."""

    row: BlobRow
    adopted: Adopted


class Drain:
    """One run over one root."""

    def __init__(self, stock: Stock, number: int, progress: Progress) -> None:
        """Raises ContentError where the root is not there, LibraryFull where its blobs have no other place."""
        self._stock, self._roots, self._table = stock, stock.roots, stock.blobs
        self._number, self._progress = number, progress
        self._old = self._roots.folder(number)
        self._done_bytes = self._blobs = 0
        self._total_bytes = self._table.bytes_of_root(number)[1]
        self._damaged: list[str] = []
        self._unopened: list[str] = []
        self._tries: Counter[str] = Counter()
        _refuse_if_too_large(self._roots, number, self._total_bytes)
        self._roots.change(number, state=RootState.DRAINING)

    def run(self) -> DrainReport:
        """Blocks until the root is empty but for what cannot be moved. Raises what `progress` raises, LibraryFull, ContentError,
        OSError; what was moved until then stays moved."""
        while batch := self._next_batch():
            self._move(batch)
        return DrainReport(self._number, self._blobs, self._done_bytes, tuple(self._damaged), tuple(self._unopened))

    def _next_batch(self) -> list[BlobRow]:
        """Some blobs that are still to be moved: one large one, or many small ones."""
        batch: list[BlobRow] = []
        batch_bytes = 0
        for row in self._remaining():
            if batch and (len(batch) == _BATCH_BLOBS or batch_bytes + row.size_bytes > _BATCH_BYTES):
                break
            batch.append(row)
            batch_bytes += row.size_bytes
        return batch

    def _remaining(self) -> Iterator[BlobRow]:
        after, known = "", frozenset((*self._damaged, *self._unopened))
        while rows := self._table.of_root(self._number, after, _BATCH_BLOBS):
            yield from (row for row in rows if row.sha256 not in known)
            after = rows[-1].sha256

    def _move(self, batch: list[BlobRow]) -> None:
        with Guest(self._roots) as guest:
            self._move_to(self._roots.folder(guest.place(sum(self._needed_bytes(row) for row in batch))), batch)

    def _move_to(self, target: RootFolder, batch: list[BlobRow]) -> None:
        copies: list[_Copy] = []
        try:
            for row in batch:
                copy = self._copy(row, target)
                if copy is not None:
                    copies.append(copy)
            if any(copy.row.size_bytes < _SMALL_BYTES for copy in copies):
                target.sync()
            with self._stock.change:
                self._switch(copies)
        finally:
            for copy in copies:
                _drop_parts(copy.adopted)

    def _needed_bytes(self, row: BlobRow) -> int:
        with suppress(OSError):
            return row.size_bytes + self._old.parity(row.sha256).stat().st_size
        return row.size_bytes

    def _copy(self, row: BlobRow, target: RootFolder) -> _Copy | None:
        """A part in the other root that is this blob; None where it is damaged, or somebody else has changed its place."""
        try:
            descriptor, now = self._roots.open_blob(row.sha256)
        except ContentNotFound:
            return None
        except FileNotFoundError:
            self._judge(row, None)
            return None
        except OSError:  # which says nothing of its bytes; too many open files is a ContentError, and ends the drain
            self._unopened.append(row.sha256)
            return None
        with open_descriptor(descriptor, self._old.blob(row.sha256)) as source:
            return self._copy_of(source, row, target) if now == row else None

    def _copy_of(self, source: Source, row: BlobRow, target: RootFolder) -> _Copy | None:
        part, waits, read = target.new_part(), row.size_bytes >= _SMALL_BYTES, os.fstat(source.descriptor)
        try:
            digests = take_in(source, part, None, None, self._tell, sync=waits)
            if digests.sha256 == row.sha256:
                self._done_bytes += row.size_bytes
                parity = _copy_parity(self._old, row.sha256, target)
                return _Copy(row, Adopted(part, row.sha256, target.number, parity))
        except ContentError:
            part.unlink(missing_ok=True)
            self._tell(0, 0)  # raises again what was no damage: the library is closing
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.unlink(missing_ok=True)
        self._judge(row, read)
        return None

    def _judge(self, row: BlobRow, read: os.stat_result | None) -> None:
        """A blob is damaged if its row still says that it is here, and its file is still the one that was read. Else its
        turn comes again, but not without end."""
        self._tries[row.sha256] += 1
        with self._stock.change:
            if self._table.blob(row.sha256) == row and (
                self._tries[row.sha256] == _TRIES or _is_file(self._old.blob(row.sha256), read)
            ):
                self._damaged.append(row.sha256)
                self._table.mark(row.sha256, BlobState.DAMAGED)

    def _switch(self, copies: list[_Copy]) -> None:
        """The copies of those blobs that are still here become the blobs."""
        still = self._table.known(copy.row.sha256 for copy in copies)
        adopted = [copy.adopted for copy in copies if still.get(copy.row.sha256) == copy.row]
        if not adopted:
            return
        rows = [BlobRow(each.sha256, still[each.sha256].size_bytes, each.root, BlobState.HERE) for each in adopted]
        self._table.note_loose(Place(each.sha256, each.root) for each in adopted)
        try:
            self._roots.adopt(adopted)
            before = self._table.add(rows)
        except BaseException:
            with suppress(ContentError, OSError):  # a full disk may not take the note back; the next start does
                self._stock.settle([Place(each.sha256, each.root) for each in adopted])
            raise
        self._blobs += len(adopted)
        self._stock.settle_moved(before)

    def _tell(self, done: int, total: int) -> None:
        self._progress(self._done_bytes + done, max(self._total_bytes, self._done_bytes + total))


def drain(stock: Stock, number: int, progress: Progress) -> DrainReport:
    """Empty a root. What the system says against it is put into words; else as Drain."""
    with disk_trouble_told(f"drain of root {number}"):
        return Drain(stock, number, progress).run()


def told(report: DrainReport) -> str:
    """What is wrong after a drain, and the next step; "" where nothing is."""
    trouble = []
    if report.damaged:
        trouble.append(
            f"{_staying(report.damaged, 'damaged')}; repair with `dpd content validate`, or publish again, then drain again"
        )
    if report.unopened:
        trouble.append(
            f"{_staying(report.unopened, 'unreadable')}, whose files cannot be opened; check the disk, then drain again"
        )
    return f"root {report.root}: {report.blobs} blobs moved, but {'; '.join(trouble)}" if trouble else ""


def _staying(hashes: Sequence[str], how: str) -> str:
    count = len(hashes)
    named = ", ".join(hashes[:3]) + (", …" if count > 3 else "")
    return f"{count} {how} {'one stays' if count == 1 else 'ones stay'} ({named})"


def _refuse_if_too_large(roots: Roots, number: int, size_bytes: int) -> None:
    """Told before anything moves. That each blob has a place is seen when its turn comes."""
    others = [each for each in roots.status() if each.id != number and each.state is RootCondition.ACTIVE]
    room = sum(max(0, each.free_bytes - each.reserve_bytes) for each in others)
    if size_bytes > room:
        named = "; ".join(f"{each.path}: {each.free_bytes} free, {each.reserve_bytes} in reserve" for each in others)
        raise LibraryFull(
            f"root {number} holds {size_bytes} bytes, and other roots have room for {room} ({named or 'there is none'}); add a root with `dpd root add` first"
        )


def _copy_parity(old: RootFolder, sha256: str, target: RootFolder) -> Path | None:
    """Good to have: where it cannot be copied it is left behind."""
    if not old.parity(sha256).exists():
        return None
    part = target.new_part()
    try:
        shutil.copyfile(old.parity(sha256), part)
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        part.unlink(missing_ok=True)
        return None
    return part


def _is_file(path: Path, read: os.stat_result | None) -> bool:
    """Whether this is there now; None: there was nothing."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return read is None
    except OSError:
        return False
    return read is not None and os.path.samestat(there, read)


def _drop_parts(adopted: Adopted) -> None:
    adopted.part.unlink(missing_ok=True)
    if adopted.parity is not None:
        adopted.parity.unlink(missing_ok=True)
