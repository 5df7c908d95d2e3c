# SPDX-License-Identifier: Apache-2.0
"""Sizes in messages."""

from __future__ import annotations


def shown(size_bytes: int) -> str:
    """A size for people: 3.8 GiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"
