# SPDX-License-Identifier: Apache-2.0
"""Content-defined chunks of a blob: where they end depends on the bytes alone, so that what two versions of an image
share is found again although it has moved.

FastCDC (Xia et al., IEEE TPDS 2020, as of pyfastcdc: 8 KiB at least, 32 KiB wanted, 128 KiB at most) finds the ends,
BLAKE3 names the chunks. The index of a blob, as it is stored and sent:

    8 bytes      magic
    u32          how many chunks, in network order as all numbers here
    36 bytes     for each chunk its length, and its BLAKE3

Each place that changed costs about two chunks more than the change. Measured with an image of 468 MB, rebuilt after 60
of its files (18 MB) had changed: 25.4 MB to fetch with 64 KiB wanted, 22.0 with 32, 20.2 with 16; the index, which moves
too, and the memory for it double each time. Cutting takes the same time.

An index is a hint and proves nothing: what is put together by one still has to have the SHA-256 of its blob.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from dpd.errors import ContentCorrupt

try:
    from pyfastcdc.cy import FastCDC  # never its fallback in Python: 200 times slower than the disk
except ImportError:
    FastCDC = None

MAGIC = b"dpdchnk1"
HASH_BYTES = 32
MIN_CHUNK_BYTES, WANTED_CHUNK_BYTES, MAX_CHUNK_BYTES = 8 << 10, 32 << 10, 128 << 10
MIN_BLOB_BYTES = 1 << 20  # smaller ones move whole
GAP_BYTES = 8 << 10  # a copy between two fetches that is smaller costs more as a range of its own than as bytes

_HEAD = struct.Struct("!8sI")
_ENTRY = struct.Struct("!I32s")


def can_cut() -> bool:
    """Whether chunks can be found here. Where not, blobs have no index and move whole."""
    return FastCDC is not None


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """The chunks of one blob in order, as the entries of its file: 700,000 for 20 GB, which take four times as much as
    objects."""

    entries: bytes

    @classmethod
    def of(cls, lengths: Iterable[int], hashes: Iterable[bytes]) -> ChunkIndex:
        """Lengths in bytes, and as many BLAKE3 hashes of 32 bytes."""
        return cls(b"".join(map(_ENTRY.pack, lengths, hashes)))

    def __len__(self) -> int:
        return len(self.entries) // _ENTRY.size

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        """Where each chunk begins, its length and its hash."""
        offset = 0
        for length, digest in _ENTRY.iter_unpack(self.entries):
            yield offset, length, digest
            offset += length

    @property
    def size_bytes(self) -> int:
        return sum(length for _, length, _ in self)

    def encode(self) -> bytes:
        """The file's bytes."""
        return _HEAD.pack(MAGIC, len(self)) + self.entries

    @classmethod
    def decode(cls, document: bytes) -> ChunkIndex:
        """Strict: every byte has its place, every length is possible. Raises ContentCorrupt."""
        if len(document) < _HEAD.size or not document.startswith(MAGIC):
            raise ContentCorrupt(f"no chunk index: starts with {document[:8].hex() or 'nothing'}")
        count = _HEAD.unpack_from(document)[1]
        if len(document) != _HEAD.size + count * _ENTRY.size:
            raise ContentCorrupt(
                f"chunk index has {len(document)} bytes, expected {_HEAD.size + count * _ENTRY.size} for {count} chunks"
            )
        index = cls(bytes(document[_HEAD.size :]))
        _check_lengths(index)
        return index


def _check_lengths(index: ChunkIndex) -> None:
    """Only the last chunk may be shorter than chunks are."""
    for place, (_, length, _) in enumerate(index):
        least = MIN_CHUNK_BYTES if place < len(index) - 1 else 1
        if not least <= length <= MAX_CHUNK_BYTES:
            raise ContentCorrupt(
                f"chunk index: chunk {place} has {length} bytes, expected {least} to {MAX_CHUNK_BYTES}"
            )


class Chunker:
    """Takes a blob in pieces, in order, and has its index at the end; how the pieces were cut makes no difference."""

    def __init__(self) -> None:
        assert FastCDC is not None  # can_cut() says so before
        self._cutter = FastCDC(WANTED_CHUNK_BYTES, min_size=MIN_CHUNK_BYTES, max_size=MAX_CHUNK_BYTES)
        self._buffer = memoryview(bytearray(MAX_CHUNK_BYTES))
        self._held = 0  # bytes of a chunk whose end is not known yet, at the start of the buffer
        self._entries = bytearray()

    def update(self, piece: memoryview) -> None:
        """Any length."""
        self._make_room(len(piece))
        end = self._held + len(piece)
        self._buffer[self._held : end] = piece
        self._cut(self._buffer[:end], MAX_CHUNK_BYTES)

    def finish(self) -> None:
        """The stream has ended, and what is held is its last chunks."""
        self._cut(self._buffer[: self._held], 1)

    def index(self) -> ChunkIndex:
        """After `finish`."""
        return ChunkIndex(bytes(self._entries))

    def _make_room(self, piece_bytes: int) -> None:
        if len(self._buffer) < MAX_CHUNK_BYTES + piece_bytes:
            held = bytes(self._buffer[: self._held])
            self._buffer = memoryview(bytearray(MAX_CHUNK_BYTES + piece_bytes))
            self._buffer[: self._held] = held

    def _cut(self, content: memoryview, least_bytes: int) -> None:
        """Take chunks while at least so many bytes follow a chunk's begin, and hold the rest."""
        begin = 0
        for chunk in self._cutter.cut_buf(content):
            if len(content) - begin < least_bytes:
                break
            self._entries += _ENTRY.pack(chunk.length, blake3(chunk.data).digest())
            begin += chunk.length
        self._held = len(content) - begin
        self._buffer[: self._held] = content[begin:]


@dataclass(frozen=True, slots=True)
class Step:
    """The next bytes of a new blob: from `old_offset` of the old one, or, where that is None, from a source at
    `offset`."""

    offset: int
    size_bytes: int
    old_offset: int | None

    @property
    def is_fetch(self) -> bool:
        return self.old_offset is None


@dataclass(frozen=True, slots=True)
class DeltaPlan:
    """How a blob is made out of an old one: steps in order, which together are the whole of it."""

    steps: tuple[Step, ...]

    @property
    def fetch_bytes(self) -> int:
        return sum(step.size_bytes for step in self.steps if step.is_fetch)

    @property
    def copy_bytes(self) -> int:
        return sum(step.size_bytes for step in self.steps if not step.is_fetch)


def missing(new: ChunkIndex, old: ChunkIndex) -> DeltaPlan:
    """What of the new blob the old one has, by their indexes. Neighbours are one step."""
    places = {digest: (offset, length) for offset, length, digest in old}
    steps: list[Step] = []
    for offset, length, digest in new:
        old_offset, old_length = places.get(digest, (None, length))
        step = Step(offset, length, old_offset if old_length == length else None)
        if steps and (joined := _join(steps[-1], step)):
            steps[-1] = joined
        else:
            steps.append(step)
    return DeltaPlan(tuple(_without_gaps(steps)))


def _join(first: Step, then: Step) -> Step | None:
    """One step for two neighbours; None where they cannot be one."""
    if first.old_offset is None or then.old_offset is None:
        joins = first.old_offset is then.old_offset
    else:
        joins = first.old_offset + first.size_bytes == then.old_offset
    return Step(first.offset, first.size_bytes + then.size_bytes, first.old_offset) if joins else None


def _without_gaps(steps: list[Step]) -> list[Step]:
    """Small copies between two fetches are fetched too, so that the ranges are one."""
    kept: list[Step] = []
    for place, step in enumerate(steps):
        between = 0 < place < len(steps) - 1 and steps[place - 1].is_fetch and steps[place + 1].is_fetch
        wanted = Step(step.offset, step.size_bytes, None) if between and step.size_bytes < GAP_BYTES else step
        joined = _join(kept[-1], wanted) if kept and wanted.is_fetch else None
        if joined:
            kept[-1] = joined
        else:
            kept.append(wanted)
    return kept
