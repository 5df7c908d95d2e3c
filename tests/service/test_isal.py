# SPDX-License-Identifier: Apache-2.0
"""ISA-L gives the bytes of the standard library's codec, and its absence changes nothing but the speed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.fec import Codec, StandardCodec, encode_parity, recover_columns
from dpd.protocol.multicast.geometry import ROW_BYTES, SYMBOL_BYTES
from dpd.service import isal
from dpd.service.isal import IsalCodec, best_codec

LIBRARY = isal._load()
needs_isal = pytest.mark.skipif(LIBRARY is None, reason="libisal.so.2 is missing, and pyeclib, which brings it, too")


@pytest.fixture
def codec() -> IsalCodec:
    assert LIBRARY is not None
    return IsalCodec(LIBRARY)


def views(rng: random.Random, count: int, length: int) -> list[memoryview]:
    return [memoryview(bytearray(rng.randbytes(length))) for _ in range(count)]


@needs_isal
@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 140), st.integers(1, 20), st.integers(1, 3000), st.sampled_from([0, 1, 500])
)
def test_both_codecs_give_the_same_bytes_for_any_matrix(
    seed: int, sources: int, outputs: int, length: int, gap: int
) -> None:
    rng = random.Random(seed)
    assert LIBRARY is not None
    matrix = [rng.randbytes(sources + rng.randrange(3)) for _ in range(outputs)]  # a line may be longer than it need be
    (read,) = views(rng, 1, sources * (length + gap) - gap)
    by_isal, by_standard = views(rng, outputs, length), views(rng, outputs, length)
    IsalCodec(LIBRARY).combine(matrix, read, length + gap, by_isal)
    StandardCodec().combine(matrix, read, length + gap, by_standard)
    assert by_isal == by_standard


@needs_isal
@pytest.mark.parametrize("sources", [9, 16, 17, 100, 128])
@pytest.mark.parametrize("outputs", [1, 3, isal.GROUPED_ROWS, isal.GROUPED_ROWS + 1])
@pytest.mark.parametrize("length", [isal.GROUPED_BYTES - 1, isal.GROUPED_BYTES, isal.GROUPED_BYTES + 77])
def test_sources_taken_in_groups_give_the_same_bytes(codec: IsalCodec, sources: int, outputs: int, length: int) -> None:
    rng = random.Random(sources)
    matrix = [rng.randbytes(128) for _ in range(outputs)]
    (read,) = views(rng, 1, (sources - 1) * (length + 100) + length)
    by_isal, by_standard = views(rng, outputs, length), views(rng, outputs, length)
    codec.combine(matrix, read, length + 100, by_isal)
    StandardCodec().combine(matrix, read, length + 100, by_standard)
    assert by_isal == by_standard


@needs_isal
@pytest.mark.parametrize("lost", [1, 5, 127])
@pytest.mark.parametrize(("first", "columns"), [(0, 1), (31, 1), (3, 9), (0, 32)])
def test_both_codecs_recover_the_same_slab(codec: IsalCodec, lost: int, first: int, columns: int) -> None:
    rng = random.Random(lost)
    slab = bytearray(rng.randbytes(128 * ROW_BYTES))
    missing = rng.sample(range(128), lost)
    span = slice(first * SYMBOL_BYTES, (first + columns) * SYMBOL_BYTES)
    parity = {r: row[span] for r, row in enumerate(encode_parity(codec, memoryview(slab), 0, lost))}
    damaged = bytearray(slab)
    for row in missing:
        damaged[row * ROW_BYTES + span.start : row * ROW_BYTES + span.stop] = bytes(columns * SYMBOL_BYTES)
    codecs: list[Codec] = [
        codec,
        *([StandardCodec()] if lost * columns <= 10 else []),
    ]  # 127 x 32 would take it a minute
    for each in codecs:
        mended = bytearray(damaged)
        recover_columns(each, memoryview(mended), first, columns, missing, parity)
        assert mended == slab


@needs_isal
def test_its_memory_does_not_grow_with_the_patterns_of_loss(codec: IsalCodec) -> None:
    """Tables of a large matrix take half a megabyte: they are not kept."""
    rng = random.Random(6)
    (read,) = views(rng, 1, 128 * 16)
    outputs = views(rng, 127, 16)
    for _ in range(3):
        codec.combine([rng.randbytes(128) for _ in range(127)], read, 16, outputs)
    assert codec._kept_tables.cache_info().currsize == 0
    for _ in range(300):
        codec.combine([rng.randbytes(128)], read, 16, outputs[:1])
    assert codec._kept_tables.cache_info().currsize == 256


@needs_isal
def test_parity_of_a_slab_is_the_same_by_both(codec: IsalCodec) -> None:
    slab = memoryview(bytearray(random.Random(5).randbytes(12 * ROW_BYTES)))
    assert encode_parity(codec, slab, 0, 4) == encode_parity(StandardCodec(), slab, 0, 4)


@needs_isal
def test_the_best_codec_is_isal_where_it_is(codec: IsalCodec) -> None:
    assert best_codec().name == codec.name == "isa-l"


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    isal._load.cache_clear()
    monkeypatch.setattr(isal, "_candidates", lambda: iter(["libdoes-not-exist.so.1", "libc.so.6"]))
    yield
    isal._load.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_without_a_usable_library_the_standard_codec_serves() -> None:
    """The second candidate loads, but has none of the functions."""
    assert best_codec().name == "stdlib"
