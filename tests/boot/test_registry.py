# SPDX-License-Identifier: Apache-2.0
"""Registry hives: what is written is what hivex reads, and what a hive cannot hold is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.boot.hives import read_hive, with_hivex

from dpd.boot.registry import (
    MAX_KEYS_IN_LIST,
    MAX_VALUE_BYTES,
    Key,
    Value,
    ValueType,
    binary,
    dword,
    string,
    strings,
    write_hive,
)

KEY_NAMES = st.text(st.characters(codec="utf-16-le", exclude_characters="\0\\"), min_size=1, max_size=20)
VALUE_NAMES = st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), max_size=20)
CONTENTS = st.binary(max_size=40) | st.integers(4000, 20000).map(lambda size: bytes(range(251)) * (size // 251))


def by_upper(each: Key | Value) -> str:
    return each.name.upper()


VALUES = st.lists(
    st.builds(Value, VALUE_NAMES, st.sampled_from(ValueType), CONTENTS), max_size=4, unique_by=by_upper
).map(tuple)
TREES = st.recursive(
    st.builds(Key, KEY_NAMES, VALUES),
    lambda below: st.builds(Key, KEY_NAMES, VALUES, st.lists(below, max_size=5, unique_by=by_upper).map(tuple)),
    max_leaves=20,
)


def in_order(key: Key) -> Key:
    """The same tree with its keys as a hive orders them."""
    keys = sorted(map(in_order, key.keys), key=lambda each: each.name.upper().encode("utf-16-be"))
    return Key(key.name, key.values, tuple(keys))


@with_hivex
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(tree=TREES)
def test_any_tree_reads_back_whole_and_in_order(tree: Key, tmp_path: Path) -> None:
    assert read_hive(write_hive(tree), tmp_path) == in_order(tree)


@with_hivex
@pytest.mark.parametrize("count", [1, MAX_KEYS_IN_LIST, MAX_KEYS_IN_LIST + 1, 2000])
def test_any_number_of_keys_can_stand_side_by_side(count: int, tmp_path: Path) -> None:
    tree = Key("root", (), tuple(Key(f"key {number:05}", (dword("n", number),)) for number in range(count)))
    assert read_hive(write_hive(tree), tmp_path) == tree


@with_hivex
@pytest.mark.parametrize("size", [0, 1, 4, 5, 4056, 4060, 4061, 16344, 16345, 65536, MAX_VALUE_BYTES])
def test_a_value_of_any_length_is_one_piece(size: int, tmp_path: Path) -> None:
    tree = Key("root", (binary("", bytes(number % 251 for number in range(size))),))
    assert read_hive(write_hive(tree), tmp_path) == tree


@with_hivex
def test_texts_and_numbers_are_in_the_form_of_windows(tmp_path: Path) -> None:
    tree = Key("root", (string("a", "Öl"), strings("b", ["1", "23"]), strings("c", []), dword("d", 0x10200003)))
    found = {value.name: value.content for value in read_hive(write_hive(tree), tmp_path).values}
    assert found == {
        "a": "Öl\0".encode("utf-16-le"),
        "b": "1\00023\0\0".encode("utf-16-le"),
        "c": b"\0\0",
        "d": b"\x03\x00\x20\x10",
    }


def cells_of(hive: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, size (negative: in use) and content of each cell, bin after bin."""
    cells, at = [], 4096
    while at < len(hive):
        magic, offset, size = struct.unpack_from("<4sII", hive, at)
        assert (magic, offset, size % 4096) == (b"hbin", at - 4096, 0)
        within, end = at + 32, at + size
        while within < end:
            length = struct.unpack_from("<i", hive, within)[0]
            assert length
            assert abs(length) % 8 == 0
            cells.append((within - 4096, length, hive[within + 4 : within + abs(length)]))
            within += abs(length)
        assert within == end, "a cell crosses its bin"
        at += size
    return cells


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES)
def test_bins_are_filled_with_cells_and_the_base_block_tells_their_size(tree: Key) -> None:
    hive = write_hive(tree, "BCD")
    used = [cell for cell in cells_of(hive) if cell[1] < 0]
    assert sum(content[:2] == b"nk" for _, _, content in used) >= 1
    magic, first, second, _, major, minor, _, _, root, size = struct.unpack_from("<4sIIQIIIIII", hive)
    assert (magic, first == second, major, minor, size) == (b"regf", True, 1, 3, len(hive) - 4096)
    assert root in [offset for offset, _, content in used if content[:2] == b"nk"]
    checksum = 0
    for (word,) in struct.iter_unpack("<I", hive[:508]):
        checksum ^= word
    assert struct.unpack_from("<I", hive, 508)[0] == checksum


def test_all_keys_share_one_security_descriptor_that_counts_them() -> None:
    tree = Key("root", (), (Key("a", (), (Key("b"),)), Key("c")))
    cells = cells_of(write_hive(tree))
    (descriptor,) = [(offset, content) for offset, _, content in cells if content[:2] == b"sk"]
    ahead, behind, count = struct.unpack_from("<III", descriptor[1], 4)
    assert (ahead, behind, count) == (descriptor[0], descriptor[0], 4)
    keys = [content for _, _, content in cells if content[:2] == b"nk"]
    assert {struct.unpack_from("<I", content, 0x2C)[0] for content in keys} == {descriptor[0]}


def test_the_same_tree_is_the_same_bytes() -> None:
    tree = Key("root", (dword("a", 1),), (Key("b"), Key("a")))
    assert write_hive(tree) == write_hive(Key("root", (dword("a", 1),), (Key("a"), Key("b"))))


@pytest.mark.parametrize(
    "tree",
    [
        Key(""),
        Key("a\\b"),
        Key("a\0"),
        Key("a" * 256),
        Key("a", (), (Key("x"), Key("X"))),
        Key("a", (dword("v", 1), dword("V", 1))),
        Key("a", (dword("v\0", 1),)),
        Key("a", (dword("v" * 16384, 1),)),
        Key("a", (binary("v", bytes(MAX_VALUE_BYTES + 1)),)),
    ],
)
def test_what_a_hive_cannot_hold_is_refused(tree: Key) -> None:
    with pytest.raises(ValueError, match=r"name|bytes"):
        write_hive(tree)


def test_keys_without_end_are_refused() -> None:
    tree = Key("deepest")
    for _ in range(70):
        tree = Key("k", (), (tree,))
    with pytest.raises(ValueError, match="nested"):
        write_hive(tree)


def test_a_text_that_would_end_early_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        string("a", "b\0c")
