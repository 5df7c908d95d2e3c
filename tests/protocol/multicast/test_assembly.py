# SPDX-License-Identifier: Apache-2.0
"""A slab out of symbols: any order, duplicates, any mix of source and parity that has k in every column."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.fec import encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROW_BYTES, ROWS, SYMBOL_BYTES
from dpd.service.isal import best_codec

CODEC = best_codec()
STALE = b"\xa5"


class Sent:
    """A slab of `rows` and its symbols: rows below ROWS are source, those above parity."""

    def __init__(self, rows: int, parity_rows: int) -> None:
        self.rows = rows
        self.slab = bytearray(random.Random(rows).randbytes(rows * ROW_BYTES))
        self._parity = encode_parity(CODEC, memoryview(self.slab), 0, parity_rows)

    def symbol(self, row: int, column: int) -> bytes:
        line = self._parity[row - ROWS] if row >= ROWS else self.slab[row * ROW_BYTES : (row + 1) * ROW_BYTES]
        return bytes(line[column * SYMBOL_BYTES : (column + 1) * SYMBOL_BYTES])


def assembly_of(sent: Sent) -> SlabAssembly:
    return SlabAssembly(7, sent.rows, memoryview(bytearray(STALE * (sent.rows * ROW_BYTES + 500))))


def add(assembly: SlabAssembly, sent: Sent, row: int, column: int) -> bool:
    if row < ROWS:
        return assembly.add_source(row, column, sent.symbol(row, column))
    return assembly.add_parity(row - ROWS, column, sent.symbol(row, column))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**32))
def test_any_order_of_any_superset_of_k_symbols_per_column_decodes(rows: int, extra: int, seed: int) -> None:
    rng = random.Random(seed)
    sent = Sent(rows, 2 * rows)
    arriving = []
    for column in range(COLUMNS):
        known = [*range(rows), *range(ROWS, ROWS + 2 * rows)]
        arriving += [(row, column) for row in rng.sample(known, min(rows + extra, len(known)))]
    rng.shuffle(arriving)
    assembly = assembly_of(sent)
    for row, column in arriving:
        add(assembly, sent, row, column)
    assert assembly.is_complete
    assert assembly.deficits() == bytes(COLUMNS)
    assembly.recover(CODEC)
    assert assembly.buffer == sent.slab


def test_a_duplicate_counts_once() -> None:
    sent = Sent(3, 2)
    assembly = assembly_of(sent)
    assert add(assembly, sent, 1, 4)
    assert not add(assembly, sent, 1, 4)
    assert add(assembly, sent, ROWS, 4)
    assert not add(assembly, sent, ROWS, 4)
    assert assembly.deficits() == bytes(3 - 2 * (c == 4) for c in range(COLUMNS))


def test_parity_that_a_column_does_not_need_is_not_kept() -> None:
    sent = Sent(1, 1)
    assembly = assembly_of(sent)
    assert add(assembly, sent, 0, 9)
    assert not add(assembly, sent, ROWS, 9)
    assert assembly.lacking == COLUMNS - 1


def test_a_row_beyond_a_short_slab_is_refused() -> None:
    assembly = assembly_of(Sent(2, 1))
    assert not assembly.add_source(2, 0, bytes(SYMBOL_BYTES))
    assert assembly.add_sources(2, 0, memoryview(bytes(ROW_BYTES))) == 0
    assert assembly.lacking == 2 * COLUMNS


def test_runs_of_any_length_count_like_single_symbols() -> None:
    sent = Sent(4, 1)
    assembly = assembly_of(sent)
    assert assembly.add_sources(0, 0, memoryview(sent.slab)[:ROW_BYTES]) == COLUMNS
    assert (
        assembly.add_sources(2, 3, memoryview(sent.slab)[2 * ROW_BYTES + 3 * SYMBOL_BYTES :][: 20 * SYMBOL_BYTES]) == 20
    )
    assert assembly.add_source(3, 5, sent.symbol(3, 5))
    assert assembly.deficits() == bytes(3 - (3 <= column < 23) - (column == 5) for column in range(COLUMNS))
    assert assembly.lacking == 3 * COLUMNS - 21


def test_a_run_that_overlaps_what_is_there_adds_only_what_is_new() -> None:
    sent = Sent(2, 1)
    assembly = assembly_of(sent)
    assert assembly.add_source(0, 7, sent.symbol(0, 7))
    assert assembly.add_sources(0, 0, memoryview(sent.slab)[:ROW_BYTES]) == COLUMNS - 1
    assert bytes(assembly.buffer[:ROW_BYTES]) == bytes(sent.slab[:ROW_BYTES])
    assert assembly.lacking == COLUMNS


def test_a_run_of_parity_counts_where_it_is_needed() -> None:
    sent = Sent(1, 1)
    assembly = assembly_of(sent)
    assert assembly.add_source(0, 0, sent.symbol(0, 0))
    row = b"".join(sent.symbol(ROWS, column) for column in range(COLUMNS))
    assert assembly.add_parities(0, 0, memoryview(row)) == COLUMNS - 1
    assert assembly.is_complete


def test_a_late_source_symbol_fills_its_place_though_parity_has_stood_in_for_it() -> None:
    """The column is complete by parity when the original comes after all: less to recover, and no double count."""
    sent = Sent(2, 1)
    assembly = assembly_of(sent)
    for column in range(COLUMNS):
        add(assembly, sent, 0, column)
        add(assembly, sent, ROWS, column)
    assert assembly.is_complete
    add(assembly, sent, 1, 3)
    assert assembly.lacking == 0
    assert assembly.recover(CODEC) == COLUMNS - 1
    assert assembly.buffer == sent.slab


def test_columns_that_lost_the_same_rows_but_got_different_parity_are_mended() -> None:
    sent = Sent(2, 2)
    assembly = assembly_of(sent)
    for column in range(COLUMNS):
        add(assembly, sent, 1, column)
        add(assembly, sent, ROWS + column % 2, column)
    assert assembly.recover(CODEC) == COLUMNS
    assert assembly.buffer == sent.slab


def test_as_many_losses_as_there_is_parity() -> None:
    sent = Sent(ROWS, PARITY_ROWS)
    assembly = assembly_of(sent)
    for column in range(COLUMNS):
        add(assembly, sent, column, column)
        for row in range(ROWS, ROWS + PARITY_ROWS):
            add(assembly, sent, row, column)
    assert assembly.is_complete
    assert assembly.recover(CODEC) == PARITY_ROWS * COLUMNS
    assert assembly.buffer == sent.slab


def test_the_buffer_given_back_is_the_whole_of_it() -> None:
    sent = Sent(1, 1)
    assembly = assembly_of(sent)
    assert len(assembly.buffer) == ROW_BYTES
    assert len(assembly.storage) == ROW_BYTES + 500
