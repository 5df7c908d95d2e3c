# SPDX-License-Identifier: Apache-2.0
"""wimlib's lines as numbers."""

from __future__ import annotations

import pytest

from dpd.target.images.wimlib import progress_of


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("Extracting file data: 5 MiB of 30 MiB (16%) done", (5 << 20, 30 << 20)),
        ("Archiving file data: 1 GiB of 2 GiB (50%) done", (1 << 30, 2 << 30)),
        ("Archiving file data: 12 bytes of 40 KiB (0%) done", (12, 40 << 10)),
        ("Applying image 1", None),
        ("", None),
    ],
)
def test_progress_is_bytes(line: str, numbers: tuple[int, int] | None) -> None:
    assert progress_of(line) == numbers
