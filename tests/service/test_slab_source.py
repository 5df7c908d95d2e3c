# SPDX-License-Identifier: Apache-2.0
"""A sender's symbols out of a real file: padding, parity in order, and what happens when the disk does not do its part."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpd.errors import ContentCorrupt
from dpd.protocol.multicast.fec import encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.sender import Train
from dpd.service.isal import best_codec
from dpd.service.slab_source import SlabSource

CODEC = best_codec()
SIZE = SLAB_BYTES + 2 * ROW_BYTES + 100
CONTENT = random.Random(3).randbytes(SIZE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def source(path: Path) -> Iterator[SlabSource]:
    source = SlabSource(os.open(path, os.O_RDONLY), Geometry(SIZE), CODEC)
    yield source
    if not source._is_closed:
        source.close()


def row_train(slab: int, row: int) -> Train:
    return Train(slab, row, None, bytes(COLUMNS * HEADER_BYTES))


def symbols_of(source: SlabSource, train: Train) -> list[bytes]:
    pieces = source.pieces(train)
    assert [len(piece) for piece in pieces] == [HEADER_BYTES, SYMBOL_BYTES] * train.count
    return [bytes(piece) for piece in pieces[1::2]]


@pytest.mark.parametrize(("slab", "row"), [(0, 0), (0, ROWS - 1), (1, 0), (1, 1)])
def test_a_row_is_the_file(source: SlabSource, slab: int, row: int) -> None:
    start = slab * SLAB_BYTES + row * ROW_BYTES
    assert b"".join(symbols_of(source, row_train(slab, row))) == CONTENT[start : start + ROW_BYTES]


def test_the_last_row_is_padded_with_zeros(source: SlabSource) -> None:
    assert b"".join(symbols_of(source, row_train(1, 2))) == CONTENT[-100:].ljust(ROW_BYTES, b"\0")


def padded(slab: int) -> memoryview:
    rows = -(-len(CONTENT[slab * SLAB_BYTES :][:SLAB_BYTES]) // ROW_BYTES)
    return memoryview(bytearray(CONTENT[slab * SLAB_BYTES :][:SLAB_BYTES].ljust(rows * ROW_BYTES, b"\0")))


@pytest.mark.parametrize("slab", [0, 1])
def test_parity_is_that_of_the_padded_slab_and_its_rows_keep_their_numbers(source: SlabSource, slab: int) -> None:
    source.compute_parity(slab, 0, 2)
    source.compute_parity(slab, 2, 3)
    expected = encode_parity(CODEC, padded(slab), 0, 5)
    wanted = [(ROWS + 4, 7), (ROWS, 31), (0, 1)]
    got = symbols_of(source, Train(slab, ROWS, wanted, bytes(3 * HEADER_BYTES)))
    assert got[0] == expected[4][7 * SYMBOL_BYTES : 8 * SYMBOL_BYTES]
    assert got[1] == expected[0][31 * SYMBOL_BYTES :]
    assert got[2] == CONTENT[slab * SLAB_BYTES + SYMBOL_BYTES :][:SYMBOL_BYTES]


def test_forgotten_parity_is_computed_again_from_its_first_row(source: SlabSource) -> None:
    source.compute_parity(0, 0, 3)
    source.forget_parity(0)
    source.compute_parity(0, 0, 1)
    (symbol,) = symbols_of(source, Train(0, ROWS, [(ROWS, 0)], bytes(HEADER_BYTES)))
    assert symbol == encode_parity(CODEC, padded(0), 0, 1)[0][:SYMBOL_BYTES]


def test_a_file_that_became_shorter_is_an_error_and_no_crash(source: SlabSource, path: Path) -> None:
    os.truncate(path, SLAB_BYTES + 10)
    with pytest.raises(OSError, match="shorter"):
        source.compute_parity(1, 0, 1)
    source.compute_parity(0, 0, 1)


@pytest.mark.parametrize(
    "change", [lambda p: os.truncate(p, SIZE - 1), lambda p: os.truncate(p, 0)], ids=["cut", "empty"]
)
def test_a_file_too_short_from_the_start_is_refused_and_closed(path: Path, change: Callable[[Path], None]) -> None:
    change(path)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(ContentCorrupt, match=rf"its {SIZE} bytes.*dpd content verify"):
        SlabSource(descriptor, Geometry(SIZE), CODEC)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_closing_waits_for_nobody_and_leaves_nothing_open(source: SlabSource) -> None:
    pieces = source.pieces(row_train(0, 0))
    descriptor = source._descriptor
    source.close()
    assert bytes(pieces[1]) == CONTENT[:SYMBOL_BYTES], "a train under way still has its bytes"
    source.compute_parity(0, 0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
