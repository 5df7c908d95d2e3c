# SPDX-License-Identifier: Apache-2.0
"""Chunks end where the content says, an index comes back as it was, and a plan by two indexes makes the new blob."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.content.chunks import (
    GAP_BYTES,
    MAGIC,
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    WANTED_CHUNK_BYTES,
    Chunker,
    ChunkIndex,
    DeltaPlan,
    Step,
    can_cut,
    missing,
)
from dpd.errors import ContentCorrupt

MIB = 1 << 20


def index_of(content: bytes, piece_bytes: int = MIB) -> ChunkIndex:
    chunker = Chunker()
    for at in range(0, len(content), piece_bytes):
        chunker.update(memoryview(content)[at : at + piece_bytes])
    chunker.finish()
    return chunker.index()


def carry_out(plan: DeltaPlan, new: bytes, old: bytes) -> bytes:
    """As a pull does it: copies out of the old one, fetches out of the new one; steps leave no gap."""
    made = bytearray()
    for step in plan.steps:
        assert step.offset == len(made)
        source, begin = (new, step.offset) if step.old_offset is None else (old, step.old_offset)
        made += source[begin : begin + step.size_bytes]
    return bytes(made)


CONTENT = random.Random(7).randbytes(9 * MIB + 4321)


def test_this_machine_can_cut() -> None:
    assert can_cut()


def test_chunks_are_the_whole_content_in_order_and_of_possible_lengths() -> None:
    index, at = index_of(CONTENT), 0
    assert index.size_bytes == len(CONTENT)
    assert 9 * MIB // (2 * WANTED_CHUNK_BYTES) < len(index) < 9 * MIB // (WANTED_CHUNK_BYTES // 2)
    for offset, length, digest in index:
        assert offset == at
        assert digest == blake3(CONTENT[at : at + length]).digest()
        at += length
    assert all(MIN_CHUNK_BYTES <= length <= MAX_CHUNK_BYTES for _, length, _ in list(index)[:-1])


@pytest.mark.parametrize("piece_bytes", [1000, MIN_CHUNK_BYTES, 300_001, MAX_CHUNK_BYTES, MIB, 4 * MIB + 1, 64 * MIB])
def test_how_the_stream_was_cut_into_pieces_makes_no_difference(piece_bytes: int) -> None:
    assert index_of(CONTENT, piece_bytes) == index_of(CONTENT)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 700_000), min_size=1, max_size=8), st.integers(0, 100))
def test_pieces_of_any_lengths_give_the_same_chunks(pieces: list[int], seed: int) -> None:
    content, chunker, at = random.Random(seed).randbytes(sum(pieces)), Chunker(), 0
    for length in pieces:
        chunker.update(memoryview(content)[at : at + length])
        at += length
    chunker.finish()
    assert chunker.index() == index_of(content)


def test_zeros_are_cut_at_the_most_that_a_chunk_may_have() -> None:
    index = index_of(bytes(MIB + 5))
    assert [length for _, length, _ in index] == [MAX_CHUNK_BYTES] * (MIB // MAX_CHUNK_BYTES) + [5]
    assert len({digest for _, _, digest in list(index)[:-1]}) == 1


def test_nothing_has_no_chunks() -> None:
    index = index_of(b"")
    assert (index, list(index)) == (ChunkIndex(b""), [])
    assert ChunkIndex.decode(index.encode()) == index


def test_an_index_comes_back() -> None:
    index = index_of(CONTENT)
    document = index.encode()
    assert len(document) == 12 + 36 * len(index)
    assert ChunkIndex.decode(document) == index


GOOD = index_of(CONTENT[: 2 * MIB]).encode()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "no chunk index: starts with nothing"),
        (b"dpdchnk2" + GOOD[8:], "no chunk index: starts with 64706463686e6b32"),
        (GOOD[:11], "no chunk index"),
        (GOOD[:-1], "bytes, expected"),
        (GOOD + b"\0", "bytes, expected"),
        (struct.pack("!8sI", MAGIC, 2**32 - 1), "has 12 bytes, expected 154618822632"),
        (struct.pack("!8sII32s", MAGIC, 1, 0, bytes(32)), f"chunk 0 has 0 bytes, expected 1 to {MAX_CHUNK_BYTES}"),
        (struct.pack("!8sII32s", MAGIC, 1, MAX_CHUNK_BYTES + 1, bytes(32)), f"chunk 0 has {MAX_CHUNK_BYTES + 1} bytes"),
        (
            struct.pack("!8sII32sI32s", MAGIC, 2, 9, bytes(32), 9, bytes(32)),
            f"chunk 0 has 9 bytes, expected {MIN_CHUNK_BYTES}",
        ),
    ],
)
def test_what_is_no_index_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(ContentCorrupt, match=reason):
        ChunkIndex.decode(document)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_index_or_are_refused(document: bytes) -> None:
    try:
        index = ChunkIndex.decode(document)
    except ContentCorrupt:
        return
    assert index.encode() == document


def test_an_insertion_costs_its_own_chunk_and_little_more() -> None:
    old, new = CONTENT, CONTENT[: 4 * MIB] + b"inserted" + CONTENT[4 * MIB :]
    plan = missing(index_of(new), index_of(old))
    assert carry_out(plan, new, old) == new
    assert plan.fetch_bytes + plan.copy_bytes == len(new)
    assert plan.fetch_bytes <= 2 * MAX_CHUNK_BYTES
    assert len(plan.steps) == 3  # copy, fetch, copy: neighbours are joined


def test_the_same_content_needs_nothing_and_another_one_all() -> None:
    index = index_of(CONTENT)
    other = index_of(random.Random(8).randbytes(MIB))
    assert missing(index, index) == DeltaPlan((Step(0, len(CONTENT), 0),))
    assert missing(index, other) == DeltaPlan((Step(0, len(CONTENT), None),))
    assert missing(index, ChunkIndex(b"")).fetch_bytes == len(CONTENT)


def test_blocks_that_changed_places_are_found() -> None:
    blocks = [random.Random(3 + n).randbytes(MIB) for n in range(6)]
    old, new = b"".join(blocks), b"".join(blocks[n] for n in (3, 0, 5, 1, 4, 2))
    plan = missing(index_of(new), index_of(old))
    assert carry_out(plan, new, old) == new
    assert plan.copy_bytes > len(new) // 2


def test_a_hash_with_another_length_is_no_copy() -> None:
    """Only a source that lies sends such an index; the bytes are then fetched."""
    old, new = ChunkIndex.of((20_000,), (bytes(32),)), ChunkIndex.of((30_000,), (bytes(32),))
    assert missing(new, old) == DeltaPlan((Step(0, 30_000, None),))


def test_a_small_copy_between_two_fetches_is_fetched() -> None:
    names = [bytes([n]) * 32 for n in range(4)]
    lengths = (20_000, GAP_BYTES - 1, 20_000)
    new, old = ChunkIndex.of(lengths, tuple(names[:3])), ChunkIndex.of((GAP_BYTES - 1,), (names[1],))
    assert missing(new, old) == DeltaPlan((Step(0, sum(lengths), None),))
    last = ChunkIndex.of((20_000, GAP_BYTES - 1), tuple(names[:2]))
    assert [step.is_fetch for step in missing(last, old).steps] == [True, False]


def test_an_index_of_a_large_image_takes_little_more_than_its_file() -> None:
    document = ChunkIndex.of([WANTED_CHUNK_BYTES] * 100_000, [bytes([7]) * 32] * 100_000).encode()
    tracemalloc.start()
    try:
        index = ChunkIndex.decode(document)
        assert (len(index), index.size_bytes) == (100_000, 100_000 * WANTED_CHUNK_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * len(document)
    finally:
        tracemalloc.stop()
