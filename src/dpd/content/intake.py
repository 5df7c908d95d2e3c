# SPDX-License-Identifier: Apache-2.0
"""One pass over a source: copied, hashed whole, hashed by slab, cut into chunks, checked against its integrity table and
its parity made, all at once.

Each of these has its own thread (hashlib, BLAKE3, the chunker and the erasure code release the interpreter lock) and takes
the buffers in order, while this thread reads the next buffer and writes. What is written is the very buffer that was
hashed, so a source that changes in the page cache meanwhile cannot end up with a hash of other bytes. A source of one
buffer is done in this thread alone: starting the others costs more than they save.

Processor time for a GB in memory, on a busy machine: 3.0 s with slabs and chunks, 2.2 s without chunks, 1.3 s without slabs
(files of a folder), where sha256sum of coreutils takes 3.3 s. It falls on as many cores as there are lanes: bench/publish.py.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from dpd.content.below import open_below
from dpd.content.chunks import MIN_BLOB_BYTES, Chunker, can_cut
from dpd.content.storage.disk import begin_writing
from dpd.content.storage.stored_parity import ParityCode, ParityWriter, parity_file_bytes
from dpd.errors import ContentCorrupt, ContentError

Progress = Callable[[int, int], None]
Update = Callable[[memoryview], None]

_READ_BYTES = 1 << 20  # at least: below, the system calls and thread hops show
_WRITE_BYTES = 8 << 20  # handed to the disk at a time
_BUFFERS = 4  # one being read, one being written, two for the slowest hash to lag behind


class Check(Protocol):
    """Takes a stream in order; `finish` speaks when it has ended."""

    def update(self, piece: memoryview, /) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """An open file to publish, and what it looked like when it was opened."""

    path: str | Path
    descriptor: int
    size_bytes: int
    mtime_ns: int

    def check_unchanged(self) -> None:
        """Raises ContentError if the file was written to since it was opened."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            raise ContentError(
                f"{self.path}: changed while it was read (from {self.size_bytes} to {now.st_size} bytes); publish it again when its writer is done"
            )


@dataclass(frozen=True, slots=True)
class Digests:
    """What one pass found out. No slabs where none were asked for; `chunk_index` is encoded, None where there is none."""

    sha256: str
    slab_hashes: tuple[bytes, ...]
    slab_blake3: tuple[bytes, ...]
    chunk_index: bytes | None = None


@contextmanager
def open_source(path: Path, *, may_be_empty: bool = False, below: Path | None = None) -> Iterator[Source]:
    """`below`: a folder above the file, below which no link is followed. Raises ContentError that says why this file cannot
    be published."""
    if below is not None:
        descriptor = opened(path, lambda: open_below(below, str(path.relative_to(below))))
    else:  # O_NONBLOCK: opening a FIFO would wait for its writer
        descriptor = opened(path, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    with open_descriptor(descriptor, path) as source:
        if source.size_bytes == 0 and not may_be_empty:
            raise ContentError(f"{path}: empty; expected an image such as install.wim")
        yield source


def opened(path: str | Path, opens: Callable[[], int]) -> int:
    """The descriptor. Raises ContentError in the words for a source."""
    try:
        return opens()
    except FileNotFoundError:
        raise ContentError(f"{path}: no such file; give the path as this machine sees it") from None
    except OSError as error:
        raise ContentError(f"{path}: cannot be opened: {error.strerror}") from None
    except ValueError:
        raise ContentError(f"{str(path)!r}: no path of a file; give the path as this machine sees it") from None


@contextmanager
def open_descriptor(descriptor: int, path: Path) -> Iterator[Source]:
    """What is open already, and is closed at the end. Raises ContentError for what is no regular file."""
    try:
        yield source_of(descriptor, path)
    finally:
        os.close(descriptor)


def source_of(descriptor: int, path: str | Path) -> Source:
    """What is open already. Raises ContentError for what is no regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ContentError(f"{path}: not a regular file; expected an image such as install.wim")
    return Source(path, descriptor, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class ParityPart:
    """Where the parity of a source goes, and how it is made."""

    part: Path
    code: ParityCode


def take_in(
    source: Source,
    part: Path | None,
    slab_bytes: int | None,
    check: Check | None,
    progress: Progress,
    parity: ParityPart | None = None,
    *,
    chunks: bool = False,
    sync: bool = True,
) -> Digests:
    """Copy the source to `part`, and its parity beside, on the disk when this returns; None: it lies where it shall stay
    and is only read. `slab_bytes` None: no slabs, and then no parity; `chunks`: cut it too, if it is large enough;
    without `sync`, which thousands of small files need, the caller syncs.

    Raises ContentError or OSError; the caller cleans up.
    """
    digesting = Digesting(slab_bytes, cuts=chunks and can_cut() and source.size_bytes >= MIN_BLOB_BYTES)
    checks: list[Check] = [*digesting.lanes, *([check] if check is not None else [])]
    with ExitStack() as stack:
        descriptor = _new_file(stack, part, source.size_bytes) if part is not None else None
        updates = [each.update for each in checks]
        if parity is not None and slab_bytes is not None:
            size_bytes = parity_file_bytes(parity.code, slab_bytes, source.size_bytes)
            beside = _new_file(stack, parity.part, size_bytes)
            writer = ParityWriter(beside, parity.code, slab_bytes, source.size_bytes)
            updates.append(writer.update)
        _stream(source, descriptor, slab_bytes or _READ_BYTES, updates, progress)
        for each in checks:
            each.finish()
        digests = digesting.digests()
        if parity is not None and slab_bytes is not None:
            writer.finish(digests.sha256)
        if sync:
            os.fsync(source.descriptor if descriptor is None else descriptor)
        source.check_unchanged()
    return digests


def _new_file(stack: ExitStack, part: Path, size_bytes: int) -> int:
    """A descriptor that the stack closes, with the room it will need."""
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    stack.callback(os.close, descriptor)
    if size_bytes > _READ_BYTES:  # less is written in the next moment anyhow
        _reserve(descriptor, size_bytes)
    return descriptor


class Digesting:
    """The lanes that every blob has, and what they found. `compared`: the BLAKE3 of its slabs, where whoever feeds the lanes
    has compared each with it already."""

    def __init__(self, slab_bytes: int | None, *, cuts: bool, compared: tuple[bytes, ...] | None = None) -> None:
        self._whole = _Whole()
        self._slabs = _Slabs(slab_bytes or _READ_BYTES, _sha256)
        self._fast = _Slabs(slab_bytes or _READ_BYTES, _blake3)
        self._chunker = Chunker() if cuts else None
        self.lanes: list[Check] = [self._whole]
        self._compared = compared
        if slab_bytes is not None:
            self.lanes += [self._slabs] if compared is not None else [self._slabs, self._fast]
        if self._chunker is not None:
            self.lanes.append(self._chunker)

    def digests(self) -> Digests:
        """After all lanes have finished."""
        index = self._chunker.index().encode() if self._chunker is not None else None
        fast = tuple(self._fast.hashes) if self._compared is None else self._compared
        return Digests(self._whole.hash.hexdigest(), tuple(self._slabs.hashes), fast, index)


class _Whole:
    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def update(self, piece: memoryview) -> None:
        self.hash.update(piece)

    def finish(self) -> None:
        pass


class _Slabs:
    """Pieces are whole slabs; only the last one of the file may end in a shorter one."""

    def __init__(self, slab_bytes: int, digest: Callable[[memoryview], bytes]) -> None:
        self.hashes: list[bytes] = []
        self._slab_bytes = slab_bytes
        self._digest = digest

    def update(self, piece: memoryview) -> None:
        for at in range(0, len(piece), self._slab_bytes):
            self.hashes.append(self._digest(piece[at : at + self._slab_bytes]))

    def finish(self) -> None:
        pass


def _sha256(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()


def _blake3(piece: memoryview) -> bytes:
    return blake3(piece).digest()


def _reserve(descriptor: int, size_bytes: int) -> None:
    """Take the room before the work, so that a full disk is told in the first second; also keeps the blob in one piece."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some network and FUSE file systems cannot
            raise


def _stream(source: Source, target: int | None, slab_bytes: int, updates: Sequence[Update], progress: Progress) -> None:
    piece_bytes = slab_bytes * -(-_READ_BYTES // slab_bytes)
    if source.size_bytes <= piece_bytes:
        _take_one_piece(source, target, updates, progress)
        return
    ring = [memoryview(bytearray(piece_bytes)) for _ in range(_BUFFERS)]
    busy: list[list[Future[None]]] = [[] for _ in ring]
    position = turn = begun = 0
    with ExitStack() as stack:
        lanes = [stack.enter_context(ThreadPoolExecutor(1, "publish-hash")) for _ in updates]
        while position < source.size_bytes:
            slot = turn % _BUFFERS
            _wait(busy[slot])
            piece = _read_piece(source, ring[slot][: source.size_bytes - position], position)
            busy[slot] = [lane.submit(update, piece) for lane, update in zip(lanes, updates, strict=True)]
            if target is not None:
                _write_piece(target, piece, position)
                begun = _begin_writing(target, begun, position + len(piece))
            position, turn = position + len(piece), turn + 1
            progress(position, source.size_bytes)
        for futures in busy:
            _wait(futures)


def _begin_writing(target: int, begun: int, end: int) -> int:
    """The disk works beside the hashes, a few MiB at a time; up to where it has been told."""
    if end - begun < _WRITE_BYTES:
        return begun
    begin_writing(target, begun, end - begun)
    return end


def _take_one_piece(source: Source, target: int | None, updates: Sequence[Update], progress: Progress) -> None:
    piece = _read_piece(source, memoryview(bytearray(source.size_bytes)), 0)
    for update in updates:
        update(piece)
    if target is not None:
        _write_piece(target, piece, 0)
    progress(len(piece), source.size_bytes)


def _wait(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()


def _read_piece(source: Source, view: memoryview, position: int) -> memoryview:
    try:
        length = fill(source.descriptor, view, position)
    except OSError as error:
        raise ContentError(f"{source.path}: cannot be read at byte {position}: {error.strerror}") from None
    if length < len(view):
        source.check_unchanged()
        raise ContentCorrupt(f"ends at byte {position + length}, expected {source.size_bytes} bytes")
    return view


def fill(descriptor: int, view: memoryview, position: int) -> int:
    """Read until the view is full or the file ends; how many bytes were read."""
    filled = 0
    while filled < len(view):
        count = os.preadv(descriptor, [view[filled:]], position + filled)
        if count == 0:
            break
        filled += count
    return filled


def _write_piece(descriptor: int, view: memoryview, position: int) -> None:
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], position + written)
