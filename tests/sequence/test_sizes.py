# SPDX-License-Identifier: Apache-2.0
"""Sizes as people write them."""

from __future__ import annotations

import pytest

from dpd.sequence.records import SequenceError
from dpd.sequence.sizes import Share, parse_bytes, parse_share


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("512MiB", 512 << 20), ("20 GB", 20 * 10**9), (" 1TiB ", 1 << 40), ("8388607TiB", 8388607 << 40)],
)
def test_a_size(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert parse_share(text) == Share(size)


@pytest.mark.parametrize(
    "text", ["", "0B", "12", "1.5GiB", "1 gib", "-1GB", "8388608TiB", "1GBps", "9" * 100 + "B", "٣GB"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(SequenceError, match='expected a number with its unit such as "512MiB"'):
        parse_bytes(text)


def test_a_share_of_a_disk() -> None:
    assert parse_share("40%") == Share(percent=40)
    assert parse_share("100 %") == Share(percent=100)
    assert parse_share("rest").is_rest
    assert not parse_share("1MiB").is_rest


@pytest.mark.parametrize("text", ["0%", "101%", "%", "REST", "half"])
def test_no_share(text: str) -> None:
    with pytest.raises(SequenceError, match='"rest" for what others leave'):
        parse_share(text)
