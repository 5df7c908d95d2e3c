# SPDX-License-Identifier: Apache-2.0
"""A slab out of symbols: any order, duplicates, any mix of source and parity that has k in every column."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.fec import encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROW_BYTES, ROWS, SYMBOL_BYTES
from dpd.protocol.multicast.leaves import leaves_of
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


# ---- leaves


def take_in(
    sent: Sent, lost: dict[int, list[int]], parity: dict[int, list[int]], forged: set[tuple[int, int]]
) -> SlabAssembly:
    """An assembly that is complete and recovered: `lost` source rows and `parity` rows that came, per column; what is
    `forged`, (row, column), came with other bytes."""
    assembly = assembly_of(sent)
    rng = random.Random("forged")
    for column in range(COLUMNS):
        rows = [row for row in range(sent.rows) if row not in lost.get(column, [])]
        for row in [*rows, *(ROWS + r for r in parity.get(column, []))]:
            symbol = rng.randbytes(SYMBOL_BYTES) if (row, column) in forged else sent.symbol(row, column)
            if row < ROWS:
                assert assembly.add_source(row, column, symbol)
            else:
                assert assembly.add_parity(row - ROWS, column, symbol)
    assert assembly.is_complete
    assembly.recover(CODEC)
    assert (assembly.buffer != sent.slab) == bool(forged), "or the test shows nothing"
    return assembly


def mend(assembly: SlabAssembly, sent: Sent, first_parity: int) -> None:
    """One round of repair by somebody honest: what each column lacks, in parity rows never sent before."""
    for column, deficit in enumerate(assembly.deficits()):
        for i in range(deficit):
            assert add(assembly, sent, ROWS + first_parity + i, column)
    assert assembly.is_complete
    assembly.recover(CODEC)
    assert assembly.buffer == sent.slab


def test_forged_source_symbols_are_dropped_and_the_rest_is_kept() -> None:
    sent = Sent(6, 4)
    assembly = take_in(sent, {}, {}, {(0, 0), (5, 31), (2, 7), (3, 7)})
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 4
    assert assembly.deficits() == bytes((c in (0, 31)) + 2 * (c == 7) for c in range(COLUMNS))
    mend(assembly, sent, 0)


def test_a_forged_parity_symbol_spoils_its_column_alone() -> None:
    sent = Sent(6, 8)
    assembly = take_in(sent, {4: [1, 2], 9: [0]}, {4: [0, 1], 9: [0]}, {(ROWS + 1, 4)})
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 2
    assert assembly.deficits()[4] == 2
    mend(assembly, sent, 2)


def test_what_was_recovered_beside_a_forged_symbol_goes_with_it() -> None:
    """Parity recovers another symbol of the column from the forged one: both are wrong."""
    sent = Sent(6, 8)
    assembly = take_in(sent, {4: [1, 2]}, {4: [0, 1]}, {(5, 4)})
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 3
    mend(assembly, sent, 2)


def test_forged_source_and_parity_in_one_column_still_take_one_round() -> None:
    sent = Sent(6, 8)
    assembly = take_in(sent, {4: [1, 2]}, {4: [0, 1]}, {(5, 4), (ROWS, 4)})
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 3
    mend(assembly, sent, 2)


def test_where_everything_is_forged_everything_is_asked_for() -> None:
    sent = Sent(3, 3)
    assembly = take_in(sent, {}, {}, {(row, column) for row in range(3) for column in range(COLUMNS)})
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 3 * COLUMNS
    mend(assembly, sent, 0)


def test_where_nothing_is_forged_nothing_is_dropped() -> None:
    sent = Sent(3, 2)
    assembly = take_in(sent, {8: [1]}, {8: [1]}, set())
    assert assembly.keep_confirmed(leaves_of(memoryview(sent.slab))) == 0
    assert assembly.is_complete
    assert assembly.recover(CODEC) == 0
    assert assembly.buffer == sent.slab


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32))
def test_whatever_is_forged_one_honest_round_of_repair_mends_it(rows: int, share: float, seed: int) -> None:
    rng = random.Random(seed)
    sent = Sent(rows, 3 * rows)
    lost = {column: rng.sample(range(rows), rng.randrange(rows + 1)) for column in range(COLUMNS)}
    parity = {column: rng.sample(range(rows), len(lost[column])) for column in range(COLUMNS)}
    came = [(row, c) for c in range(COLUMNS) for row in range(rows) if row not in lost[c]]
    came += [(ROWS + row, c) for c in range(COLUMNS) for row in parity[c]]
    forged = {symbol for symbol in came if rng.random() < share} or {came[0]}
    assembly = take_in(sent, lost, parity, forged)
    assembly.keep_confirmed(leaves_of(memoryview(sent.slab)))
    mend(assembly, sent, rows)


def test_symbols_kept_are_not_landed_over() -> None:
    """What the network brings next fills gaps between confirmed symbols: it has no place to land as a whole."""
    sent = Sent(4, 1)
    assembly = take_in(sent, {}, {}, {(2, 2)})
    assembly.keep_confirmed(leaves_of(memoryview(sent.slab)))
    assert assembly.landing == -1
