# SPDX-License-Identifier: Apache-2.0
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpd.content.library import Library
from dpd.content.records import BlobRow, BlobState
from dpd.content.storage.blob_table import BlobTable
from dpd.content.storage.root_folder import Adopted, RootFolder
from dpd.content.storage.roots import Roots
from dpd.content.storage.schema import MIGRATIONS
from dpd.content.storage.tally import Tally
from dpd.database import Database
from dpd.errors import ContentError, LibraryFull

SLAB_BYTES = 4096
MakeFile = Callable[..., Path]
OpenRoots = Callable[[], Roots]


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


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


@pytest.fixture
def table(own: Path) -> Iterator[BlobTable]:
    database = Database(own / "library.db", MIGRATIONS, error=ContentError, full=LibraryFull)
    yield BlobTable(database, Tally(database))
    database.close()


@pytest.fixture
def open_roots(own: Path, table: BlobTable) -> Iterator[OpenRoots]:
    opened = list[Roots]()

    def open_them() -> Roots:
        for roots in opened:
            roots.close()
        opened.append(Roots(RootFolder.own(own), table))
        return opened[-1]

    yield open_them
    for roots in opened:
        roots.close()


def put_blob(roots: Roots, table: BlobTable, number: int, content: bytes = b"blob") -> str:
    """A blob in this root, and its row; its hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    part = roots.folder(number).new_part()
    part.write_bytes(content)
    roots.adopt([Adopted(part, sha256, number)])
    table.add([BlobRow(sha256, len(content), number, BlobState.HERE)])
    return sha256
