# SPDX-License-Identifier: Apache-2.0
"""Libraries with content in them, for what carries content from one to the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpd.content.library import Library
from dpd.content.records import Content

SLAB_BYTES = 256 << 10  # small, so that an image of a few MiB has many


def noise(seed: int, size_bytes: int) -> bytes:
    """Bytes that no chunk of any other seed has."""
    return random.Random(seed).randbytes(size_bytes)


@contextmanager
def open_library(path: Path) -> Iterator[Library]:
    """A library at this place."""
    with Library(path, slab_bytes=SLAB_BYTES) as library:
        yield library


def publish_image(
    library: Library, folder: Path, package_id: str = "LAB00001", size_bytes: int = 3 << 20, seed: int = 1
) -> Content:
    """Content of one file, of which every byte is new."""
    path = folder / f"{package_id}-{seed}.img"
    path.write_bytes(noise(seed, size_bytes))
    return library.publish(path, package_id)


def publish_tree(library: Library, folder: Path, package_id: str = "LAB00002", seed: int = 2) -> Content:
    """Content of several files: equal ones, an empty one, a big one, an empty folder."""
    tree = folder / f"{package_id}-{seed}"
    (tree / "sources" / "empty").mkdir(parents=True)
    (tree / "setup.cmd").write_bytes(b"start\r\n")
    (tree / "sources" / "again.cmd").write_bytes(b"start\r\n")
    (tree / "sources" / "nothing").write_bytes(b"")
    (tree / "sources" / "drivers.cab").write_bytes(noise(seed, 1_500_000))
    return library.publish(tree, package_id)


def blob_path(library_path: Path, sha256: str) -> Path:
    """Where root 0 has a blob."""
    return library_path / "blobs" / sha256[:2] / sha256
