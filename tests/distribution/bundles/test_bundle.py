# SPDX-License-Identifier: Apache-2.0
"""Bundles that are read again, by dpd and by others; and every way in which they can be other than they were."""

from __future__ import annotations

import hashlib
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.distribution.stocked import open_library, publish_image, publish_tree

from dpd.content import repository
from dpd.content.library import Library
from dpd.distribution.bundles.bundle import Bundle, files_of, open_bundle
from dpd.distribution.bundles.listing import LISTING_PATH
from dpd.distribution.bundles.plan import plan
from dpd.distribution.bundles.tar_stream import BLOCK_BYTES, TarReader, TarWriter
from dpd.errors import ContentCorrupt, JobCancelled

Files = list[tuple[str, bytes]]


def export(library: Library) -> bytes:
    archive = bytearray()
    bundle = Bundle(library, plan(library, library.contents()), clock=lambda: 1_800_000_000.5)
    bundle.write(archive.extend, lambda done, total: None, lambda: None)
    assert len(archive) == bundle.size_bytes
    return bytes(archive)


def read(archive: bytes) -> dict[str, bytes]:
    opened = open_bundle(io.BytesIO(archive).read)
    return {file.path: b"".join(pieces) for file, _, pieces in files_of(opened)}


def members(archive: bytes) -> Files:
    reader, files = TarReader(io.BytesIO(archive).read), []
    while member := reader.next():
        files.append((member.path, b"".join(reader.pieces())))
    return files


def put_together(files: Files) -> bytes:
    archive = bytearray()
    writer = TarWriter(archive.extend, 0)
    for path, content in files:
        writer.begin(path, len(content))
        writer.write(content)
    writer.finish()
    return bytes(archive)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("bundle")
    with open_library(folder / "library") as library:
        publish_image(library, folder, size_bytes=100_000)
        publish_tree(library, folder)
        yield library


@pytest.fixture(scope="module")
def archive(library: Library) -> bytes:
    return export(library)


def test_all_of_it_is_read_again(library: Library, archive: bytes) -> None:
    opened = open_bundle(io.BytesIO(archive).read)
    assert opened.signer == library.public_key()
    assert (opened.listing.created_at, opened.listing.packages) == (
        1_800_000_000,
        (("LAB00001", 1), ("LAB00002", 1)),
    )
    files = read(archive)
    image, tree = library.find("LAB00001"), library.find("LAB00002")
    assert files[repository.description("LAB00002", 1)] == library.description(tree)
    assert files[repository.manifest("LAB00001", 1)] == library.manifest(image)
    assert hashlib.sha256(files[repository.blob(image.sha256)]).hexdigest() == image.sha256


def test_equal_libraries_make_equal_bundles(library: Library, archive: bytes) -> None:
    assert export(library) == archive


def test_progress_is_that_of_the_archive_and_a_check_ends_it(library: Library, archive: bytes) -> None:
    told: list[tuple[int, int]] = []
    bundle = Bundle(library, plan(library, library.contents()))
    bundle.write(lambda piece: None, lambda done, total: told.append((done, total)), lambda: None)
    assert told[-1] == (len(archive), len(archive))
    assert told == sorted(told)

    def cancelled() -> None:
        raise JobCancelled("cancelled")

    with pytest.raises(JobCancelled):
        bundle.write(lambda piece: None, lambda done, total: None, cancelled)


@pytest.mark.interop
def test_unpacked_by_tar_it_is_a_repository(archive: bytes, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=archive, check=True, capture_output=True)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found.pop(LISTING_PATH)
    assert found == read(archive)
    assert all(repository.parse(path) for path in found)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_cut_is_told_with_its_place(archive: bytes, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(archive) - 10240))
    with pytest.raises(ContentCorrupt, match=f"ends at byte {kept} "):
        read(archive[:kept])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_changed_bit_changes_what_is_read(archive: bytes, data: st.DataObject) -> None:
    """Nearly all are refused; a few bits mean nothing: padding, and the ends of the checksum's digits."""
    changed, good = bytearray(archive), read(archive)
    changed[data.draw(st.integers(0, len(archive) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found: dict[str, bytes] = {}
    try:
        opened = open_bundle(io.BytesIO(bytes(changed)).read)
        for file, _, pieces in files_of(opened):
            found[file.path] = b"".join(pieces)
    except ContentCorrupt:
        assert found == {path: good[path] for path in found}
    else:
        assert found == good


def test_a_changed_blob_is_named_with_its_place(archive: bytes, library: Library) -> None:
    image = library.find("LAB00001")
    begin = archive.index(repository.blob(image.sha256).encode() + b"\0")
    changed = bytearray(archive)
    changed[begin + BLOCK_BYTES + 5000] ^= 1
    with pytest.raises(ContentCorrupt, match=f"blobs/{image.sha256}, which begins at byte {begin}, is not what"):
        read(bytes(changed))


def test_the_order_is_that_of_the_listing(archive: bytes) -> None:
    files = members(archive)
    for first in range(1, len(files) - 1):
        swapped = list(files)
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
        with pytest.raises(ContentCorrupt, match=r"byte \d+: .* it was changed"):
            read(put_together(swapped))


def test_a_file_that_is_left_out_twice_there_or_added(archive: bytes) -> None:
    files = members(archive)
    for place in range(1, len(files)):
        with pytest.raises(ContentCorrupt, match=r"without|it was changed"):
            read(put_together(files[:place] + files[place + 1 :]))
    with pytest.raises(ContentCorrupt, match="it was changed"):
        read(put_together([*files[:2], *files[1:]]))
    with pytest.raises(ContentCorrupt, match=r"'\.\./\.\./etc/cron\.d/x' is not in its listing"):
        read(put_together([*files, ("../../etc/cron.d/x", b"* * * * * root sh")]))


TRICKS = ["/etc/passwd", "../" * 8 + "etc/passwd", "repository/v1/../../keys/manifest.ed25519", LISTING_PATH]


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_that_leads_elsewhere_is_refused(archive: bytes, path: str) -> None:
    files = members(archive)
    files[-1] = path, files[-1][1]
    with pytest.raises(ContentCorrupt, match="it was changed"):
        read(put_together(files))


def test_an_archive_of_something_else_is_refused(archive: bytes) -> None:
    with pytest.raises(ContentCorrupt, match=r"begins with 'install\.wim', expected dpd-bundle\.json"):
        read(put_together([("install.wim", b"MSWIM")]))
    with pytest.raises(ContentCorrupt, match="begins with an empty archive"):
        read(put_together([]))
    with pytest.raises(ContentCorrupt, match="byte 0: no tar header"):
        read(b"MSWIM\0\0\0" * 100)
    with pytest.raises(ContentCorrupt, match="ends at byte 0"):
        read(b"")
    with pytest.raises(ContentCorrupt, match="not JSON"):
        read(put_together([(LISTING_PATH, b"{"), *members(archive)[1:]]))
