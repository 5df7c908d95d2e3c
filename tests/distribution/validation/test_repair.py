# SPDX-License-Identifier: Apache-2.0
"""Damaged blobs that are mended by somebody who has them, whoever lies and whenever the power is cut."""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.distribution.stocked import SLAB_BYTES, blob_path, noise, open_library, publish_image, publish_tree
from tests.prepared import Prepared

from dpd.content.damage import Damage
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.validation.origins import FileOrigin
from dpd.distribution.validation.repair import Check, Origin, Repair, alternate, join
from dpd.errors import ContentCorrupt, ContentNotFound, JobCancelled, SourceUnavailable


class Shelf:
    """Origins that a test sets up: files of this machine, which may be wrong, short, or absent."""

    def __init__(self, *paths: Path) -> None:
        self.origins: list[Origin] = [FileOrigin(path) for path in paths]

    def __call__(self, sha256: str, check: Check) -> Generator[Origin]:
        yield from self.origins


class Away(FileOrigin):
    """One that answers only a part of what it is asked, or nothing."""

    def read_blob(self, sha256: str, begin: int, end: int, size_bytes: int) -> Iterator[bytes]:
        pieces = super().read_blob(sha256, begin, end, size_bytes)
        yield next(pieces)[:1000]
        raise SourceUnavailable(f"{self.name}: stalled for 30 s")


class Shorter(FileOrigin):
    """One that ends early and says nothing."""

    def read_blob(self, sha256: str, begin: int, end: int, size_bytes: int) -> Iterator[bytes]:
        yield next(super().read_blob(sha256, begin, end, size_bytes))[:1000]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def library(place: Path) -> Iterator[Library]:
    with open_library(place) as library:
        yield library


@pytest.fixture
def image(library: Library, tmp_path: Path) -> Content:
    """Twelve slabs."""
    return publish_image(library, tmp_path)


@pytest.fixture
def good(place: Path, image: Content, tmp_path: Path) -> Path:
    """A copy of the blob."""
    path = tmp_path / "good"
    path.write_bytes(blob_path(place, image.sha256).read_bytes())
    return path


def harm(path: Path, *offsets: int) -> None:
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset] ^= 0x10
    path.write_bytes(content)


def only_damage(library: Library, content: Content) -> Damage:
    (damage,) = library.damage(content)
    return damage


def nothing() -> None:
    """A check that lets everything pass."""


def test_only_damaged_slabs_are_fetched(library: Library, place: Path, image: Content, good: Path) -> None:
    harm(blob_path(place, image.sha256), 10, 5 * SLAB_BYTES + 7, 6 * SLAB_BYTES)
    damage = only_damage(library, image)
    assert damage.slabs == (0, 5, 6)
    with pytest.raises(ContentCorrupt):
        library.open_blob(image)
    mended = Repair(library, Shelf(good)).mend(image, damage, nothing)
    assert (mended.origin, mended.fetched_bytes) == (str(good), 3 * SLAB_BYTES)
    library.verify("LAB00001")
    assert blob_path(place, image.sha256).read_bytes() == good.read_bytes()
    os.close(library.open_blob(image))


def test_of_a_tree_only_damaged_chunks_are_fetched(library: Library, place: Path, tmp_path: Path) -> None:
    tree = publish_tree(library, tmp_path)
    (big,) = [each for each in library.files(tree) if each.size_bytes > 1_000_000]
    copy = tmp_path / "copy"
    copy.write_bytes(blob_path(place, big.sha256).read_bytes())
    harm(blob_path(place, big.sha256), 700_000)
    damage = only_damage(library, tree)
    mended = Repair(library, Shelf(copy)).mend(tree, damage, nothing)
    assert 16 << 10 <= mended.fetched_bytes <= 256 << 10
    library.verify("LAB00002")


def test_a_small_blob_or_one_without_index_comes_whole(library: Library, place: Path, tmp_path: Path) -> None:
    tree = publish_tree(library, tmp_path)
    (big,) = [each for each in library.files(tree) if each.size_bytes > 1_000_000]
    (place / "chunks" / big.sha256).unlink()
    copy = tmp_path / "copy"
    copy.write_bytes(blob_path(place, big.sha256).read_bytes())
    harm(blob_path(place, big.sha256), 700_000)
    mended = Repair(library, Shelf(copy)).mend(tree, only_damage(library, tree), nothing)
    assert mended.fetched_bytes == big.size_bytes
    library.verify("LAB00002")


@pytest.mark.parametrize("trouble", ["missing", "short", "long", "empty"])
def test_a_file_that_is_gone_or_of_another_size(
    library: Library, place: Path, image: Content, good: Path, trouble: str
) -> None:
    blob = blob_path(place, image.sha256)
    content = good.read_bytes()
    if trouble == "missing":
        blob.unlink()
    else:
        blob.write_bytes({"short": content[:1_000_000], "long": content + b"more", "empty": b""}[trouble])
    damage = only_damage(library, image)
    assert damage.reason == ("missing" if trouble == "missing" else "size")
    Repair(library, Shelf(good)).mend(image, damage, nothing)
    library.verify("LAB00001")
    assert blob.read_bytes() == content


def test_an_index_that_lies_costs_bytes_and_nothing_else(library: Library, place: Path, tmp_path: Path) -> None:
    """The chunk index of another state of the file calls bad bytes good: then all of it comes."""
    tree = publish_tree(library, tmp_path)
    (big,) = [each for each in library.files(tree) if each.size_bytes > 1_000_000]
    copy = tmp_path / "copy"
    copy.write_bytes(blob_path(place, big.sha256).read_bytes())
    harm(blob_path(place, big.sha256), 700_000)
    with open_library(tmp_path / "other") as other:
        path = tmp_path / "damaged"
        path.write_bytes(blob_path(place, big.sha256).read_bytes())
        wrong = other.publish(path, "WRONG")
        (place / "chunks" / big.sha256).write_bytes(other.chunk_index(wrong.sha256))
    mended = Repair(library, Shelf(copy)).mend(tree, only_damage(library, tree), nothing)
    assert mended.fetched_bytes == big.size_bytes
    library.verify("LAB00002")


def test_who_lies_is_passed_over(library: Library, place: Path, image: Content, good: Path, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    liar.write_bytes(noise(77, image.size_bytes))
    harm(blob_path(place, image.sha256), 3 * SLAB_BYTES)
    mended = Repair(library, Shelf(liar, good)).mend(image, only_damage(library, image), nothing)
    assert (mended.origin, mended.fetched_bytes) == (str(good), SLAB_BYTES)
    library.verify("LAB00001")


def test_who_stalls_or_ends_early_is_passed_over(library: Library, place: Path, image: Content, good: Path) -> None:
    shelf = Shelf()
    shelf.origins = [Away(good), Shorter(good), FileOrigin(good)]
    harm(blob_path(place, image.sha256), 3 * SLAB_BYTES)
    mended = Repair(library, shelf).mend(image, only_damage(library, image), nothing)
    assert mended.origin == str(good)
    library.verify("LAB00001")


def test_nobody_has_it(library: Library, place: Path, image: Content, good: Path, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    liar.write_bytes(noise(77, image.size_bytes))
    harm(blob_path(place, image.sha256), 3 * SLAB_BYTES)
    damage = only_damage(library, image)
    with pytest.raises(
        ContentCorrupt, match=r"nobody has it: no source is in the settings.*publish LAB00001 version 1"
    ):
        Repair(library, Shelf()).mend(image, damage, nothing)
    with pytest.raises(ContentCorrupt, match=rf"nobody has it: {tmp_path}/gone: .*; {liar}: blob .* slab 3"):
        Repair(library, Shelf(tmp_path / "gone", liar)).mend(image, damage, nothing)
    shelf = Shelf(liar)
    shelf.origins.append(Away(good))
    with pytest.raises(SourceUnavailable, match=r"cannot be mended now: .*stalled for 30 s"):
        Repair(library, shelf).mend(image, damage, nothing)
    with pytest.raises(ContentCorrupt):
        library.open_blob(image)  # still not given out


def test_what_came_before_it_was_stopped_stays(library: Library, place: Path, image: Content, good: Path) -> None:
    blob_path(place, image.sha256).unlink()
    damage, calls = only_damage(library, image), [0]

    def stop() -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise JobCancelled("cancelled")

    with pytest.raises(JobCancelled):
        Repair(library, Shelf(good)).mend(image, damage, stop)
    mended = Repair(library, Shelf(good)).mend(image, damage, nothing)
    assert mended.fetched_bytes == image.size_bytes - (2 << 20)
    library.verify("LAB00001")


def test_a_removed_content_is_no_more_to_mend(library: Library, place: Path, image: Content, good: Path) -> None:
    harm(blob_path(place, image.sha256), 1)
    damage = only_damage(library, image)
    library.remove("LAB00001")
    with pytest.raises(ContentNotFound, match="has been removed"):
        Repair(library, Shelf(good)).mend(image, damage, nothing)
    assert not blob_path(place, image.sha256).exists()


EXTENTS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=6).map(
    lambda parts: [(begin, begin + length) for begin, length in sorted(parts)]
)


@given(EXTENTS)
def test_extents_cover_the_file_once(extents: list[tuple[int, int]]) -> None:
    joined = join(extents)
    assert all(one[1] < other[0] for one, other in pairwise(joined))
    parts = list(alternate(joined, 100))
    assert [begin for begin, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    assert parts[-1][1] == 100
    bad = {byte for begin, end, is_bad in parts if is_bad for byte in range(begin, end)}
    assert bad == {byte for begin, end in extents for byte in range(begin, end)}


def main(place: str, good: str) -> None:
    """In a process of its own: mend the image."""
    with open_library(Path(place)) as library:
        content = library.find("LAB00001")
        print("open", flush=True)
        for damage in library.damage(content):
            Repair(library, Shelf(Path(good))).mend(content, damage, nothing)
        print("done", flush=True)


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    """kill -9 after a growing time, until a repair gets through. Nothing damaged is given out in between."""
    place, good, rng = tmp_path / "library", tmp_path / "good", random.Random(3)
    with open_library(place) as library:
        image = publish_image(library, tmp_path, size_bytes=12 << 20)
        good.write_bytes(blob_path(place, image.sha256).read_bytes())
        harm(blob_path(place, image.sha256), *range(0, 12 << 20, SLAB_BYTES))
        assert library.damage(image)
    kills = 0
    with Prepared(__name__) as prepared:
        for attempt in range(80):
            said = prepared.run(place, good, kill_after_s=0.004 * 1.3**attempt + rng.random() * 0.004)
            if _is_whole_or_refused(place, good, said):
                break
            kills += 1
    assert kills >= 3
    with open_library(place) as library:
        library.verify("LAB00001")


def _is_whole_or_refused(place: Path, good: Path, said: list[str]) -> bool:
    with open_library(place) as library:
        image = library.find("LAB00001")
        try:
            descriptor = library.open_blob(image)
        except ContentCorrupt:
            assert "done" not in said
            return False
        with open(descriptor, "rb") as file:
            assert file.read() == good.read_bytes()
        return True
