# SPDX-License-Identifier: Apache-2.0
"""The roots of a library: the folders that its blobs are spread over, added and emptied while it runs.

New blobs go to the first active root, in the order in which they were added, that has room beside its reserve. Where a
blob lies, its row says. A root whose disk is not there keeps its rows: its blobs cannot be had until it is back, which is
looked at again whenever one of them is asked for, and all else goes on.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from dpd.content.records import BlobRow, RootRow, RootState
from dpd.content.storage.blob_table import BlobTable
from dpd.content.storage.disk import in_words
from dpd.content.storage.root_folder import Adopted, RootFolder, mark
from dpd.errors import ContentError, ContentNotFound, LibraryFull, LibraryInUse

_OUR_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
OWN = 0  # the library's own folder


class RootCondition(StrEnum):
    """A root as an operator sees it. `empty`: drained, and may be removed."""

    ACTIVE = "active"
    DRAINING = "draining"
    EMPTY = "empty"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class RootStatus:
    """One root: sizes in bytes, free as an ordinary user sees it; `problem` says why it is missing."""

    id: int
    path: str
    state: RootCondition
    reserve_bytes: int
    free_bytes: int
    total_bytes: int
    blobs: int
    blob_bytes: int
    problem: str


class Roots:
    """The roots that the table names, open for this process. Every method may be called from any thread."""

    def __init__(self, own: RootFolder, table: BlobTable) -> None:
        """Raises LibraryInUse where another process has one of them."""
        self._table = table
        self._library_id = table.library_id()
        self._lock = threading.RLock()
        self._folders = {OWN: own}
        self._known: list[RootRow] | None = None
        self._inside: Counter[int] = Counter()  # who has chosen a root, and has not brought everything into it yet
        for row in self._rows():
            try:
                self.folder(row.id)
            except LibraryInUse:
                self.close()
                raise
            except ContentError:
                pass  # told by status, and when a blob of it is asked for

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            for folder in self._folders.values():
                folder.close()

    def folder(self, number: int) -> RootFolder:
        """Raises ContentError where it is not there, ContentNotFound where there is no such root."""
        with self._lock:
            if number not in self._folders:
                self._folders[number] = RootFolder.added(number, Path(self._row(number).path), self._library_id)
            return self._folders[number]

    def folders(self) -> list[RootFolder]:
        """All that are there."""
        with self._lock:
            return [self._folders[number] for number in sorted(self._folders)]

    def missing(self) -> list[int]:
        """The numbers of those that are not there."""
        found = []
        for row in self._rows():
            try:
                self.folder(row.id)
            except ContentError:
                found.append(row.id)
        return found

    def place(self, size_bytes: int) -> int:
        """The root for so many new bytes. Raises LibraryFull that names each root, its free bytes and its reserve."""
        tried = []
        for row in self._rows():
            if row.state is not RootState.ACTIVE:
                continue
            try:
                folder = self.folder(row.id)
                free = folder.free_bytes()
            except (ContentError, OSError):
                tried.append(f"{row.path}: not there")
                continue
            if free - size_bytes >= row.reserve_bytes:
                return row.id
            tried.append(f"{folder.path}: {free} are free, {row.reserve_bytes} in reserve")
        raise LibraryFull(
            f"needs {size_bytes} bytes in a root ({'; '.join(tried) or 'all are drained'}); make room, for example with `dpd content remove`, or add a root with `dpd root add`"
        )

    def enter(self, number: int) -> bool:
        """Whether this root takes new blobs; it is not removed then until `leave` has been called as often."""
        with self._lock:
            is_active = any(row.id == number and row.state is RootState.ACTIVE for row in self._rows())
            self._inside[number] += is_active
            return is_active

    def stay(self, number: int) -> None:
        """As `enter`, for who is kept there by somebody else until now."""
        with self._lock:
            self._inside[number] += 1

    def leave(self, number: int) -> None:
        """The opposite of `enter`."""
        with self._lock:
            self._inside[number] -= 1

    def of_device(self, device: int, beside_bytes: int) -> int | None:
        """The first active root on this device, where a file of it becomes a blob by a rename, with room for what comes
        beside it, and for its reserve."""
        for row in self._rows():
            with suppress(ContentError, OSError):
                folder = self.folder(row.id)
                is_there = row.state is RootState.ACTIVE and os.stat(folder.path).st_dev == device
                if is_there and folder.free_bytes() - beside_bytes >= row.reserve_bytes:
                    return row.id
        return None

    def adopt(self, blobs: Sequence[Adopted]) -> None:
        """Give parts, already on the disk, their final names. Raises OSError."""
        by_root: dict[int, list[Adopted]] = defaultdict(list)
        for each in blobs:
            by_root[each.root].append(each)
        for number, adopted in by_root.items():
            self.folder(number).adopt(adopted)

    def open_blob(self, sha256: str) -> tuple[int, BlobRow]:
        """A descriptor for reading, which the caller closes, and the row. Whole or damaged: the row says what was found.
        Raises ContentNotFound, ContentError where its root is missing or we have too much open, OSError."""
        row = None
        while True:
            before, row = row, self._table.blob(sha256)
            if row is None:
                raise ContentNotFound(f"blob {sha256} is not in the library")
            try:
                return os.open(self.folder(row.root).blob(sha256), os.O_RDONLY | os.O_CLOEXEC), row
            except FileNotFoundError:
                if row == before:
                    raise  # it was not moved between the look at its row and the look at its file
            except OSError as error:
                if error.errno not in _OUR_LIMITS:
                    raise
                raise ContentError(
                    f"blob {sha256}: cannot be opened: {error.strerror}; nothing is wrong with it, try again with less work at a time"
                ) from None

    def status(self) -> list[RootStatus]:
        """In the order in which they are filled."""
        return [self._status(row) for row in self._rows()]

    def add(self, path: Path, reserve_bytes: int) -> RootStatus:
        """Take another folder into use; it is made if it is not there. Raises ContentError."""
        _check_reserve(reserve_bytes)
        if not path.is_absolute():
            raise ContentError(f"{path}: not an absolute path; expected a folder such as /mnt/disk2/dpd")
        try:
            path = Path(os.path.realpath(path))
        except ValueError:
            raise ContentError(f"{str(path)!r}: no path of a folder; expected one such as /mnt/disk2/dpd") from None
        with self._lock:
            self._refuse_nested(path)
            before = {row.id: row.path for row in self._rows()}
            number = self._table.add_root(str(path), reserve_bytes)
            self._known = None
            try:
                mark(path, number, self._library_id, before)
                self.folder(number)
            except BaseException:
                self._table.remove_root(number)
                self._known = None
                raise
            return self._status(self._row(number))

    def change(self, number: int, *, reserve_bytes: int | None = None, state: RootState | None = None) -> RootStatus:
        """Another reserve, or in use again after a drain was begun. Raises ContentError."""
        if reserve_bytes is not None:
            _check_reserve(reserve_bytes)
        self._row(number)
        with self._lock:
            self._table.change_root(number, reserve_bytes=reserve_bytes, state=state)
            self._known = None
        return self._status(self._row(number))

    def remove(self, number: int) -> RootStatus:
        """A drained one is no root any more, and its folder as it was before. Raises ContentError."""
        with self._lock:
            before = self._status(self._row(number))
            if number == OWN:
                raise ContentError(f"root {number} is the library's own folder, {before.path}, and stays")
            if before.blobs and before.state is RootCondition.MISSING:
                raise ContentError(
                    f"root {number}: is not there, and {before.blobs} blobs with it; mount its disk again, or redistribute or publish again what is on it, which puts it elsewhere"
                )
            if before.blobs or before.state is RootCondition.ACTIVE:
                raise ContentError(
                    f"root {number}, {before.path}: is {before.state} and holds {before.blobs} blobs; run `dpd root drain {number}` first"
                )
            if self._inside[number]:
                raise ContentError(
                    f"root {number}, {before.path}: something that began before it was drained still comes into it; try again when that has ended, and drain it again then"
                )
            self._table.remove_root(number)
            self._known = None
            folder = self._folders.pop(number, None)
        if folder is not None:
            _remove_files(folder)
        return before

    def _rows(self) -> list[RootRow]:
        """The table's, which changes by this class alone: every file of a folder that is published asks for its place."""
        with self._lock:
            if self._known is None:
                self._known = self._table.roots()
            return self._known

    def _row(self, number: int) -> RootRow:
        for row in self._rows():
            if row.id == number:
                return row
        raise ContentNotFound(f"there is no root {number}; `dpd root list` shows those there are")

    def _status(self, row: RootRow) -> RootStatus:
        blobs, blob_bytes = self._table.bytes_of_root(row.id)
        path, free, total, problem = row.path, 0, 0, ""
        try:
            path = str(self.folder(row.id).path)
            disk = os.statvfs(path)
            free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        except ContentError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{path}: {in_words(error)}"
        state = _condition(row, blobs, problem)
        return RootStatus(row.id, path, state, row.reserve_bytes, free, total, blobs, blob_bytes, problem)

    def _refuse_nested(self, path: Path) -> None:
        for row in self._rows():
            other = Path(os.path.realpath(self._folders[OWN].path if row.id == OWN else row.path))
            if path == other:
                raise ContentError(f"{path}: is root {row.id} of this library already; `dpd root list` shows them")
            if path.is_relative_to(other) or other.is_relative_to(path):
                raise ContentError(
                    f"{path}: one of it and root {row.id}, {other}, lies in the other; name a folder beside it"
                )


class Guest:
    """Somebody who brings blobs. The roots that it has chosen are not removed until it has gone. For one thread at a time."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._entered: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def place(self, size_bytes: int) -> int:
        """As `Roots.place`."""
        while not self.enter(number := self._roots.place(size_bytes)):
            pass  # it was drained since it was looked at
        return number

    def enter(self, number: int) -> bool:
        """Whether that root takes new blobs."""
        if number not in self._entered and self._roots.enter(number):
            self._entered.add(number)
        return number in self._entered

    def stay(self, number: int) -> None:
        """As `Roots.stay`."""
        if number not in self._entered:
            self._roots.stay(number)
            self._entered.add(number)

    def close(self) -> None:
        """Idempotent."""
        while self._entered:
            self._roots.leave(self._entered.pop())


def _condition(row: RootRow, blobs: int, problem: str) -> RootCondition:
    if problem:
        return RootCondition.MISSING
    if row.state is RootState.ACTIVE:
        return RootCondition.ACTIVE
    return RootCondition.DRAINING if blobs else RootCondition.EMPTY


def _remove_files(folder: RootFolder) -> None:
    try:
        folder.remove()
    except OSError as error:
        folder.close()
        raise ContentError(
            f"root {folder.number}: is no root any more, but {in_words(error)}; look into that folder and remove it by hand"
        ) from None


def _check_reserve(reserve_bytes: int) -> None:
    if not 0 <= reserve_bytes < 1 << 60:
        raise ContentError(f"reserve of {reserve_bytes} bytes: expected 0 to 2**60")
