# SPDX-License-Identifier: Apache-2.0
"""A drained root is empty, every blob is whole in another one, and whatever comes between loses nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.content.conftest import put_blob

import dpd
from dpd.content.drain import Drain, DrainReport, told
from dpd.content.library import Library
from dpd.content.records import BlobRow, BlobState, Content, FileEntry, Place
from dpd.content.stock import Stock
from dpd.content.storage.root_folder import Adopted
from dpd.content.storage.roots import RootCondition, Roots
from dpd.errors import ContentError, ContentNotFound, LibraryFull

MIB = 1 << 20
OpenStock = Callable[[], Stock]


@pytest.fixture
def open_stock(root: Path) -> Iterator[OpenStock]:
    """Opens the library's files and rows, again and again."""
    opened = list[Stock]()

    def open_it() -> Stock:
        for stock in opened:
            stock.close()
        opened.append(Stock(root))
        return opened[-1]

    yield open_it
    for stock in opened:
        stock.close()


def ignore(done: int, total: int) -> None:
    """Nobody watches."""


def drain(stock: Stock, number: int = 1) -> DrainReport:
    return Drain(stock, number, ignore).run()


def fill(stock: Stock, tmp_path: Path) -> dict[str, bytes]:
    """Root 1 with blobs of many sizes, the empty one and two large ones among them."""
    stock.roots.add(tmp_path / "2", 0)
    made = random.Random(5)
    sizes = [0, 1, 100, MIB - 1, MIB, 3 * MIB + 7, *(made.randrange(1, 3000) for _ in range(300))]
    contents = [made.randbytes(size) for size in sizes]
    return {put_blob(stock.roots, stock.blobs, 1, content): content for content in contents}


def check_all_whole(stock: Stock, blobs: dict[str, bytes]) -> None:
    for sha256, content in blobs.items():
        descriptor, row = stock.roots.open_blob(sha256)
        with open(descriptor, "rb") as file:
            assert file.read() == content
        assert (row.size_bytes, row.state) == (len(content), BlobState.HERE)


def test_every_blob_is_whole_elsewhere_and_the_root_is_empty(open_stock: OpenStock, tmp_path: Path) -> None:
    stock, calls = open_stock(), list[tuple[int, int]]()
    blobs = fill(stock, tmp_path)
    size_bytes = sum(map(len, blobs.values()))
    report = Drain(stock, 1, lambda done, total: calls.append((done, total))).run()
    assert report == DrainReport(1, len(blobs), size_bytes, ())
    assert told(report) == ""
    assert (
        list(stock.roots.folder(1).blobs())
        == list(stock.roots.folder(1).parts())
        == list(stock.roots.folder(0).parts())
        == []
    )
    assert stock.blobs.loose() == []
    check_all_whole(stock, blobs)
    assert {status.id: (status.state, status.blobs) for status in stock.roots.status()} == {
        0: (RootCondition.ACTIVE, len(blobs)),
        1: (RootCondition.EMPTY, 0),
    }
    assert calls[-1] == (size_bytes, size_bytes)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    stock.roots.remove(1)


def test_parity_goes_with_its_blob(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    sha256 = put_blob(stock.roots, stock.blobs, 1)
    stock.roots.folder(1).parity(sha256).write_bytes(b"parity")
    drain(stock)
    assert stock.roots.folder(0).parity(sha256).read_bytes() == b"parity"
    assert not stock.roots.folder(1).parity(sha256).exists()


def test_a_disk_that_does_not_let_go_of_its_files_is_drained_all_the_same(
    open_stock: OpenStock, tmp_path: Path
) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    hashes = [put_blob(stock.roots, stock.blobs, 1, content) for content in (bytes(MIB), b"small", bytes(MIB + 1))]
    for sha256 in hashes:
        (stock.roots.folder(1).parity(sha256) / "in the way").mkdir(parents=True)
    assert drain(stock).blobs == 3
    assert set(stock.blobs.loose()) == {Place(sha256, 1) for sha256 in hashes}


def test_a_reader_keeps_what_it_has_open(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    descriptor, _ = stock.roots.open_blob(put_blob(stock.roots, stock.blobs, 1, b"read slowly"))
    with open(descriptor, "rb") as file:
        assert file.read(5) == b"read "
        drain(stock)
        assert file.read() == b"slowly"


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "gone"])
def test_a_damaged_blob_stays_is_marked_and_told(open_stock: OpenStock, tmp_path: Path, damage: str) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    bad, good = put_blob(stock.roots, stock.blobs, 1, b"bad" * MIB), put_blob(stock.roots, stock.blobs, 1, b"good")
    path = stock.roots.folder(1).blob(bad)
    if damage == "other bytes":
        path.write_bytes(b"xad" * MIB)
    elif damage == "shorter":
        os.truncate(path, MIB)
    else:
        path.unlink()
    report = drain(stock)
    assert report == DrainReport(1, 1, 4, (bad,))
    assert told(report) == (
        f"root 1: 1 blobs moved, but 1 damaged one stays ({bad}); repair with `dpd content validate`, or publish again, then drain again"
    )
    assert stock.blobs.blob(bad) == BlobRow(bad, 3 * MIB, 1, BlobState.DAMAGED)
    check_all_whole(stock, {good: b"good"})
    assert list(stock.roots.folder(0).parts()) == []
    path.write_bytes(b"bad" * MIB)  # repaired in place
    assert drain(stock).damaged == ()
    check_all_whole(stock, {bad: b"bad" * MIB})


def test_a_cancelled_drain_goes_on_where_it_was(open_stock: OpenStock, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    stock = open_stock()
    blobs = fill(stock, tmp_path)

    def cancel_in_the_middle(done: int, total: int) -> None:
        if stock.blobs.bytes_of_root(1)[0] < len(blobs):
            raise Cancelled

    with pytest.raises(Cancelled):
        Drain(stock, 1, cancel_in_the_middle).run()
    left = stock.roots.status()[1]
    assert (left.state, 0 < left.blobs < len(blobs)) == (RootCondition.DRAINING, True)
    assert list(stock.roots.folder(0).parts()) == []
    check_all_whole(stock, blobs)
    stock = open_stock()
    assert drain(stock).blobs == left.blobs
    check_all_whole(stock, blobs)


def test_closing_is_no_damage(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    fill(stock, tmp_path)

    def close(done: int, total: int) -> None:
        raise ContentError("the library is closing")

    with pytest.raises(ContentError, match="is closing"):
        Drain(stock, 1, close).run()
    assert stock.blobs.damaged() == []
    assert list(stock.roots.folder(0).parts()) == []


def test_blobs_that_have_no_other_place_are_told_before_anything_moves(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    put_blob(stock.roots, stock.blobs, 1, b"12345")
    stock.roots.change(0, reserve_bytes=1 << 59)
    with pytest.raises(
        LibraryFull,
        match=r"root 1 holds 5 bytes, and other roots have room for 0 \(.*library: \d+ free, .*; add a root",
    ):
        drain(stock)
    assert stock.roots.status()[1].state is RootCondition.ACTIVE
    with pytest.raises(ContentNotFound, match="there is no root 7"):
        drain(stock, 7)


def test_a_blob_that_is_removed_meanwhile_leaves_no_copy(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    gone, stays = put_blob(stock.roots, stock.blobs, 1, b"gone" * MIB), put_blob(stock.roots, stock.blobs, 1, b"stays")

    def remove(done: int, total: int) -> None:
        stock.blobs.drop([gone])
        stock.roots.folder(1).drop([gone])

    Drain(stock, 1, remove).run()
    check_all_whole(stock, {stays: b"stays"})
    assert [path.name for path in stock.roots.folder(0).blobs()] == [stays]
    assert list(stock.roots.folder(0).parts()) == []


def test_a_blob_that_was_published_again_elsewhere_meanwhile_is_left_alone(
    open_stock: OpenStock, tmp_path: Path
) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    stock.roots.add(tmp_path / "3", 0)
    content = b"twice" * MIB
    sha256, again = put_blob(stock.roots, stock.blobs, 1, content), [2]

    def publish_again(done: int, total: int) -> None:
        if again:
            number = again.pop()
            put_blob(stock.roots, stock.blobs, number, content)
            stock.roots.folder(1).drop([sha256])

    Drain(stock, 1, publish_again).run()
    assert stock.blobs.blob(sha256) == BlobRow(sha256, len(content), 2, BlobState.HERE)
    assert list(stock.roots.folder(0).blobs()) == []
    check_all_whole(stock, {sha256: content})


def test_a_blob_that_leaves_between_its_row_and_its_file_is_not_damaged(
    open_stock: OpenStock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    sha256, moved = put_blob(stock.roots, stock.blobs, 1, b"moves"), list[str]()

    def publish_again_first(roots: Roots, sha256: str) -> tuple[int, BlobRow]:
        if not moved:
            moved.append(put_blob(roots, stock.blobs, 0, b"moves"))
            roots.folder(1).drop([sha256])
        return real(roots, sha256)

    real = Roots.open_blob
    monkeypatch.setattr(Roots, "open_blob", publish_again_first)
    assert drain(stock) == DrainReport(1, 0, 0, ())
    check_all_whole(stock, {sha256: b"moves"})


def test_a_blob_that_cannot_be_opened_now_is_not_damaged(
    open_stock: OpenStock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of it: the others are moved, and the next drain finds it as it was."""
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    shut, good = put_blob(stock.roots, stock.blobs, 1, b"shut"), put_blob(stock.roots, stock.blobs, 1, b"good")
    refuse_to_open(monkeypatch, shut, errno.EIO)
    report = drain(stock)
    assert report == DrainReport(1, 1, 4, (), (shut,))
    assert told(report) == (
        f"root 1: 1 blobs moved, but 1 unreadable one stays ({shut}), whose files cannot be opened; check the disk, then drain again"
    )
    assert stock.blobs.damaged() == []
    monkeypatch.undo()
    assert drain(stock) == DrainReport(1, 1, 4, ())
    check_all_whole(stock, {shut: b"shut", good: b"good"})


def test_too_many_open_files_end_a_drain_and_damage_nothing(
    open_stock: OpenStock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    refuse_to_open(monkeypatch, put_blob(stock.roots, stock.blobs, 1, b"one too many"), errno.EMFILE)
    with pytest.raises(ContentError, match="Too many open files; nothing is wrong with it, try again"):
        drain(stock)
    assert stock.blobs.damaged() == []
    assert list(stock.roots.folder(0).parts()) == []


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, sha256: str, number: int) -> None:
    real = os.open

    def opened(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == sha256:
            raise OSError(number, os.strerror(number))
        return real(path, flags, mode)

    monkeypatch.setattr("os.open", opened)


def test_a_blob_that_is_mended_while_it_is_read_is_read_again(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    content, mended = b"mended" * MIB, list[str]()
    sha256 = put_blob(stock.roots, stock.blobs, 1, content)
    stock.roots.folder(1).blob(sha256).write_bytes(b"damage" * MIB)

    def mend(done: int, total: int) -> None:
        if not mended:
            mended.append(put_blob(stock.roots, stock.blobs, 1, content))

    assert Drain(stock, 1, mend).run() == DrainReport(1, 1, len(content), ())
    check_all_whole(stock, {sha256: content})


def test_a_blob_that_comes_late_is_moved_too(open_stock: OpenStock, tmp_path: Path) -> None:
    """A publish that had its place before the drain began ends in the draining root."""
    stock, late = open_stock(), [b"late"]
    stock.roots.add(tmp_path / "2", 0)
    put_blob(stock.roots, stock.blobs, 1, b"first")

    def arrive(done: int, total: int) -> None:
        if late:
            put_blob(stock.roots, stock.blobs, 1, late.pop())

    assert Drain(stock, 1, arrive).run().blobs == 2
    assert stock.roots.status()[1].state is RootCondition.EMPTY


def test_a_drain_that_ended_between_the_row_and_the_old_file_leaves_its_place_noted(
    open_stock: OpenStock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = open_stock()
    stock.roots.add(tmp_path / "2", 0)
    sha256 = put_blob(stock.roots, stock.blobs, 1)
    monkeypatch.setattr("dpd.content.storage.root_folder.RootFolder.drop", _fail)
    with pytest.raises(KeyboardInterrupt):
        drain(stock)
    assert stock.blobs.loose() == [Place(sha256, 1)]
    row = stock.blobs.blob(sha256)
    assert row is not None
    assert row.root == 0


def _fail(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_librarys_own_root_can_be_drained_too(open_stock: OpenStock, tmp_path: Path) -> None:
    stock = open_stock()
    content = b"own"
    part = stock.roots.folder(0).new_part()
    part.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    stock.roots.adopt([Adopted(part, sha256)])
    stock.blobs.add([BlobRow(sha256, len(content), 0, BlobState.HERE)])
    stock.roots.add(tmp_path / "2", 0)
    assert drain(stock, 0).blobs == 1
    check_all_whole(stock, {sha256: content})
    assert stock.roots.status()[0].state is RootCondition.EMPTY


KILLS = int(os.environ.get("DPD_KILLS", "30"))  # 200 for the long run


def test_drains_that_are_killed_at_random_moments_lose_nothing() -> None:
    """drain_kills checks after each kill that every blob is whole, in one place, and that nothing is left over."""
    program, sources = Path(__file__).with_name("drain_kills.py"), Path(dpd.__file__).parents[1]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dpd-drain-kills-", dir=memory) as folder:
        ran = subprocess.run(
            [sys.executable, program, str(KILLS), "17", folder],
            env={**os.environ, "PYTHONPATH": str(sources)},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["killed"] == KILLS
    assert json.loads(ran.stdout)["ended"] >= 1


BESIDE_S = 4.0


def test_drains_beside_readers_publishing_checking_and_gc(root: Path, tmp_path: Path) -> None:
    """Two roots give each other everything, to and fro, while all else goes on: nobody finds anything missing or damaged."""
    made, source = random.Random(31), tmp_path / "source"
    source.mkdir()
    for number in range(40):
        (source / str(number)).write_bytes(made.randbytes(made.choice((10, 3000, 200_000, MIB + 3))))
    over = time.monotonic() + BESIDE_S
    with Library(root, slab_bytes=4096) as library:
        library.add_root(tmp_path / "second")
        kept = library.publish(source, "KEPT")

        def drain_to_and_fro() -> int:
            for turn in range(1_000_000):
                if time.monotonic() > over and turn > 1:
                    return turn
                number = 1 - turn % 2
                assert library.drain_root(number).damaged == ()
                assert library.roots()[number].blobs == 0
                library.set_root(number, active=True)
            return 0

        def read() -> int:
            return until(over, lambda: check_files(library, kept, library.files(kept)))

        def publish_and_remove() -> int:
            one = source / "7"

            def change() -> None:
                library.publish(one, "OTHER", 1)
                library.publish(source, "AGAIN", 1)
                library.verify("OTHER", 1)
                library.remove("OTHER", 1)
                library.remove("AGAIN", 1)

            return until(over, change)

        def check_all() -> int:
            return until(over, lambda: no_damage(library.damage(kept)))

        def collect() -> int:
            return until(over, lambda: no_damage(library.gc(delete=True).missing))

        with ThreadPoolExecutor(6) as pool:
            running = [pool.submit(work) for work in (drain_to_and_fro, read, publish_and_remove, check_all, collect)]
            assert all(each.result() > 0 for each in running)
        assert library.gc().is_clean
        assert library.damaged_blobs() == []
        library.verify("KEPT")


def until(over: float, work: Callable[[], object]) -> int:
    """How many times it was done."""
    done = 0
    while time.monotonic() < over or done == 0:
        work()
        done += 1
    return done


def check_files(library: Library, content: Content, entries: list[FileEntry]) -> None:
    for entry in entries:
        descriptor, _ = library.open_file(content, entry.path)
        with open(descriptor, "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == entry.sha256


def no_damage(found: object) -> None:
    assert not found, found
