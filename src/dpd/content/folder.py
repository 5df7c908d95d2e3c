# SPDX-License-Identifier: Apache-2.0
"""A folder that is to be published: all that is below it, as paths that content may have. Nothing is read yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpd.content.description import path_trouble
from dpd.errors import ContentError

MAX_DEPTH = 100  # a tree that goes deeper is a mistake, such as a folder that was copied into itself


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file below the folder: its path in the content, and where it is now. `below`: the folder, below which no link may
    lead elsewhere; None for a file that was named itself."""

    path: str
    source: str | Path  # a path as an object takes as long to make as a small file to open
    size_bytes: int
    below: Path | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found, in the order of the paths; `directories` are the empty ones."""

    root: Path
    files: tuple[FolderFile, ...]
    directories: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.files)


def scan(root: Path) -> Folder:
    """Raises ContentError that names the first thing below the folder that cannot be content."""
    files: list[FolderFile] = []
    directories: list[str] = []
    for entry, path in _entries(root, "", 0):
        if entry is None:
            directories.append(path)
        else:
            files.append(FolderFile(path, entry.path, entry.stat(follow_symlinks=False).st_size, root))
    if not files:
        raise ContentError(f"{root}: no files in this folder; expected something to publish")
    files.sort(key=lambda each: each.path)
    return Folder(root, tuple(files), tuple(sorted(directories)))


def _entries(folder: Path, prefix: str, depth: int) -> Iterator[tuple[os.DirEntry[str] | None, str]]:
    """Each file with its path, and None with that of each empty folder but the topmost."""
    if depth > MAX_DEPTH:
        raise ContentError(f"{folder}: {depth} folders deep, expected at most {MAX_DEPTH}")
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise ContentError(f"{folder}: cannot be read: {error.strerror}") from None
    if not entries and prefix:
        yield None, prefix.removesuffix("/")
    for entry in entries:
        path = prefix + entry.name
        _check(entry, path)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{path}/", depth + 1)
        else:
            yield entry, path


def _check(entry: os.DirEntry[str], path: str) -> None:
    trouble = path_trouble(path)
    if trouble:
        name = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
        raise ContentError(f"{name!r}: its path {trouble}; rename it")
    if entry.is_symlink():
        raise ContentError(
            f"{entry.path}: a symbolic link, which content cannot have; put what it points to in its place"
        )
    if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        raise ContentError(f"{entry.path}: neither a file nor a folder; take it away")
