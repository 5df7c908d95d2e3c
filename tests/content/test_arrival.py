# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

from dpd.content import description, manifest
from dpd.content.arrival import Arrival
from dpd.content.description import decode_signed
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

SIZE = 9 * SLAB_BYTES + 5


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "origin", slab_bytes=SLAB_BYTES) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Equal files, an empty one, an empty folder, and one of several pieces."""
    folder = tmp_path / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "a").write_bytes(b"a" * 1000)
    (folder / "sub" / "same").write_bytes(b"a" * 1000)
    (folder / "sub" / "nothing").touch()
    (folder / "sub" / "large").write_bytes(os.urandom((3 << 20) + 77))
    return folder


def offer(origin: Library, library: Library, content: Content) -> Arrival:
    """As a pull does: what is said of it comes signed."""
    said = description.decode_signed(origin.description(content), origin.public_key())
    slabs = None
    if content.is_one_file:
        slabs = manifest.decode_signed(origin.manifest(content), origin.public_key())
    return library.arrive(said, slabs)


def read(library: Library, sha256: str) -> bytes:
    descriptor, size_bytes = library.open_hash(sha256)
    with open(descriptor, "rb") as file:
        content = file.read()
    assert len(content) == size_bytes
    return content


def receive(arrival: Arrival, sha256: str, content: bytes) -> None:
    part = arrival.receive(sha256)
    part.write(content[part.position :])
    part.finish()


def receive_all(origin: Library, arrival: Arrival) -> None:
    for wanted in arrival.missing:
        receive(arrival, wanted.sha256, read(origin, wanted.sha256))


def test_a_file_comes_with_a_manifest_of_our_own(origin: Library, library: Library, make_file: MakeFile) -> None:
    sent = origin.publish(make_file(size_bytes=SIZE), "P", 3, tags=["lab"])
    arrival = offer(origin, library, sent)
    assert [(wanted.sha256, wanted.size_bytes) for wanted in arrival.missing] == [(sent.sha256, SIZE)]
    receive_all(origin, arrival)
    assert arrival.missing == []
    assert library.contents() == []
    content = arrival.finish()
    assert replace(content, added_at=sent.added_at) == sent
    ours = manifest.decode_signed(library.manifest(content), library.public_key())
    assert ours == manifest.decode_signed(origin.manifest(sent), origin.public_key())
    assert library.public_key() != origin.public_key()
    library.verify("P")
    said = [description.decode_signed(each.description(content), each.public_key()) for each in (library, origin)]
    assert said[0] == said[1]


def test_a_tree_comes_whole_and_equal_files_once(origin: Library, library: Library, tree: Path) -> None:
    sent = origin.publish(tree, "T")
    arrival = offer(origin, library, sent)
    assert len(arrival.missing) == 3
    receive_all(origin, arrival)
    content = arrival.finish()
    assert replace(content, added_at=sent.added_at) == sent
    assert library.files(content) == origin.files(sent)
    library.verify("T")
    for entry in library.files(content):
        descriptor, _ = library.open_file(content, entry.path)
        with open(descriptor, "rb") as file:
            assert file.read() == (tree / entry.path).read_bytes()
    large = next(entry.sha256 for entry in library.files(content) if entry.path == "sub/large")
    assert library.chunk_index(large) == origin.chunk_index(large)


def test_only_what_has_changed_is_missing_of_the_next_version(origin: Library, library: Library, tree: Path) -> None:
    receive_all(origin, first := offer(origin, library, origin.publish(tree, "T")))
    first.finish()
    (tree / "a").write_bytes(b"new")
    second = offer(origin, library, origin.publish(tree, "T"))
    assert [wanted.sha256 for wanted in second.missing] == [hashlib.sha256(b"new").hexdigest()]
    receive_all(origin, second)
    assert second.finish().source_version == 2
    library.verify("T", 1)
    library.verify("T", 2)


def test_a_slab_that_does_not_fit_is_told_at_once_and_gone_on_with(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=SIZE)
    sent = origin.publish(source, "P")
    arrival, content = offer(origin, library, sent), source.read_bytes()
    part = arrival.receive(sent.sha256)
    wrong = bytearray(content)
    wrong[SLAB_BYTES * 3 + 7] ^= 1
    part.write(wrong[: SLAB_BYTES * 3 + 5])
    assert (part.position, part.verified) == (SLAB_BYTES * 3 + 5, SLAB_BYTES * 3)
    with pytest.raises(
        ContentCorrupt, match=r"slab 3 \(bytes 12288 to 16383\) is not what its manifest says; ask another"
    ):
        part.write(memoryview(wrong)[SLAB_BYTES * 3 + 5 :])
    assert part.position == part.verified == SLAB_BYTES * 3
    part.write(content[part.position :])
    part.finish()
    arrival.finish()
    library.verify("P")


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_later_try_goes_on_where_the_one_before_ended(
    origin: Library, root: Path, make_file: MakeFile, has_manifest: bool
) -> None:
    """Over a restart, and with an added file cut in the middle of a piece, as a power cut may leave it."""
    size_bytes = (5 << 20) + 3
    source = make_file(size_bytes=size_bytes)
    sent, content = origin.publish(source, "P"), source.read_bytes()
    said = description.decode_signed(origin.description(sent), origin.public_key())
    slabs = manifest.decode_signed(origin.manifest(sent), None) if has_manifest else None
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        arrival = library.arrive(said, slabs)
        part = arrival.receive(sent.sha256)
        part.write(content[: 3 << 20])
        part.write(content[3 << 20 : (3 << 20) + 100])
        part.close()
        arrival.abandon()
    (kept,) = root.glob("incoming/*.part")
    with kept.open("ab") as file:
        file.write(content[3 << 20 : (3 << 20) + 50])
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        arrival = library.arrive(said, slabs)
        part = arrival.receive(sent.sha256)
        assert part.position == 3 << 20
        part.write(content[part.position :])
        part.finish()
        assert arrival.finish().sha256 == sent.sha256
        library.verify("P")
        assert list(root.glob("incoming/*")) == []


def test_what_rotted_meanwhile_is_fetched_again(
    origin: Library, library: Library, root: Path, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=SIZE)
    sent, content = origin.publish(source, "P"), source.read_bytes()
    arrival = offer(origin, library, sent)
    part = arrival.receive(sent.sha256)
    part.write(content[: 5 * SLAB_BYTES])
    part.close()
    (kept,) = root.glob("incoming/*.part")
    kept.write_bytes(kept.read_bytes()[: 2 * SLAB_BYTES] + b"rot" * SLAB_BYTES)
    part = arrival.receive(sent.sha256)
    assert part.position == 2 * SLAB_BYTES
    part.write(content[part.position :])
    part.finish()
    arrival.finish()
    library.verify("P")


def test_other_bytes_than_the_hash_says_are_not_kept(origin: Library, library: Library, root: Path, tree: Path) -> None:
    arrival = offer(origin, library, origin.publish(tree, "T"))
    for wanted in arrival.missing:
        if wanted.size_bytes:
            with pytest.raises(ContentCorrupt, match="what came has the SHA-256"):
                receive(arrival, wanted.sha256, bytes(wanted.size_bytes))
    with pytest.raises(ContentError, match="3 of its blobs have not come"):
        arrival.finish()
    arrival.abandon()
    assert (list(root.glob("incoming/*")), list(root.glob("blobs/*/*")), library.contents()) == ([], [], [])


def test_too_few_bytes_are_kept_and_too_many_refused(origin: Library, library: Library, make_file: MakeFile) -> None:
    source = make_file(size_bytes=SIZE)
    sent, content = origin.publish(source, "P"), source.read_bytes()
    arrival = offer(origin, library, sent)
    part = arrival.receive(sent.sha256)
    part.write(content[: 2 * SLAB_BYTES + 1])
    with pytest.raises(
        ContentError, match=f"ended at byte {2 * SLAB_BYTES + 1}, expected {SIZE}; the next try goes on"
    ):
        part.finish()
    part = arrival.receive(sent.sha256)
    assert part.position == 2 * SLAB_BYTES
    with pytest.raises(ContentCorrupt, match=f"more than {SIZE} bytes came"):
        part.write(content)
    part.discard()
    assert arrival.receive(sent.sha256).position == 0


def test_a_root_that_drains_gets_nothing_new_not_even_the_rest_of_a_part(
    origin: Library, library: Library, make_file: MakeFile, tmp_path: Path
) -> None:
    source = make_file(size_bytes=SIZE)
    sent, content = origin.publish(source, "P"), source.read_bytes()
    arrival = offer(origin, library, sent)
    part = arrival.receive(sent.sha256)
    part.write(content[: 5 * SLAB_BYTES])
    part.close()
    library.add_root(tmp_path / "two")
    library.drain_root(0)
    part = arrival.receive(sent.sha256)
    assert part.position == 0
    part.write(content)
    part.finish()
    arrival.finish()
    assert [status.blobs for status in library.roots()] == [0, 1]
    library.verify("P")


def test_two_who_want_the_same_blob_do_not_write_into_one_part(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=SIZE)
    content = source.read_bytes()
    arrivals = [offer(origin, library, origin.publish(source, name)) for name in "PQ"]
    parts = [arrival.receive(arrival.missing[0].sha256) for arrival in arrivals]
    for begin in range(0, SIZE, 1000):
        for part in parts:
            part.write(content[begin : begin + 1000])
    for part, arrival in zip(parts, arrivals, strict=True):
        part.finish()
        arrival.finish()
    library.verify("P")
    library.verify("Q")
    assert library.totals().blobs == 1


def test_a_blob_that_is_here_needs_no_bytes_and_gets_a_manifest(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=SIZE)
    library.publish(source, "OTHER")
    arrival = offer(origin, library, origin.publish(source, "P"))
    assert arrival.missing == []
    library.remove("OTHER")  # what the arrival counts on stays
    content = arrival.finish()
    library.verify("P")
    assert manifest.decode_signed(library.manifest(content), None).slab_count == content.slab_count


def test_an_arrival_that_is_abandoned_lets_go_of_what_was_removed(
    origin: Library, library: Library, root: Path, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=SIZE)
    library.publish(source, "OTHER")
    arrival = offer(origin, library, origin.publish(source, "P"))
    library.remove("OTHER")
    assert len(list(root.glob("blobs/*/*"))) == 1
    arrival.abandon()
    assert list(root.glob("blobs/*/*")) == []


def test_what_came_before_a_restart_is_not_fetched_again(origin: Library, root: Path, tree: Path) -> None:
    sent = origin.publish(tree, "T")
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        arrival = offer(origin, library, sent)
        receive(arrival, arrival.missing[0].sha256, read(origin, arrival.missing[0].sha256))
        arrival.abandon()
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        arrival = offer(origin, library, sent)
        assert len(arrival.missing) == 2
        receive_all(origin, arrival)
        arrival.finish()
        library.verify("T")


def test_small_blobs_wait_for_each_other_but_not_for_long(
    origin: Library, library: Library, root: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = offer(origin, library, origin.publish(tree, "T"))
    small = [wanted for wanted in arrival.missing if wanted.size_bytes < 10_000]
    receive(arrival, small[0].sha256, read(origin, small[0].sha256))
    assert list(root.glob("blobs/*/*")) == []
    monkeypatch.setattr("dpd.content.arrival.BATCH_S", -1.0)  # as if the first had waited long
    receive(arrival, small[1].sha256, read(origin, small[1].sha256))
    assert len(list(root.glob("blobs/*/*"))) == 2
    arrival.abandon()


def test_four_threads_may_receive_at_once(origin: Library, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(300):
        (folder / f"{n}").write_bytes(os.urandom(n * 10))
    sent = origin.publish(folder, "M")
    arrival = offer(origin, library, sent)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda wanted: receive(arrival, wanted.sha256, read(origin, wanted.sha256)), arrival.missing))
    arrival.finish()
    library.verify("M")


def test_what_has_come_can_be_read_while_the_rest_comes(origin: Library, library: Library, make_file: MakeFile) -> None:
    source = make_file(size_bytes=SIZE)
    sent, content = origin.publish(source, "P"), source.read_bytes()
    arrival = offer(origin, library, sent)
    part = arrival.receive(sent.sha256)
    part.write(content[: 3 * SLAB_BYTES])
    descriptor = part.open()
    try:
        assert os.pread(descriptor, part.verified, 0) == content[: 3 * SLAB_BYTES]
        part.write(content[3 * SLAB_BYTES :])
        part.finish()
        assert os.pread(descriptor, SIZE, 0) == content
    finally:
        os.close(descriptor)
    arrival.finish()


def test_other_content_under_the_same_version_is_refused(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    library.publish(make_file(seed=2), "P", 1)
    sent = origin.publish(make_file(), "P", 1)
    with pytest.raises(ContentError, match="P version 1 exists with other content"):
        offer(origin, library, sent)
    other = origin.publish(make_file(), "Q", 1)
    said = description.decode_signed(origin.description(sent), None)
    with pytest.raises(ContentCorrupt, match="its manifest is that of other content"):
        library.arrive(said, manifest.decode_signed(origin.manifest(other), None))


def test_a_damaged_blob_is_replaced(library: Library, root: Path, make_file: MakeFile) -> None:
    source = make_file(size_bytes=SIZE)
    content = library.publish(source, "P")
    (blob,) = root.glob("blobs/*/*")
    blob.write_bytes(bytes(SIZE))
    (damage,) = library.damage(content)
    assert damage.slabs == tuple(range(10))
    with pytest.raises(ContentCorrupt, match="is damaged"):
        library.open_blob(content)
    with pytest.raises(ContentCorrupt, match="is damaged"):
        library.open_hash(content.sha256)
    descriptor, size_bytes = library.open_damaged(content.sha256)
    os.close(descriptor)
    part = library.repair_part(content.sha256)
    with pytest.raises(ContentCorrupt, match="slab 0"):
        part.write(bytes(SLAB_BYTES))
    part.write(source.read_bytes())
    part.finish()
    assert (library.damage(content), library.damaged_blobs(), size_bytes) == ([], [], SIZE)
    os.close(library.open_blob(content))
    library.verify("P")
    with pytest.raises(ContentNotFound, match="is not in the library"):
        library.repair_part("ab" * 32)


def test_a_missing_blob_of_a_tree_is_told_and_mended(library: Library, root: Path, tree: Path) -> None:
    content = library.publish(tree, "T")
    sha256 = hashlib.sha256(b"a" * 1000).hexdigest()
    (root / "blobs" / sha256[:2] / sha256).unlink()
    (damage,) = library.damage(content)
    assert (damage.sha256, damage.size_bytes, damage.slabs, damage.reason) == (sha256, 1000, None, "missing")
    with pytest.raises(ContentCorrupt, match="T version 1: a, sub/same of 4 files damaged; publish it again"):
        library.verify("T")
    assert library.damage(content, known={sha256}) == []
    assert [row.sha256 for row in library.damaged_blobs()] == [sha256]
    part = library.repair_part(sha256)
    part.write(b"a" * 1000)
    part.finish()
    library.verify("T")


def test_publishing_a_tree_again_mends_what_was_found_damaged(library: Library, root: Path, tree: Path) -> None:
    content = library.publish(tree, "T", 1)
    for path in root.glob("blobs/*/*"):
        path.write_bytes(b"x" * path.stat().st_size)
    assert len(library.damage(content)) == 2  # the empty file has nothing to damage
    assert library.publish(tree, "T", 1) == content
    library.verify("T")


def test_removing_beside_an_arrival_never_takes_what_it_needs(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    source = make_file(size_bytes=200_000)
    ends = threading.Event()

    def publish_and_remove() -> None:
        while not ends.is_set():
            library.publish(source, "OTHER", 1)
            library.remove("OTHER")

    other = threading.Thread(target=publish_and_remove)
    other.start()
    try:
        for version in range(1, 20):
            arrival = offer(origin, library, origin.publish(source, "P", version))
            receive_all(origin, arrival)
            arrival.finish()
            library.verify("P", version)
            library.remove("P", version)
    finally:
        ends.set()
        other.join()
    assert library.totals().blobs == 0


def test_small_blobs_that_wait_for_others_are_safe_from_gc_and_other_arrivals(
    origin: Library, library: Library, tree: Path
) -> None:
    first, second = (offer(origin, library, origin.publish(tree, name)) for name in ("P", "Q"))
    small = [wanted.sha256 for wanted in first.missing if wanted.size_bytes < 1 << 20]
    for sha256 in small:
        receive(first, sha256, read(origin, sha256))
    assert library.gc(delete=True).stale_parts == 0
    for sha256 in small:
        receive(second, sha256, read(origin, sha256))
    for arrival in (first, second):
        receive_all(origin, arrival)
        library.verify(arrival.finish().package_id)
    assert library.gc().is_clean


def test_who_comes_second_with_a_blob_leaves_nothing_behind(
    origin: Library, library: Library, root: Path, tree: Path
) -> None:
    arrivals = [offer(origin, library, origin.publish(tree, name)) for name in ("P", "Q")]
    large = next(wanted.sha256 for wanted in arrivals[0].missing if wanted.size_bytes > 1 << 20)
    parts = [arrival.receive(large) for arrival in arrivals]
    for part in parts:
        part.write(read(origin, large)[: 2 << 20])
        part.close()
    assert [path.name for path in (root / "incoming").iterdir()] == [f"{large}.part"]


def test_another_size_than_that_of_what_is_here_is_refused(
    origin: Library, library: Library, make_file: MakeFile
) -> None:
    """A description is believed in what it says of content to come, but what is here is known."""
    here = library.publish(make_file(), "P")
    said = decode_signed(origin.description(origin.publish(make_file(), "Q")), None)
    wrong = replace(said, size_bytes=7, files=(replace(said.files[0], size_bytes=7),))
    with pytest.raises(
        ContentCorrupt, match=rf"says that blob {here.sha256} has 7 bytes, and it has {here.size_bytes}"
    ):
        library.arrive(wrong)
    assert library._stock.held() == frozenset()


def test_closing_ends_what_comes_and_touches_nothing_afterwards(
    origin: Library, root: Path, make_file: MakeFile, tree: Path
) -> None:
    """What the next process finds and goes on with is its own."""
    file, folder = origin.publish(make_file(size_bytes=3 << 20), "P"), origin.publish(tree, "T")
    content = read(origin, file.sha256)
    library = Library(root, slab_bytes=SLAB_BYTES)
    arrival, small = offer(origin, library, file), offer(origin, library, folder)
    part, other = arrival.receive(file.sha256), small.receive(small.missing[0].sha256)
    part.write(content[: 1 << 20])
    library.close()
    for use in (lambda: part.write(b"x"), part.finish, lambda: arrival.receive(file.sha256), small.finish):
        with pytest.raises(ContentError, match="has been closed"):
            use()
    with Library(root, slab_bytes=SLAB_BYTES) as second:
        again = offer(origin, second, file).receive(file.sha256)
        assert again.position == 1 << 20
        before = sorted(root.glob("incoming/*"))
        part.discard()
        other.close()
        arrival.abandon()
        small.abandon()
        assert sorted(root.glob("incoming/*")) == before
        again.write(content[1 << 20 :])
        again.finish()
        assert read(second, file.sha256) == content


def test_closing_waits_for_a_piece_that_is_being_written(
    origin: Library, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = origin.publish(make_file(size_bytes=1 << 20), "P")
    content = read(origin, file.sha256)
    library = Library(root, slab_bytes=SLAB_BYTES)
    part = offer(origin, library, file).receive(file.sha256)
    writing, go_on, real = threading.Event(), threading.Event(), os.pwrite

    def slowly(descriptor: int, piece: bytes, offset: int) -> int:
        writing.set()
        assert go_on.wait(30)
        return real(descriptor, piece, offset)

    monkeypatch.setattr("os.pwrite", slowly)
    receiving = threading.Thread(target=part.write, args=(content[:SLAB_BYTES],))
    receiving.start()
    assert writing.wait(30)
    closing = threading.Thread(target=library.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    receiving.join()
    part.close()
