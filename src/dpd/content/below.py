# SPDX-License-Identifier: Apache-2.0
"""Files below a folder that others may write to while it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self


def open_below(folder: Path, path: str) -> int:
    """A descriptor for reading of a file below a folder, by its path with "/": name after name, so that a link put there by
    somebody else leads nowhere, and without waiting for the writer of a FIFO. The folder itself may be a link. Raises
    OSError."""
    with FilesBelow(folder) as files:
        return files.open(path)


class FilesBelow:
    """Opens many files below one folder, each as `open_below`. The folder of the last one stays open for the next, and is
    the one that was found then, whatever has its name by now. For one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at, self._open_path = -1, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, path: str) -> int:
        """Raises OSError."""
        folder, _, name = path.rpartition("/")
        if self._at < 0 or folder != self._open_path:
            self.close()
            self._at, self._open_path = _open_folder(self.folder, folder), folder
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._at)

    def close(self) -> None:
        """Idempotent; the next file is looked for from the top."""
        if self._at >= 0:
            os.close(self._at)
        self._at = -1


def _open_folder(top: Path, path: str) -> int:
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.split("/") if path else ():
        try:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at
