# SPDX-License-Identifier: Apache-2.0
"""Files below a folder that others may write to while it is read."""

from __future__ import annotations

import os
from pathlib import Path


def open_below(folder: Path, path: str) -> int:
    """A descriptor for reading of a file below a folder, by its path with "/": name after name, so that a link put there by
    somebody else leads nowhere, and without waiting for the writer of a FIFO. The folder itself may be a link. Raises
    OSError."""
    *folders, last = path.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
