# SPDX-License-Identifier: Apache-2.0
"""Sizes as documents say them: "512MiB", "40%" of a disk, or the "rest" of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dpd.sequence.records import SequenceError

MAX_BYTES = 2**63 - 1
REST = "rest"

_BYTES = re.compile(r"([1-9][0-9]{0,18}) ?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)")
_PERCENT = re.compile(r"([1-9][0-9]?|100) ?%")
_UNITS = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}


@dataclass(frozen=True, slots=True)
class Share:
    """Of a disk: so many bytes, so many percent of it, or with neither what others leave."""

    size_bytes: int = 0
    percent: int = 0

    @property
    def is_rest(self) -> bool:
        return not self.size_bytes and not self.percent


def parse_bytes(text: str) -> int:
    """Raises SequenceError."""
    found = _BYTES.fullmatch(text.strip())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < size <= MAX_BYTES:
        raise SequenceError(f'size {text[:40]!r}: expected a number with its unit such as "512MiB" or "20GB"')
    return size


def parse_share(text: str) -> Share:
    """Raises SequenceError."""
    if text.strip() == REST:
        return Share()
    if found := _PERCENT.fullmatch(text.strip()):
        return Share(percent=int(found[1]))
    try:
        return Share(parse_bytes(text))
    except SequenceError:
        raise SequenceError(
            f'size {text[:40]!r}: expected such as "512MiB", "40%" of the disk, or "{REST}" for what others leave'
        ) from None
