# SPDX-License-Identifier: Apache-2.0
"""Leaves stand where their symbols do."""

from __future__ import annotations

import hashlib
import random

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.leaves import LEAF_BYTES, leaf_of, leaves_of


def test_each_leaf_is_the_beginning_of_its_symbols_hash_in_file_order() -> None:
    rows = random.Random(3).randbytes(3 * ROW_BYTES)
    leaves = leaves_of(memoryview(rows))
    assert len(leaves) == 3 * COLUMNS * LEAF_BYTES
    for row, column in [(0, 0), (0, 31), (1, 0), (2, 17), (2, 31)]:
        index = row * COLUMNS + column
        digest = hashlib.sha256(rows[index * SYMBOL_BYTES : (index + 1) * SYMBOL_BYTES]).digest()
        assert leaves[index * LEAF_BYTES : (index + 1) * LEAF_BYTES] == digest[:8]


def test_the_leaf_of_a_symbol_of_zeros() -> None:
    """What pads the last row: `head -c 1408 /dev/zero | sha256sum`."""
    assert leaf_of(bytes(SYMBOL_BYTES)).hex() == "bffeeb2d12ba6108"


def test_one_changed_bit_changes_one_leaf() -> None:
    rows = bytearray(ROW_BYTES)
    before = leaves_of(memoryview(rows))
    rows[5 * SYMBOL_BYTES + 700] ^= 1
    after = leaves_of(memoryview(rows))
    changed = [i for i in range(COLUMNS) if before[8 * i : 8 * i + 8] != after[8 * i : 8 * i + 8]]
    assert changed == [5]
