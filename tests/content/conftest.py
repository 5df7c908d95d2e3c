# SPDX-License-Identifier: Apache-2.0
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpd.content.library import Library

SLAB_BYTES = 4096
MakeFile = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def library(root: Path) -> Iterator[Library]:
    with Library(root, slab_bytes=SLAB_BYTES) as opened:
        yield opened


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """A source file of random bytes, the same for the same seed."""

    def make(name: str = "image.bin", size_bytes: int = 3 * SLAB_BYTES + 5, seed: int = 1) -> Path:
        path = tmp_path / name
        path.write_bytes(random.Random(seed).randbytes(size_bytes))
        return path

    return make
