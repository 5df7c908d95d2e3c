# SPDX-License-Identifier: Apache-2.0
"""The policy's document."""

from __future__ import annotations

import random

import msgspec
import pytest

from dpd.bus.documents import CHUNK_BYTES, check_head, pack_policy, unpack_policy
from dpd.bus.messages import PolicyHead
from dpd.errors import BusError

MODEL = random.Random(6).randbytes(3 * CHUNK_BYTES)  # does not get smaller, so it has several chunks


def packed() -> tuple[PolicyHead, list[bytes]]:
    return pack_policy("lab", 7, MODEL, at=1.0, slot=3)


def test_it_comes_back_as_it_was() -> None:
    head, chunks = packed()
    assert (head.version, head.chunks, head.slot, head.size_bytes) == (7, len(chunks), 1, len(MODEL))
    assert len(chunks) > 1
    check_head(head, "lab")
    assert unpack_policy(head, chunks) == MODEL


@pytest.mark.parametrize("place", [0, 1000, CHUNK_BYTES - 1])
def test_a_single_wrong_byte_is_found(place: int) -> None:
    head, chunks = packed()
    chunks[1] = chunks[1][:place] + bytes([chunks[1][place] ^ 1]) + chunks[1][place + 1 :]
    with pytest.raises(BusError, match="policy version 7: damaged"):
        unpack_policy(head, chunks)


def test_a_chunk_too_few_is_found() -> None:
    head, chunks = packed()
    with pytest.raises(BusError, match="damaged: expected"):
        unpack_policy(head, chunks[:-1])


def test_a_head_that_belongs_to_another_model_is_found() -> None:
    head, _ = packed()
    _, chunks = pack_policy("lab", 7, MODEL[::-1], at=1.0, slot=1)
    with pytest.raises(BusError, match="its hash is not the head's"):
        unpack_policy(head, chunks)


def test_what_unpacks_to_more_than_the_head_says_takes_no_more_memory_than_that() -> None:
    head, chunks = pack_policy("lab", 7, bytes(50_000_000), at=1.0, slot=0)
    with pytest.raises(BusError, match="damaged: expected 10 bytes"):
        unpack_policy(msgspec.structs.replace(head, size_bytes=10), chunks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "other"}, "policy of site 'other': expected site lab"),
        ({"chunks": 0}, "0 chunks"),
        ({"chunks": 10**9}, "1000000000 chunks"),
        ({"size_bytes": 1 << 40}, "expected at most"),
        ({"version": 0}, "policy version 0"),
    ],
)
def test_a_head_that_cannot_be_is_refused_before_anything_is_fetched(changes: dict[str, object], message: str) -> None:
    head, _ = packed()
    with pytest.raises(BusError, match=message):
        check_head(msgspec.structs.replace(head, **changes), "lab")
