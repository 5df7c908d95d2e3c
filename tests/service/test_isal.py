# SPDX-License-Identifier: Apache-2.0
"""ISA-L gives the bytes of the standard library's codec, and its absence changes nothing but the speed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.protocol.multicast.fec import StandardCodec, encode_parity
from dpd.protocol.multicast.geometry import ROW_BYTES
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
@given(st.integers(0, 2**32), st.integers(1, 140), st.integers(1, 20), st.integers(1, 3000))
def test_both_codecs_give_the_same_bytes_for_any_matrix(seed: int, sources: int, outputs: int, length: int) -> None:
    rng = random.Random(seed)
    assert LIBRARY is not None
    matrix = [rng.randbytes(sources + rng.randrange(3)) for _ in range(outputs)]  # a line may be longer than it need be
    read = views(rng, sources, length)
    by_isal, by_standard = views(rng, outputs, length), views(rng, outputs, length)
    IsalCodec(LIBRARY).combine(matrix, read, by_isal)
    StandardCodec().combine(matrix, read, by_standard)
    assert by_isal == by_standard


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
