# SPDX-License-Identifier: Apache-2.0
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

from dpd.content.damage import Inspection
from dpd.content.library import Library
from dpd.content.manifest import decode_signed
from dpd.content.records import BlobRow
from dpd.content.stock import Stock
from dpd.errors import ContentCorrupt, ContentError

SIZE = 9 * SLAB_BYTES + 5
Damage = Callable[[bytearray], None]


def flip(*positions: int) -> Damage:
    def damage(content: bytearray) -> None:
        for at in positions:
            content[at] ^= 1

    return damage


def cut(content: bytearray) -> None:
    del content[5000:]


def extend(content: bytearray) -> None:
    content.append(0)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip(0), "P version 1: slab 0 (bytes 0 to 4095) of 10 damaged; publish it again"),
        (flip(4095, 4096), "slab 0 (bytes 0 to 4095), slab 1 (bytes 4096 to 8191) of 10 damaged"),
        (flip(SIZE - 1), f"slab 9 (bytes {9 * SLAB_BYTES} to {SIZE - 1}) of 10 damaged"),
        (flip(*range(0, SIZE, SLAB_BYTES)), "slab 4 (bytes 16384 to 20479) and 5 more of 10 damaged"),
        (cut, "slab 1 (bytes 4096 to 8191), slab 2 (bytes 8192 to 12287)"),
        (extend, f"has more than the expected {SIZE} bytes"),
    ],
)
def test_damage_is_named_by_slab_and_publishing_again_repairs_it(
    library: Library, make_file: MakeFile, root: Path, damage: Damage, reason: str
) -> None:
    source = make_file(size_bytes=SIZE)
    library.publish(source, "P", 1)
    (blob,) = root.glob("blobs/*/*")
    content = bytearray(blob.read_bytes())
    damage(content)
    blob.write_bytes(content)
    with pytest.raises(ContentCorrupt) as refused:
        library.verify("P")
    assert reason in str(refused.value)
    library.publish(source, "P", 1)
    library.verify("P")


def test_progress_goes_slab_by_slab(library: Library, make_file: MakeFile) -> None:
    library.publish(make_file(size_bytes=2 * SLAB_BYTES + 1), "P")
    calls = list[tuple[int, int]]()
    library.verify("P", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4096, 8193), (8192, 8193), (8193, 8193)]


def test_a_manifest_that_was_tampered_with_is_told(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(), "P")
    (manifest,) = root.glob("manifests/*.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"source_version":1', b'"source_version":2'))
    with pytest.raises(ContentCorrupt, match="signature does not fit"):
        library.verify("P")


def test_the_manifest_of_another_content_is_told(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(), "P")
    (first,) = root.glob("manifests/*.json")
    library.publish(make_file(seed=2), "Q")
    (second,) = set(root.glob("manifests/*.json")) - {first}
    first.write_bytes(second.read_bytes())
    with pytest.raises(ContentCorrupt, match="P version 1: its manifest is that of other content"):
        library.verify("P")
    library.verify("Q")


def test_slabs_that_the_disk_will_not_give_back_are_named(library: Library, make_file: MakeFile, root: Path) -> None:
    """A descriptor that cannot be read from stands for the dying disk: each read of it really fails."""
    content = library.publish(make_file(size_bytes=SLAB_BYTES + 1), "P")
    manifest = decode_signed(library.manifest(content), None)
    descriptor = os.open(next(root.glob("blobs/*/*")), os.O_WRONLY)
    library.close()
    stock = Stock(root)
    try:
        inspection = Inspection(stock, SLAB_BYTES, lambda done, total: None, lambda content: b"")
        assert inspection.damaged_slabs(descriptor, manifest) == (0, 1)
    finally:
        os.close(descriptor)
        stock.close()


def test_a_file_that_cannot_be_opened_is_damage(
    library: Library, make_file: MakeFile, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = library.publish(make_file(), "P")
    (blob,) = root.glob("blobs/*/*")
    blob.unlink()
    monkeypatch.chdir(blob.parent)  # its name is too long for an address
    with socket.socket(socket.AF_UNIX) as unconnected:
        unconnected.bind(blob.name)
    (damage,) = library.damage(content)
    assert (damage.sha256, damage.reason) == (content.sha256, "unreadable")
    assert [row.sha256 for row in library.damaged_blobs()] == [content.sha256]


def test_too_many_open_files_are_no_damage(library: Library, make_file: MakeFile) -> None:
    content = library.publish(make_file(), "P")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = os.open(os.devnull, os.O_RDONLY)
    library.manifest(content)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened, limits[1]))
        with pytest.raises(ContentError, match="Too many open files; nothing is wrong with it") as refused:
            library.open_blob(content)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(opened)
    assert not isinstance(refused.value, ContentCorrupt)
    assert library.damaged_blobs() == []


def test_a_blob_that_is_removed_between_two_looks_is_no_damage(
    library: Library, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, other = library.publish(make_file(), "P"), library.publish(make_file("other", seed=2), "Q")
    real, blobs = Stock.open_row, library._stock.blobs

    def remove_first(stock: Stock, row: BlobRow) -> int:
        if row.sha256 == content.sha256 and blobs.blob(row.sha256) is not None:
            library.remove("P")
        return real(stock, row)

    monkeypatch.setattr(Stock, "open_row", remove_first)
    assert library.damage(content) == []
    assert library.damage(other) == []
