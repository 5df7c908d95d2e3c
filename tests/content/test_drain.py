# SPDX-License-Identifier: Apache-2.0
"""A drained root is empty, every blob is whole in another one, and whatever comes between loses nothing."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
from tests.content.conftest import OpenRoots, put_blob

from dpd.content.blob_table import BlobTable
from dpd.content.drain import Drain, DrainReport, told
from dpd.content.records import BlobRow, BlobState, Place
from dpd.content.root_folder import Adopted
from dpd.content.roots import RootCondition, Roots
from dpd.errors import ContentError, ContentNotFound, LibraryFull

MIB = 1 << 20


def ignore(done: int, total: int) -> None:
    """Nobody watches."""


def drain(roots: Roots, table: BlobTable, number: int = 1) -> DrainReport:
    return Drain(roots, table, number, threading.Lock(), ignore).run()


def fill(roots: Roots, table: BlobTable, tmp_path: Path) -> dict[str, bytes]:
    """Root 1 with blobs of many sizes, the empty one and two large ones among them."""
    roots.add(tmp_path / "2", 0)
    made = random.Random(5)
    sizes = [0, 1, 100, MIB - 1, MIB, 3 * MIB + 7, *(made.randrange(1, 3000) for _ in range(600))]
    contents = [made.randbytes(size) for size in sizes]
    return {put_blob(roots, table, 1, content): content for content in contents}


def check_all_whole(roots: Roots, table: BlobTable, blobs: dict[str, bytes]) -> None:
    for sha256, content in blobs.items():
        descriptor, row = roots.open_blob(sha256)
        with open(descriptor, "rb") as file:
            assert file.read() == content
        assert (row.size_bytes, row.state) == (len(content), BlobState.HERE)


def test_every_blob_is_whole_elsewhere_and_the_root_is_empty(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots, calls = open_roots(), list[tuple[int, int]]()
    blobs = fill(roots, table, tmp_path)
    size_bytes = sum(map(len, blobs.values()))
    report = Drain(roots, table, 1, threading.Lock(), lambda done, total: calls.append((done, total))).run()
    assert report == DrainReport(1, len(blobs), size_bytes, ())
    assert told(report) == ""
    assert list(roots.folder(1).blobs()) == list(roots.folder(1).parts()) == list(roots.folder(0).parts()) == []
    assert table.loose() == []
    check_all_whole(roots, table, blobs)
    assert {status.id: (status.state, status.blobs) for status in roots.status()} == {
        0: (RootCondition.ACTIVE, len(blobs)),
        1: (RootCondition.EMPTY, 0),
    }
    assert calls[-1] == (size_bytes, size_bytes)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    roots.remove(1)


def test_parity_goes_with_its_blob(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    sha256 = put_blob(roots, table, 1)
    roots.folder(1).parity(sha256).write_bytes(b"parity")
    drain(roots, table)
    assert roots.folder(0).parity(sha256).read_bytes() == b"parity"
    assert not roots.folder(1).parity(sha256).exists()


def test_a_reader_keeps_what_it_has_open(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    descriptor, _ = roots.open_blob(put_blob(roots, table, 1, b"read slowly"))
    with open(descriptor, "rb") as file:
        assert file.read(5) == b"read "
        drain(roots, table)
        assert file.read() == b"slowly"


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "gone"])
def test_a_damaged_blob_stays_is_marked_and_told(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path, damage: str
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    bad, good = put_blob(roots, table, 1, b"bad" * MIB), put_blob(roots, table, 1, b"good")
    path = roots.folder(1).blob(bad)
    if damage == "other bytes":
        path.write_bytes(b"xad" * MIB)
    elif damage == "shorter":
        os.truncate(path, MIB)
    else:
        path.unlink()
    report = drain(roots, table)
    assert report == DrainReport(1, 1, 4, (bad,))
    assert told(report) == (
        f"root 1: 1 blobs moved, but 1 damaged one stays ({bad}); repair with `dpd content validate`, or publish again, then drain again"
    )
    assert table.blob(bad) == BlobRow(bad, 3 * MIB, 1, BlobState.DAMAGED)
    check_all_whole(roots, table, {good: b"good"})
    assert list(roots.folder(0).parts()) == []
    path.write_bytes(b"bad" * MIB)  # repaired in place
    assert drain(roots, table).damaged == ()
    check_all_whole(roots, table, {bad: b"bad" * MIB})


def test_a_cancelled_drain_goes_on_where_it_was(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    roots = open_roots()
    blobs = fill(roots, table, tmp_path)

    def cancel_in_the_middle(done: int, total: int) -> None:
        if table.bytes_of_root(1)[0] < len(blobs):
            raise Cancelled

    with pytest.raises(Cancelled):
        Drain(roots, table, 1, threading.Lock(), cancel_in_the_middle).run()
    left = roots.status()[1]
    assert (left.state, 0 < left.blobs < len(blobs)) == (RootCondition.DRAINING, True)
    assert list(roots.folder(0).parts()) == []
    check_all_whole(roots, table, blobs)
    roots = open_roots()
    assert drain(roots, table).blobs == left.blobs
    check_all_whole(roots, table, blobs)


def test_closing_is_no_damage(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    roots = open_roots()
    fill(roots, table, tmp_path)

    def close(done: int, total: int) -> None:
        raise ContentError("the library is closing")

    with pytest.raises(ContentError, match="is closing"):
        Drain(roots, table, 1, threading.Lock(), close).run()
    assert table.damaged() == []


def test_blobs_that_have_no_other_place_are_told_before_anything_moves(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    put_blob(roots, table, 1, b"12345")
    roots.change(0, reserve_bytes=1 << 59)
    with pytest.raises(
        LibraryFull,
        match=r"root 1 holds 5 bytes, and other roots have room for 0 \(.*library: \d+ free, .*; add a root",
    ):
        drain(roots, table)
    assert roots.status()[1].state is RootCondition.ACTIVE
    with pytest.raises(ContentNotFound, match="there is no root 7"):
        drain(roots, table, 7)


def test_a_blob_that_is_removed_meanwhile_leaves_no_copy(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    gone, stays = put_blob(roots, table, 1, b"gone" * MIB), put_blob(roots, table, 1, b"stays")

    def remove(done: int, total: int) -> None:
        table.drop([gone])
        roots.folder(1).drop([gone])

    Drain(roots, table, 1, threading.Lock(), remove).run()
    check_all_whole(roots, table, {stays: b"stays"})
    assert [path.name for path in roots.folder(0).blobs()] == [stays]
    assert list(roots.folder(0).parts()) == []


def test_a_blob_that_was_published_again_elsewhere_meanwhile_is_left_alone(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    roots.add(tmp_path / "3", 0)
    content = b"twice" * MIB
    sha256, again = put_blob(roots, table, 1, content), [2]

    def publish_again(done: int, total: int) -> None:
        if again:
            number = again.pop()
            put_blob(roots, table, number, content)
            roots.folder(1).drop([sha256])

    Drain(roots, table, 1, threading.Lock(), publish_again).run()
    assert table.blob(sha256) == BlobRow(sha256, len(content), 2, BlobState.HERE)
    assert list(roots.folder(0).blobs()) == []
    check_all_whole(roots, table, {sha256: content})


def test_a_blob_that_comes_late_is_moved_too(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    """A publish that had its place before the drain began ends in the draining root."""
    roots, late = open_roots(), [b"late"]
    roots.add(tmp_path / "2", 0)
    put_blob(roots, table, 1, b"first")

    def arrive(done: int, total: int) -> None:
        if late:
            put_blob(roots, table, 1, late.pop())

    assert Drain(roots, table, 1, threading.Lock(), arrive).run().blobs == 2
    assert roots.status()[1].state is RootCondition.EMPTY


def test_a_drain_that_ended_between_the_row_and_the_old_file_leaves_its_place_noted(
    open_roots: OpenRoots, table: BlobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = open_roots()
    roots.add(tmp_path / "2", 0)
    sha256 = put_blob(roots, table, 1)
    monkeypatch.setattr("dpd.content.root_folder.RootFolder.drop", _fail)
    with pytest.raises(OSError, match="Input/output"):
        drain(roots, table)
    assert table.loose() == [Place(sha256, 1)]
    assert table.vouched_for(Place(sha256, 0))
    assert not table.vouched_for(Place(sha256, 1))


def _fail(*_: object) -> None:
    raise OSError(5, "Input/output error")


def test_the_librarys_own_root_can_be_drained_too(open_roots: OpenRoots, table: BlobTable, tmp_path: Path) -> None:
    roots = open_roots()
    content = b"own"
    part = roots.folder(0).new_part()
    part.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    roots.adopt([Adopted(part, sha256)])
    table.add([BlobRow(sha256, len(content), 0, BlobState.HERE)])
    roots.add(tmp_path / "2", 0)
    assert drain(roots, table, 0).blobs == 1
    check_all_whole(roots, table, {sha256: content})
    assert roots.status()[0].state is RootCondition.EMPTY
