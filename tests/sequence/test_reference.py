# SPDX-License-Identifier: Apache-2.0
"""How sequences are called and named."""

from __future__ import annotations

import pytest

from dpd.sequence.records import SequenceError
from dpd.sequence.reference import parse_reference, write_reference


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [("debian", "debian", 0), ("Win-11_x64.de@3", "Win-11_x64.de", 3), ("a@2147483647", "a", 2147483647)],
)
def test_a_reference_is_read_and_written(text: str, name: str, version: int) -> None:
    assert parse_reference(text) == (name, version)
    assert write_reference(name, version) == text


@pytest.mark.parametrize(
    "text",
    ["", "@1", "a b", "-a", "a" * 51, "a@", "a@0", "a@01", "a@x", "a@1@2", "a@2147483648", "a\n", "a@1\n", "../a"],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(SequenceError, match="expected"):
        parse_reference(text)
