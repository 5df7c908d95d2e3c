# SPDX-License-Identifier: Apache-2.0
"""A blob on its way in from elsewhere: checked slab by slab as it comes, hashed in the same pass, and gone on with by a
later try where it broke off.

What comes is gathered into pieces: slabs, where the blob has them. A piece is written once it is whole, and once it fits
the manifest where there is one, so that whatever is in the file was right when it was written. A later try reads that
again, which is the price of hashes that cannot be stored half-way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dpd.content.chunks import MIN_BLOB_BYTES, can_cut
from dpd.content.intake import Digesting, Digests, Update, fill
from dpd.content.manifest import Manifest, SlabCheck
from dpd.content.occupancy import Occupancy
from dpd.content.stock import Ready
from dpd.content.storage.disk import NO_ROOM, begin_writing
from dpd.content.storage.stored_parity import ParityCode, ParityWriter
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

SMALL_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that is to come."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a blob is taken in. `slab_bytes` None: it has no slabs, and then no manifest and no parity. `in_batches`: small
    ones are put on the disk by who adopts them."""

    slab_bytes: int | None
    manifest: Manifest | None = None
    parity_code: ParityCode | None = None
    chunks: bool = True
    in_batches: bool = False


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where a part is, and where its parity would go; `release` lets others have that name. `is_kept`: the next try finds
    it by its name. `occupancy` is that of the library, behind whose end nothing there is ours."""

    root: int
    part: Path
    parity: Path
    release: Callable[[], None]
    is_kept: bool
    occupancy: Occupancy


Adopt = Callable[[Ready, Digests], None]


class BlobPart:
    """One blob that is being received. For one thread, but for `open` and `verified`.

    `position` is where the next byte belongs: above 0 where an earlier try left something. Every way out is one of
    `finish`, `close` (which keeps what came for the next try) and `discard`; after the first of them the others do nothing.
    """

    def __init__(self, wanted: Wanted, shape: Shape, place: PartPlace, adopt: Adopt) -> None:
        """Raises ContentError, LibraryFull."""
        self.sha256 = wanted.sha256
        self.size_bytes = wanted.size_bytes
        self._place, self._adopt = place, adopt
        self._work = place.occupancy.work
        self._is_synced_here = wanted.size_bytes > SMALL_BYTES or not shape.in_batches
        self._slab_check = SlabCheck(shape.manifest) if shape.manifest is not None else None
        self._piece_bytes = shape.slab_bytes or _PIECE_BYTES
        self._digesting = Digesting(
            shape.slab_bytes,
            cuts=shape.chunks and can_cut() and wanted.size_bytes >= MIN_BLOB_BYTES,
            compared=shape.manifest.slab_blake3 if shape.manifest is not None else None,  # by the check of each slab
        )
        self._written = self._filled = 0
        self._is_over = False
        self._stack = ExitStack()
        try:
            with self._work():
                self._descriptor = os.open(place.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
                self._stack.callback(os.close, self._descriptor)
                self._parity = self._open_parity(shape)
            self._pieces = _Pieces(
                self._stack, min(self._piece_bytes, wanted.size_bytes), self._updates(), self._is_large
            )
            self._go_on()
        except OSError as error:
            self.close()
            raise _told(error, self.sha256) from None
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> int:
        """How many bytes have been taken."""
        return self._written + self._filled

    @property
    def verified(self) -> int:
        """How many bytes are known to be right, and may be given out: whole slabs; without slabs none before the end."""
        return self._written if self._slab_check is not None else 0

    @property
    def _is_large(self) -> bool:
        return self.size_bytes > self._piece_bytes

    def open(self) -> int:
        """A descriptor for reading what has come, closed by the caller; it stays good over `finish`."""
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """The next bytes; the caller may use the buffer again at once. Raises ContentCorrupt for a slab that does not fit its
        manifest, and `position` is back at its begin then; LibraryFull, ContentError."""
        with self._work():
            self._take(memoryview(piece))

    def _take(self, rest: memoryview) -> None:
        if self.position + len(rest) > self.size_bytes:
            raise ContentCorrupt(f"blob {self.sha256}: more than {self.size_bytes} bytes came; ask another source")
        while len(rest):
            count = min(len(rest), self._next_bytes() - self._filled)
            self._pieces.current[self._filled : self._filled + count] = rest[:count]
            self._filled, rest = self._filled + count, rest[count:]
            if self._filled == self._next_bytes():
                self._put_piece()

    def finish(self) -> None:
        """All bytes have come: the blob is the library's if they are the right ones. Raises ContentCorrupt, and nothing is
        kept; ContentError where some are missing, and what came is kept."""
        with self._work():
            self._finish()

    def _finish(self) -> None:
        if self.position != self.size_bytes:
            self.close()
            raise ContentError(
                f"blob {self.sha256}: ended at byte {self.position}, expected {self.size_bytes}; the next try goes on there"
            )
        try:
            digests = self._digests()
            if digests.sha256 == self.sha256 and self._is_synced_here:
                os.fsync(self._descriptor)
        except OSError as error:
            self.close()
            raise _told(error, self.sha256) from None
        if digests.sha256 != self.sha256:
            self.discard()
            raise ContentCorrupt(f"blob {self.sha256}: what came has the SHA-256 {digests.sha256}; ask another source")
        self._stack.close()
        parity = self._place.parity if self._parity is not None else None
        ready = Ready(self._place.part, self.sha256, self.size_bytes, self._place.root, parity, digests.chunk_index)
        try:
            self._adopt(ready, digests)
        except BaseException:
            self._leave()
            raise
        self._end()

    def close(self) -> None:
        """What came stays for the next try, where that finds it. Idempotent."""
        if self._is_over:
            return
        self._stack.close()
        self._leave()

    def _leave(self) -> None:
        try:
            with self._place.occupancy.work_if_open() as is_open:
                if is_open:  # else the next open has swept it, or goes on with it
                    self._drop_files()
        finally:
            self._end()

    def _drop_files(self) -> None:
        self._place.parity.unlink(missing_ok=True)
        if not self._written or not self._place.is_kept:
            self._place.part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Nothing stays. Idempotent."""
        if self._is_over:
            return
        self._written = 0
        self.close()

    def _end(self) -> None:
        self._is_over = True
        self._place.release()

    def _next_bytes(self) -> int:
        """How long the piece is that is being gathered."""
        return min(self._piece_bytes, self.size_bytes - self._written)

    def _open_parity(self, shape: Shape) -> ParityWriter | None:
        if shape.parity_code is None or shape.slab_bytes is None:
            return None
        descriptor = os.open(self._place.parity, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._stack.callback(os.close, descriptor)
        return ParityWriter(descriptor, shape.parity_code, shape.slab_bytes, self.size_bytes)

    def _updates(self) -> list[Update]:
        updates = [each.update for each in self._digesting.lanes]
        return updates if self._parity is None else [*updates, self._parity.update]

    def _go_on(self) -> None:
        """Take what an earlier try left, as far as it is whole pieces that still fit."""
        there = os.fstat(self._descriptor).st_size
        while self._next_bytes() and self._written + self._next_bytes() <= there:
            with self._work():
                if not self._take_again(self._pieces.current[: self._next_bytes()]):
                    break
        if there != self._written:
            with self._work():
                os.ftruncate(self._descriptor, self._written)

    def _take_again(self, piece: memoryview) -> bool:
        if fill(self._descriptor, piece, self._written) < len(piece) or not self._fits(piece):
            return False
        self._pieces.submit(len(piece))
        self._written += len(piece)
        return True

    def _fits(self, piece: memoryview) -> bool:
        return self._slab_check is None or self._slab_check.fits(self._written // self._piece_bytes, piece)

    def _put_piece(self) -> None:
        piece, self._filled = self._pieces.current[: self._filled], 0
        if not self._fits(piece):
            begin = self._written
            raise ContentCorrupt(
                f"blob {self.sha256}: slab {begin // self._piece_bytes} (bytes {begin} to {begin + len(piece) - 1}) is not what its manifest says; ask another source"
            )
        try:
            done = 0
            while done < len(piece):
                done += os.pwrite(self._descriptor, piece[done:], self._written + done)
        except OSError as error:
            raise _told(error, self.sha256) from None
        if self._is_synced_here:
            begin_writing(self._descriptor, self._written, len(piece))
        self._written += len(piece)
        try:
            self._pieces.submit(len(piece))
        except OSError as error:  # of its parity
            raise _told(error, self.sha256) from None

    def _digests(self) -> Digests:
        self._pieces.wait()
        for lane in self._digesting.lanes:
            lane.finish()
        digests = self._digesting.digests()
        if self._parity is not None and digests.sha256 == self.sha256:
            self._parity.finish(digests.sha256)
        return digests


class _Pieces:
    """Two buffers: one is filled while what wants to see the other one does so, each in a thread of its own."""

    def __init__(self, stack: ExitStack, size_bytes: int, updates: Sequence[Update], is_large: bool) -> None:
        self._buffers = [memoryview(bytearray(size_bytes)) for _ in range(2 if is_large else 1)]
        self._busy: list[list[Future[None]]] = [[] for _ in self._buffers]
        self._turn = 0
        self._updates = updates
        self._lanes = [stack.enter_context(ThreadPoolExecutor(1, "receive-hash")) for _ in updates] if is_large else []

    @property
    def current(self) -> memoryview:
        """The buffer to fill."""
        return self._buffers[self._turn]

    def submit(self, size: int) -> None:
        """So much of it is filled; the next one is current when this returns."""
        piece = self.current[:size]
        if not self._lanes:
            for update in self._updates:
                update(piece)
            return
        self._busy[self._turn] = [
            lane.submit(update, piece) for lane, update in zip(self._lanes, self._updates, strict=True)
        ]
        self._turn = (self._turn + 1) % len(self._buffers)
        self._wait_for(self._busy[self._turn])

    def wait(self) -> None:
        """All of it has been seen."""
        for futures in self._busy:
            self._wait_for(futures)

    def _wait_for(self, futures: list[Future[None]]) -> None:
        while futures:
            futures.pop().result()


def _told(error: OSError, sha256: str) -> ContentError:
    if error.errno in NO_ROOM:
        return LibraryFull(
            f"blob {sha256}: the disk became full while it came; make room, for example with `dpd content remove`, and it goes on"
        )
    return ContentError(f"blob {sha256}: cannot be written: {error.strerror}; check the disk")
