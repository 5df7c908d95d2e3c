# SPDX-License-Identifier: Apache-2.0
"""Bundles that come into a library: whole, in parts, again, of strangers, damaged, and with the power cut meanwhile."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.distribution.stocked import blob_path, open_library, publish_image, publish_tree
from tests.prepared import Prepared

from dpd.content import repository
from dpd.content.library import Library
from dpd.distribution.bundles.bundle import Bundle
from dpd.distribution.bundles.holdings import holdings_of
from dpd.distribution.bundles.plan import choose, plan
from dpd.distribution.bundles.taking_in import BundleImport, Imported
from dpd.distribution.bundles.tar_stream import BLOCK_BYTES
from dpd.errors import ContentCorrupt, ContentError, JobCancelled


def export(library: Library, *names: str, since: Library | None = None) -> bytes:
    archive = bytearray()
    held = holdings_of(since) if since is not None else holdings_of(library).__class__()
    bundle = Bundle(library, plan(library, choose(library, names), held))
    bundle.write(archive.extend, lambda done, total: None, lambda: None)
    return bytes(archive)


def take(library: Library, archive: bytes, signer: Library) -> Imported:
    imported = BundleImport(library, {signer.public_key()}, lambda done, total: None, lambda: None)
    return imported.run(io.BytesIO(archive).read)


def assert_same(library: Library, origin: Library, package_id: str) -> None:
    """The same content, every byte of it compared."""
    here, there = library.find(package_id), origin.find(package_id)
    assert (here.sha256, here.kind, here.format, here.name, here.size_bytes, here.tags) == (
        there.sha256,
        there.kind,
        there.format,
        there.name,
        there.size_bytes,
        there.tags,
    )
    assert library.files(here) == origin.files(there)
    library.verify(package_id)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "origin") as library:
        publish_image(library, tmp_path)
        publish_tree(library, tmp_path)
        yield library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library") as library:
        yield library


def test_several_packages_come_whole(library: Library, origin: Library) -> None:
    done = take(library, export(origin), origin)
    assert [str(content) for content in done.contents] == ["LAB00001 version 1", "LAB00002 version 1"]
    assert (done.known, done.received_bytes) == ((), origin.totals().blob_bytes)
    for package_id in ("LAB00001", "LAB00002"):
        assert_same(library, origin, package_id)


def test_what_is_here_stays_as_it_is(library: Library, origin: Library) -> None:
    archive = export(origin)
    take(library, archive, origin)
    before = library.contents()
    again = take(library, archive, origin)
    assert (again.contents, again.received_bytes) == ((), 0)
    assert [str(content) for content in again.known] == ["LAB00001 version 1", "LAB00002 version 1"]
    assert library.contents() == before


def test_blobs_that_are_here_do_not_come_again(library: Library, origin: Library, tmp_path: Path) -> None:
    publish_image(library, tmp_path, "OTHER001")  # the same bytes under another name
    done = take(library, export(origin, "LAB00001"), origin)
    assert (done.received_bytes, done.present_bytes) == (0, origin.find("LAB00001").size_bytes)
    assert_same(library, origin, "LAB00001")


def test_a_blob_of_two_packages_comes_once(library: Library, origin: Library, tmp_path: Path) -> None:
    publish_image(origin, tmp_path, "SAME0001")
    done = take(library, export(origin, "LAB00001", "SAME0001"), origin)
    assert done.received_bytes == origin.find("LAB00001").size_bytes
    assert_same(library, origin, "LAB00001")
    assert_same(library, origin, "SAME0001")


def test_small_files_of_several_packages_come_once(library: Library, origin: Library, tmp_path: Path) -> None:
    """Small blobs reach the library in batches: who shares them must not be finished before."""
    publish_tree(origin, tmp_path, "SAME0002", seed=8)
    publish_tree(origin, tmp_path, "SAME0003", seed=9)
    take(library, export(origin), origin)
    for package_id in ("LAB00002", "SAME0002", "SAME0003"):
        assert_same(library, origin, package_id)


def test_a_bundle_of_what_is_lacking(library: Library, origin: Library, tmp_path: Path) -> None:
    take(library, export(origin), origin)
    publish_tree(origin, tmp_path, seed=5)
    archive = export(origin, since=library)
    assert len(archive) < 2_000_000  # not the image, and not the files that both versions have
    done = take(library, archive, origin)
    assert [str(content) for content in done.contents] == ["LAB00002 version 2"]
    assert_same(library, origin, "LAB00002")


def test_a_bundle_by_an_old_list_says_what_it_lacks(library: Library, origin: Library, tmp_path: Path) -> None:
    take(library, export(origin), origin)
    publish_tree(origin, tmp_path, seed=5)
    archive = export(origin, since=library)
    library.remove("LAB00002")
    with pytest.raises(ContentError, match=r"LAB00002 version 2: \d+ of its files are neither in the bundle nor here"):
        take(library, archive, origin)
    assert [content.package_id for content in library.contents()] == ["LAB00001"]


def test_the_key_of_a_stranger_is_told_and_refused(library: Library, origin: Library) -> None:
    key = origin.public_key().hex()
    with pytest.raises(ContentError, match=f"signed by the key {key}, which is not known here; .*--key {key}"):
        take(library, export(origin), library)
    assert library.contents() == []


def test_documents_of_another_key_do_not_count(library: Library, origin: Library, tmp_path: Path) -> None:
    """A stranger signs a listing of files that the trusted one signed: each document is held against the listing's key."""
    with open_library(tmp_path / "stranger") as stranger:
        planned = plan(origin, origin.contents())
        archive = bytearray()
        Bundle(stranger, planned).write(archive.extend, lambda done, total: None, lambda: None)
        with pytest.raises(ContentCorrupt, match="identity is not that of the key"):
            take(library, bytes(archive), stranger)
    assert library.contents() == []


def test_documents_behind_files_are_refused(library: Library, origin: Library) -> None:
    """As a dpd of another time may write them; it must not be taken for complete."""
    planned = plan(origin, origin.contents())
    archive = bytearray()
    Bundle(origin, replace(planned, files=planned.files[::-1])).write(archive.extend, lambda *_: None, lambda: None)
    with pytest.raises(ContentCorrupt, match="stands behind files, expected before"):
        take(library, bytes(archive), origin)
    assert library.contents() == []


def test_other_content_under_the_same_name_is_refused(library: Library, origin: Library, tmp_path: Path) -> None:
    publish_image(library, tmp_path, seed=99)
    before = library.contents()
    with pytest.raises(ContentError, match="LAB00001 version 1: is here with other content"):
        take(library, export(origin), origin)
    assert library.contents() == before


def test_a_damaged_file_of_the_library_is_mended_by_the_bundle(
    library: Library, origin: Library, tmp_path: Path
) -> None:
    archive = export(origin)
    take(library, archive, origin)
    image = library.find("LAB00001")
    with blob_path(tmp_path / "library", image.sha256).open("r+b") as file:
        file.write(b"damage")
    assert library.damage(image)
    done = take(library, archive, origin)
    assert [str(content) for content in done.contents] == ["LAB00001 version 1"]
    assert_same(library, origin, "LAB00001")


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_leaves_whole_packages_and_goes_on(library: Library, origin: Library, tmp_path: Path, seed: int) -> None:
    archive = export(origin)
    kept = random.Random(seed).randrange(len(archive) - 10240)
    with pytest.raises(ContentCorrupt, match=f"ends at byte {kept} "):
        take(library, archive[:kept], origin)
    for content in library.contents():
        library.verify(content.package_id)
    take(library, archive, origin)
    for package_id in ("LAB00001", "LAB00002"):
        assert_same(library, origin, package_id)


def test_what_came_before_a_cut_is_not_written_again(library: Library, origin: Library) -> None:
    archive, image = export(origin, "LAB00001"), origin.find("LAB00001")
    begin = archive.index(repository.blob(image.sha256).encode() + b"\0") + BLOCK_BYTES
    with pytest.raises(ContentCorrupt):
        take(library, archive[: begin + image.size_bytes * 3 // 4], origin)
    done = take(library, archive, origin)
    assert done.received_bytes < image.size_bytes / 2
    assert done.received_bytes + done.present_bytes == image.size_bytes
    assert_same(library, origin, "LAB00001")


@pytest.mark.parametrize("seed", range(40))
def test_changed_bytes_never_become_content(library: Library, origin: Library, seed: int) -> None:
    archive, rng = bytearray(export(origin)), random.Random(seed)
    for _ in range(rng.choice((1, 1, 100))):
        archive[rng.randrange(len(archive) - 10240)] ^= 1 << rng.randrange(8)
    with contextlib.suppress(ContentError):
        take(library, bytes(archive), origin)
    for content in library.contents():
        assert_same(library, origin, content.package_id)
    take(library, export(origin), origin)
    assert_same(library, origin, "LAB00001")


def test_a_check_ends_also_the_zeros_behind_the_end(library: Library, origin: Library) -> None:
    archive, zeros = io.BytesIO(export(origin)), 0

    def read(count: int) -> bytes:
        nonlocal zeros
        piece = archive.read(count)
        zeros += not piece
        assert zeros < 1000, "reads for ever"
        return piece or bytes(count)

    def check() -> None:
        if zeros > 10:
            raise JobCancelled("enough")

    with pytest.raises(JobCancelled):
        BundleImport(library, {origin.public_key()}, lambda done, total: None, check).run(read)


def test_a_check_ends_it_and_it_goes_on(library: Library, origin: Library) -> None:
    left = [6]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise JobCancelled("cancelled")

    archive = export(origin)
    with pytest.raises(JobCancelled):
        BundleImport(library, {origin.public_key()}, lambda done, total: None, check).run(io.BytesIO(archive).read)
    take(library, archive, origin)
    assert_same(library, origin, "LAB00002")


def main(library_path: str, bundle: str, key: str) -> None:
    """In a process of its own: import it."""
    with open_library(Path(library_path)) as library:
        print("open", flush=True)
        with open(bundle, "rb") as file:
            BundleImport(library, {bytes.fromhex(key)}, lambda done, total: None, lambda: None).run(file.read)
        print("done", flush=True)


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, origin: Library) -> None:
    """kill -9 after a growing time, until an import gets through; after each kill what is content is whole."""
    for number in range(3, 7):
        publish_tree(origin, tmp_path, f"LAB0000{number}", seed=number)
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(export(origin))
    key, kills, rng = origin.public_key().hex(), 0, random.Random(5)
    with Prepared(__name__) as prepared:
        for attempt in range(60):
            after_s = 0.004 * attempt + rng.random() * 0.01
            said = prepared.run(tmp_path / "library", bundle, key, kill_after_s=after_s)
            with open_library(tmp_path / "library") as library:
                whole = {content.package_id for content in library.contents()}
                for package_id in whole:
                    assert_same(library, origin, package_id)
            if "done" in said or len(whole) == 6:
                break
            kills += 1
    assert kills >= 3
    with open_library(tmp_path / "library") as library:
        take(library, bundle.read_bytes(), origin)
        assert {content.package_id for content in library.contents()} == {f"LAB0000{n}" for n in range(1, 7)}
