# SPDX-License-Identifier: Apache-2.0
"""A sender's symbols out of a real file: padding, parity in order, and what happens when the disk does not do its part."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dpd.content.library import Library
from dpd.errors import ContentCorrupt
from dpd.protocol.multicast.fec import StandardCodec, encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.sender import Train
from dpd.service.isal import best_codec
from dpd.service.multicast.slab_source import SlabSource, open_slab_source, parity_code

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


def test_rows_that_gave_way_are_the_same_when_they_come_back(
    source: SlabSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source._parity, "_budget_bytes", 2 * ROW_BYTES)
    source.compute_parity(0, 0, 127)
    source.compute_parity(1, 0, 2)
    expected = encode_parity(CODEC, padded(0), 0, 127)
    for row in (0, 60, 126):
        (symbol,) = symbols_of(source, Train(0, ROWS, [(ROWS + row, 3)], bytes(HEADER_BYTES)))
        assert symbol == expected[row][3 * SYMBOL_BYTES : 4 * SYMBOL_BYTES]
    assert source._parity.computed_again == 3


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


# ---- parity that was stored when the image was published


@pytest.fixture
def library(tmp_path: Path, path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        library.parity_code = parity_code(3, CODEC)
        library.publish(path, "P")
        yield library


class CountingCodec:
    """The real one, and how many rows it was asked for."""

    name = CODEC.name
    rows = 0

    def combine(
        self, coefficients: Sequence[bytes], sources: memoryview, stride: int, outputs: Sequence[memoryview]
    ) -> None:
        self.rows += len(outputs)
        CODEC.combine(coefficients, sources, stride, outputs)


def parity_symbols(source: SlabSource, slab: int, rows: Sequence[int]) -> list[bytes]:
    return symbols_of(source, Train(slab, ROWS, [(ROWS + row, 5) for row in rows], bytes(len(rows) * HEADER_BYTES)))


def expected_symbols(slab: int, count: int) -> list[bytes]:
    rows = encode_parity(CODEC, padded(slab), 0, count)
    return [bytes(row[5 * SYMBOL_BYTES : 6 * SYMBOL_BYTES]) for row in rows]


@pytest.mark.parametrize("slab", [0, 1])
def test_stored_rows_are_those_of_the_code_and_cost_no_computation(library: Library, slab: int) -> None:
    codec = CountingCodec()
    with closing(open_slab_source(library, library.find("P"), codec)) as source:
        source.compute_parity(slab, 0, 2)
        source.compute_parity(slab, 2, 1)
        assert parity_symbols(source, slab, range(3)) == expected_symbols(slab, 3)
        assert codec.rows == 0
        source.compute_parity(slab, 3, 2)
        assert parity_symbols(source, slab, range(5)) == expected_symbols(slab, 5)
        assert codec.rows == 2
        source.forget_parity(slab)
        source.compute_parity(slab, 0, 4)
        assert parity_symbols(source, slab, range(4)) == expected_symbols(slab, 4)
        assert codec.rows == 3


def sidecar_of(tmp_path: Path) -> Path:
    (sidecar,) = tmp_path.glob("library/blobs/??/*.parity")
    return sidecar


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["reason"] for record in caplog.records if "stored parity" in record.message]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), None),
        (lambda path: os.truncate(path, 5000), "bytes, expected"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "that of another image"),
    ],
    ids=["missing", "short", "zeros"],
)
def test_a_sidecar_that_cannot_be_used_is_told_and_done_without(
    library: Library,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Path], None],
    reason: str | None,
) -> None:
    change(sidecar_of(tmp_path))
    with closing(open_slab_source(library, library.find("P"), CODEC)) as source:
        source.compute_parity(0, 0, 3)
        assert parity_symbols(source, 0, range(3)) == expected_symbols(0, 3)
    assert len(told(caplog)) == (reason is not None)
    assert all(str(reason) in each for each in told(caplog))


def test_damage_found_while_it_is_used_is_told_once_and_never_sent(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codec = CountingCodec()
    with closing(open_slab_source(library, library.find("P"), codec)) as source:
        with open(sidecar_of(tmp_path), "r+b") as file:
            for row in range(6):  # of both slabs
                file.seek(-(row * ROW_BYTES + 5 * SYMBOL_BYTES + 1), os.SEEK_END)
                file.write(b"\xee\xee")
        for slab in (0, 1):
            source.compute_parity(slab, 0, 3)
            assert parity_symbols(source, slab, range(3)) == expected_symbols(slab, 3)
    assert codec.rows == 6
    assert told(caplog) == ["stored parity of slab 0 is damaged"]


def test_closing_closes_the_sidecar(library: Library) -> None:
    source = open_slab_source(library, library.find("P"), CODEC)
    stored = source._stored
    assert stored is not None
    source.close()
    with pytest.raises(ContentCorrupt, match="Bad file descriptor"):
        stored.rows(0)


def test_publishing_does_not_wait_for_a_slow_codec(caplog: pytest.LogCaptureFixture) -> None:
    assert parity_code(4, StandardCodec()) is None
    assert "without ISA-L" in told(caplog)[0]
    assert parity_code(0, CODEC) is None
