# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.content.records import BlobRow, BlobState, Place, RootRow, RootState
from dpd.content.storage.blob_table import BlobTable
from dpd.content.storage.catalogue import Catalogue
from dpd.errors import ContentError

A, B = (BlobRow(letter * 64, 100, 0, BlobState.HERE) for letter in "ab")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[BlobTable]:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        yield catalogue.blobs


def test_a_blob_is_vouched_for_and_no_longer_loose(table: BlobTable) -> None:
    table.note_loose([Place(A.sha256, 0), Place(B.sha256, 0)])
    assert table.add([A]) == []
    assert table.loose() == [Place(B.sha256, 0)]
    assert (table.blob(A.sha256), table.blob(B.sha256)) == (A, None)
    table.forget_loose([Place(B.sha256, 0)])
    assert table.loose() == []


def test_many_are_looked_up_at_once(table: BlobTable) -> None:
    rows = [replace(A, sha256=f"{n:064x}") for n in range(1500)]
    table.add(rows)
    assert table.known(f"{n:064x}" for n in range(1000, 2000)) == {row.sha256: row for row in rows[1000:]}
    assert table.bytes_of_root(0) == (1500, 150_000)
    first = table.of_root(0, limit=1000)
    assert first + table.of_root(0, first[-1].sha256) == rows


def test_a_blob_that_moves_leaves_a_loose_place_behind(table: BlobTable) -> None:
    root = table.add_root("/mnt/two", 5)
    table.add([A])
    assert table.move(A.sha256, root) == Place(A.sha256, 0)
    assert table.blob(A.sha256) == replace(A, root=root)
    assert table.loose() == [Place(A.sha256, 0)]
    assert table.move(A.sha256, root) is None
    assert table.move(B.sha256, root) is None
    assert table.add([A]) == [Place(A.sha256, root)]


def test_what_nobody_needs_can_be_dropped_but_not_what_is_held(table: BlobTable) -> None:
    table.add([A, B])
    assert table.unneeded() == [A, B]
    assert table.drop([A.sha256, B.sha256, "c" * 64], held={B.sha256}) == [Place(A.sha256, 0)]
    assert table.unneeded() == [B]
    assert table.loose() == [Place(A.sha256, 0)]


def test_damage_is_marked_and_goes_with_a_new_copy(table: BlobTable) -> None:
    table.add([A, B])
    table.mark(A.sha256, BlobState.DAMAGED)
    table.mark("c" * 64, BlobState.DAMAGED)
    assert table.damaged() == [replace(A, state=BlobState.DAMAGED)]
    table.add([A])
    assert table.damaged() == []


def test_roots_are_numbered_once_and_stay_while_they_hold_blobs(table: BlobTable) -> None:
    two = table.add_root("/mnt/two", 5)
    with pytest.raises(ContentError, match=r"/mnt/two: is a root of this library already"):
        table.add_root("/mnt/two", 5)
    table.change_root(two, state=RootState.DRAINING)
    table.change_root(two, reserve_bytes=7)
    assert table.roots() == [RootRow(0, "", 0, RootState.ACTIVE), RootRow(two, "/mnt/two", 7, RootState.DRAINING)]
    table.add([replace(A, root=two)])
    with pytest.raises(ContentError, match="FOREIGN KEY"):
        table.remove_root(two)
    table.drop([A.sha256])
    table.remove_root(two)
    assert (len(table.roots()), table.loose()) == (1, [])
    assert table.add_root("/mnt/three", 0) == two + 1


def test_a_library_has_a_name_of_its_own(tmp_path: Path, table: BlobTable) -> None:
    with closing(Catalogue(tmp_path / "other.db")) as other:
        assert len({table.library_id(), other.blobs.library_id(), table.library_id()}) == 2
    assert len(bytes.fromhex(table.library_id())) == 16
