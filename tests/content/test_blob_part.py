# SPDX-License-Identifier: Apache-2.0
"""One blob on its way in; test_arrival holds what becomes of it."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dpd.content.arrival import take_part
from dpd.content.blob_part import BlobPart, Shape, Wanted
from dpd.content.chunks import ChunkIndex
from dpd.content.intake import Digests
from dpd.content.stock import Ready, Stock
from dpd.content.storage.stored_parity import ParityCode, StoredParity
from dpd.errors import ContentCorrupt, ContentError, LibraryFull

SLAB_BYTES = 4096
PARITY = ParityCode(1, 64, lambda slab: [bytes(slab[:64]).ljust(64, b"\0")])


class Receiver:
    """Makes parts of one content, and keeps what is adopted."""

    def __init__(self, root: Path, content: bytes) -> None:
        self.stock, self.content = Stock(root), content
        self.wanted = Wanted(hashlib.sha256(content).hexdigest(), len(content))
        self.ready: list[Ready] = []
        self.digests: list[Digests] = []

    def part(self, shape: Shape) -> BlobPart:
        return BlobPart(self.wanted, shape, take_part(self.stock, self.wanted), self._adopt)

    def _adopt(self, ready: Ready, digests: Digests) -> None:
        self.stock.adopt([ready])
        self.ready.append(ready)
        self.digests.append(digests)

    def close(self) -> None:
        self.stock.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with closing(Receiver(tmp_path / "library", random.Random(1).randbytes((2 << 20) + 777))) as made:
        yield made


@pytest.mark.parametrize("piece_bytes", [1000, 4096, 1 << 20, 5 << 20])
@pytest.mark.parametrize("slab_bytes", [None, SLAB_BYTES, 8 << 20])
def test_whatever_the_pieces_the_hashes_are_those_of_the_blob(
    receiver: Receiver, piece_bytes: int, slab_bytes: int | None
) -> None:
    part, content = receiver.part(Shape(slab_bytes)), receiver.content
    buffer = bytearray(piece_bytes)  # used again at once, as a reader of a socket does
    for begin in range(0, len(content), piece_bytes):
        piece = content[begin : begin + piece_bytes]
        buffer[: len(piece)] = piece
        part.write(memoryview(buffer)[: len(piece)])
        assert part.position == begin + len(piece)
    part.finish()
    (digests,) = receiver.digests
    slabs = [content[at : at + slab_bytes] for at in range(0, len(content), slab_bytes)] if slab_bytes else []
    assert list(digests.slab_hashes) == [hashlib.sha256(slab).digest() for slab in slabs]
    assert digests.chunk_index is not None
    assert ChunkIndex.decode(digests.chunk_index).size_bytes == len(content)
    row = receiver.stock.blobs.blob(receiver.wanted.sha256)
    assert row is not None
    assert receiver.stock.path_of(row).read_bytes() == content


def test_its_parity_is_made_in_the_same_pass_also_over_two_tries(receiver: Receiver) -> None:
    shape = Shape(SLAB_BYTES, parity_code=PARITY)
    first = receiver.part(shape)
    first.write(receiver.content[:1_000_000])
    first.close()
    second = receiver.part(shape)
    assert second.position == 1_000_000 // SLAB_BYTES * SLAB_BYTES
    second.write(receiver.content[second.position :])
    second.finish()
    path = receiver.stock.roots.folder(0).parity(receiver.wanted.sha256)
    descriptor = os.open(path, os.O_RDONLY)
    with closing(StoredParity(descriptor, receiver.wanted.sha256, len(receiver.content), SLAB_BYTES)) as parity:
        assert bytes(parity.rows(3)[0]) == receiver.content[3 * SLAB_BYTES :][:64]


def test_an_empty_blob_needs_no_bytes(tmp_path: Path) -> None:
    with closing(Receiver(tmp_path / "library", b"")) as receiver:
        receiver.part(Shape(None)).finish()
        assert receiver.stock.blobs.blob(receiver.wanted.sha256) is not None


def test_a_part_that_ended_does_nothing_more(receiver: Receiver) -> None:
    part = receiver.part(Shape(None))
    part.write(receiver.content)
    part.finish()
    part.close()
    part.discard()
    assert receiver.stock.roots.folder(0).blob(receiver.wanted.sha256).exists()


def test_nothing_is_left_of_what_was_discarded(receiver: Receiver, tmp_path: Path) -> None:
    part = receiver.part(Shape(SLAB_BYTES, parity_code=PARITY))
    part.write(receiver.content[:100_000])
    assert len(list((tmp_path / "library" / "incoming").iterdir())) == 2
    part.discard()
    assert list((tmp_path / "library" / "incoming").iterdir()) == []
    assert not receiver.stock.is_claimed(receiver.wanted.sha256)


def test_the_wrong_bytes_are_told_with_their_hash(receiver: Receiver, tmp_path: Path) -> None:
    part = receiver.part(Shape(None))
    wrong = bytes(len(receiver.content))
    part.write(wrong)
    with pytest.raises(ContentCorrupt, match=hashlib.sha256(wrong).hexdigest()):
        part.finish()
    assert (list((tmp_path / "library" / "incoming").iterdir()), receiver.ready) == ([], [])


def test_a_full_disk_is_told_and_what_came_is_kept(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    part = receiver.part(Shape(None))
    part.write(receiver.content[: 1 << 20])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LibraryFull, match="the disk became full while it came"):
        part.write(receiver.content[1 << 20 :])
    monkeypatch.undo()
    part.close()
    again = receiver.part(Shape(None))
    assert again.position == 1 << 20
    with pytest.raises(ContentError, match="ended at byte 1048576"):
        again.finish()


def receive(part: BlobPart, content: bytes) -> None:
    part.write(content)
    part.finish()


def fail(*_: object) -> list[bytes]:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("failing_bytes", [SLAB_BYTES, ((2 << 20) + 777) % SLAB_BYTES], ids=["first", "last"])
def test_a_disk_that_is_full_for_the_parity_of_a_slab_is_told(
    receiver: Receiver, tmp_path: Path, failing_bytes: int
) -> None:
    def encode(slab: memoryview) -> list[bytes]:
        return fail() if len(slab) == failing_bytes else [bytes(64)]

    part = receiver.part(Shape(SLAB_BYTES, parity_code=ParityCode(1, 64, encode)))
    with pytest.raises(LibraryFull, match="the disk became full while it came"):
        receive(part, receiver.content)
    part.close()
    assert [path.stem for path in (tmp_path / "library" / "incoming").iterdir()] == [receiver.wanted.sha256]


def test_what_cannot_be_adopted_leaves_no_parity_and_no_claim(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = receiver.part(Shape(SLAB_BYTES, parity_code=PARITY))
    part.write(receiver.content)
    monkeypatch.setattr(receiver.stock, "adopt", fail)
    with pytest.raises(OSError, match="No space left"):
        part.finish()
    assert [path.stem for path in (tmp_path / "library" / "incoming").iterdir()] == [receiver.wanted.sha256]
    assert not receiver.stock.is_claimed(receiver.wanted.sha256)
