# SPDX-License-Identifier: Apache-2.0
import os
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile, put_blob

from dpd.content.description import decode_signed
from dpd.content.garbage import GcReport
from dpd.content.library import Library
from dpd.content.records import FileEntry
from dpd.content.stock import Stock
from dpd.errors import ContentCorrupt, ContentError

CLEAN = GcReport(False, 0, 0, 0, 0, (), ())


def snapshot(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.glob("[bimc]*/**/*") if path.is_file()}


def test_a_library_in_use_has_no_garbage(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(size_bytes=2 << 20), "P")
    library.publish(make_file(), "Q")
    before = snapshot(root)
    assert library.gc() == CLEAN
    assert library.gc(delete=True) == replace(CLEAN, deleted=True)
    assert snapshot(root) == before
    library.remove("P")
    library.remove("Q")
    assert library.gc() == CLEAN
    assert snapshot(root) == set()


def test_leftovers_are_found_by_the_dry_run_and_then_removed(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(size_bytes=2 << 20), "P")
    before = snapshot(root)
    leftovers = [
        root / "blobs" / "ab" / ("ab" * 32),
        root / "blobs" / "ab" / ("ab" * 32 + ".parity"),
        root / "manifests" / f"{'cd' * 32}.json",
        root / "chunks" / ("ef" * 32),
        root / "incoming" / f"{'12' * 32}.part",
    ]
    foreign = [root / "blobs" / "README", root / "blobs" / "ab" / "notes.parity", root / "manifests" / "notes.json"]
    (root / "blobs" / "ab").mkdir(exist_ok=True)
    for path in (*leftovers, *foreign):
        path.write_bytes(b"12345")
    found = library.gc()
    assert (found.orphan_files, found.stale_parts, found.garbage_blobs, found.freed_bytes) == (4, 1, 0, 25)
    assert set(found.examples) == set(map(str, leftovers))
    assert not found.is_clean
    assert snapshot(root) == before | {str(path.relative_to(root)) for path in (*leftovers, *foreign)}
    assert library.gc(delete=True) == replace(found, deleted=True)
    assert snapshot(root) == before | {str(path.relative_to(root)) for path in foreign}
    assert library.gc() == CLEAN
    library.verify("P")


def test_what_came_for_content_that_did_not_is_garbage_but_not_while_it_comes(
    library: Library, make_file: MakeFile, root: Path, tmp_path: Path
) -> None:
    source = make_file(size_bytes=2 << 20)
    with Library(tmp_path / "origin", slab_bytes=SLAB_BYTES) as origin:
        said = decode_signed(origin.description(origin.publish(source, "P")), None)
    arrival = library.arrive(said)
    part = arrival.receive(said.sha256)
    part.write(source.read_bytes()[: 1 << 20])
    assert library.gc(delete=True) == replace(CLEAN, deleted=True)
    part.write(source.read_bytes()[1 << 20 :])
    part.finish()
    assert library.gc(delete=True) == replace(CLEAN, deleted=True)
    assert len(list(root.glob("blobs/*/*"))) == 1
    arrival.abandon()
    found = library.gc()
    assert (found.garbage_blobs, found.freed_bytes) == (1, 2 << 20)
    library.gc(delete=True)
    assert library.gc() == CLEAN
    assert snapshot(root) == set()


def test_a_missing_blob_is_told_and_not_given_out_any_more(library: Library, make_file: MakeFile, root: Path) -> None:
    content = library.publish(make_file(), "P")
    (blob,) = root.glob("blobs/*/*")
    blob.unlink()
    assert library.gc() == replace(CLEAN, missing=(content.sha256,))
    assert library.damaged_blobs() == []
    assert library.gc(delete=True).missing == (content.sha256,)
    with pytest.raises(ContentCorrupt, match="is damaged; publish it again"):
        library.open_blob(content)
    library.publish(make_file(), "P", 1)
    library.verify("P")
    assert library.gc() == CLEAN


def test_gc_beside_publishing_and_removing_takes_nothing_away(
    library: Library, make_file: MakeFile, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(40):
        (folder / str(n)).write_bytes(os.urandom(100) * n)
    kept = library.publish(folder, "KEPT")
    ends, failures = threading.Event(), list[BaseException]()

    def work(name: str, source: Path) -> None:
        try:
            while not ends.is_set():
                library.publish(source, name, 1)
                library.verify(name)
                library.remove(name)
        except BaseException as error:
            failures.append(error)

    workers = [
        threading.Thread(target=work, args=("T", folder)),
        threading.Thread(target=work, args=("F", make_file(size_bytes=500_000))),
    ]
    for worker in workers:
        worker.start()
    reports = [library.gc(delete=True) for _ in range(60)]
    ends.set()
    for worker in workers:
        worker.join()
    assert failures == []
    assert {(report.missing, report.orphan_files) for report in reports} == {((), 0)}
    library.verify("KEPT")
    assert library.files(kept)[1] == FileEntry("1", 100, library.files(kept)[1].sha256)
    assert library.gc() == CLEAN


def test_a_closing_library_ends_it(library: Library, make_file: MakeFile) -> None:
    library.publish(make_file(), "P")
    library.close()
    with pytest.raises(ContentError, match="has been closed"):
        library.gc()


def test_garbage_in_a_root_that_is_missing_is_told_and_goes_with_its_disk(root: Path, tmp_path: Path) -> None:
    with closing(Stock(root)) as stock:
        stock.roots.add(tmp_path / "2", 0)
        sha256 = put_blob(stock.roots, stock.blobs, 1)
    (tmp_path / "2").rename(tmp_path / "away")
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        assert library.gc().examples == (f"blob {sha256}",)
        assert library.gc(delete=True).garbage_blobs == 1
        assert library.gc().is_clean
    (tmp_path / "away").rename(tmp_path / "2")
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        assert list((tmp_path / "2").glob("blobs/*/*")) == []
        assert library.gc().is_clean
