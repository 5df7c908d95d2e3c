# SPDX-License-Identifier: Apache-2.0
"""Sizes in messages."""

from __future__ import annotations

import pytest

from dpd.target.work.size_text import shown


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1 << 19, "524288 bytes"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5120.0 GiB")],
)
def test_a_size_has_the_unit_that_people_read(size_bytes: int, text: str) -> None:
    assert shown(size_bytes) == text
