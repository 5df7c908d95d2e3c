# SPDX-License-Identifier: Apache-2.0
"""What wimlib-imagex says while it works, as numbers."""

from __future__ import annotations

import re

_PROGRESS = re.compile(r"(\d+) (bytes|[KMGT]iB) of (\d+) (bytes|[KMGT]iB) \(")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def progress_of(line: str) -> tuple[int, int] | None:
    """(bytes that are done, those in all) of a line such as "Extracting file data: 5 MiB of 30 MiB (16%) done"."""
    found = _PROGRESS.search(line)
    if found is None:
        return None
    return int(found[1]) * _UNITS[found[2]], int(found[3]) * _UNITS[found[4]]
