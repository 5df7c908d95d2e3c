# SPDX-License-Identifier: Apache-2.0
"""Stored parity is what was computed, is read slab by slab, and whatever happened to it shows before it is used."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from dpd.content.library import Library
from dpd.content.storage.stored_parity import ParityCode, ParityWriter, StoredParity, parity_file_bytes
from dpd.errors import ContentCorrupt, LibraryFull

SLAB_BYTES, ROW_BYTES = 4096, 512
IMAGE = random.Random(4).randbytes(5 * SLAB_BYTES + 700)
SHA256 = sha256(IMAGE).hexdigest()


def xor_rows(slab: memoryview) -> list[bytes]:
    """Two rows: the sum of all, and that of every other one."""
    whole = bytes(slab) + bytes(-len(slab) % ROW_BYTES)
    rows = [int.from_bytes(whole[at : at + ROW_BYTES], "big") for at in range(0, len(whole), ROW_BYTES)]
    every = other = 0
    for i, row in enumerate(rows):
        every ^= row
        other ^= row if i % 2 else 0
    return [every.to_bytes(ROW_BYTES, "big"), other.to_bytes(ROW_BYTES, "big")]


CODE = ParityCode(2, ROW_BYTES, xor_rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "parity"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    writer = ParityWriter(descriptor, CODE, SLAB_BYTES, len(IMAGE))
    for at in range(0, len(IMAGE), 2 * SLAB_BYTES):
        writer.update(memoryview(IMAGE)[at : at + 2 * SLAB_BYTES])
    writer.finish(SHA256)
    os.close(descriptor)
    return path


def opened(
    path: Path, digest: str = SHA256, size_bytes: int = len(IMAGE), slab_bytes: int = SLAB_BYTES
) -> StoredParity:
    return StoredParity(os.open(path, os.O_RDONLY), digest, size_bytes, slab_bytes)


def slab_of(number: int) -> memoryview:
    return memoryview(IMAGE)[number * SLAB_BYTES : (number + 1) * SLAB_BYTES]


def test_each_slab_has_its_rows(path: Path) -> None:
    assert path.stat().st_size == parity_file_bytes(CODE, SLAB_BYTES, len(IMAGE))
    with closing(opened(path)) as parity:
        assert (parity.row_count, parity.row_bytes, parity.slab_count) == (2, ROW_BYTES, 6)
        for slab in range(6):
            assert parity.rows(slab) == xor_rows(slab_of(slab))


def test_rows_outlive_the_file(path: Path) -> None:
    parity = opened(path)
    rows = parity.rows(3)
    parity.close()
    parity.close()
    os.truncate(path, 0)
    assert rows == xor_rows(slab_of(3))
    with pytest.raises(ContentCorrupt, match="cannot be read: Bad file descriptor"):
        parity.rows(3)


def test_every_damaged_byte_shows_before_it_is_used(path: Path) -> None:
    whole = path.read_bytes()
    rows_begin = len(whole) - 6 * 2 * ROW_BYTES
    used = [*range(100), *range(4096, 4096 + 6 * 32), *range(rows_begin, len(whole), 97)]
    for at in used:
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ContentCorrupt):
            read_rows(path, (at - rows_begin) // (2 * ROW_BYTES))


def read_rows(path: Path, slab: int) -> list[memoryview]:
    with closing(opened(path)) as parity:
        return parity.rows(slab)


def test_damage_in_one_slab_leaves_the_others(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with closing(opened(path)) as parity:
        assert parity.rows(4) == xor_rows(slab_of(4))
        with pytest.raises(ContentCorrupt, match="stored parity of slab 5 is damaged"):
            parity.rows(5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b""), "that of another image"),
        (lambda path: os.truncate(path, 50), "that of another image"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), r"has \d+ bytes, expected \d+"),
        (lambda path: os.truncate(path, path.stat().st_size + 1), r"has \d+ bytes, expected \d+"),
    ],
    ids=["empty", "cut in the header", "short", "long"],
)
def test_a_file_of_another_length_is_refused_and_closed(
    path: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(path)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(ContentCorrupt, match=reason):
        StoredParity(descriptor, SHA256, len(IMAGE), SLAB_BYTES)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_that_of_another_image_or_geometry_is_refused(path: Path) -> None:
    for wrong in (
        {"digest": "0" * 64},
        {"size_bytes": len(IMAGE) - 1},
        {"slab_bytes": 2 * SLAB_BYTES},
    ):
        with pytest.raises(ContentCorrupt, match="another image"):
            opened(path, **wrong)


def test_a_header_that_lies_about_its_rows_is_refused(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(16)
        file.write(struct.pack("!H", 65535))
    with pytest.raises(ContentCorrupt, match="expected"):
        opened(path)


# ---- in a library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    (tmp_path / "image").write_bytes(IMAGE)
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        library.parity_code = CODE
        yield library


def sidecars(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("library/blobs/??/*.parity"))


def test_publishing_stores_it_and_removing_takes_it_away(library: Library, tmp_path: Path) -> None:
    content = library.publish(tmp_path / "image", "P")
    parity = library.open_parity(content)
    assert parity is not None
    with closing(parity):
        assert [parity.rows(slab) for slab in range(6)] == [xor_rows(slab_of(slab)) for slab in range(6)]
        library.verify("P")
        library.publish(tmp_path / "image", "Q")
        library.remove("P")
        assert len(sidecars(tmp_path)) == 1, "still used by Q"
        library.remove("Q")
        assert sidecars(tmp_path) == []
        assert parity.rows(0) == xor_rows(slab_of(0)), "who has it open goes on"


def test_publishing_again_repairs_it_and_without_the_setting_takes_it_away(library: Library, tmp_path: Path) -> None:
    content = library.publish(tmp_path / "image", "P")
    (sidecar,) = sidecars(tmp_path)
    good = sidecar.read_bytes()
    sidecar.write_bytes(b"damaged")
    with pytest.raises(
        ContentCorrupt, match=r"P version 1: the image is whole, but its stored parity .*publish it again"
    ):
        library.verify("P")
    library.publish(tmp_path / "image", "P", 1)
    assert sidecar.read_bytes() == good
    library.verify("P")
    library.parity_code = None
    library.publish(tmp_path / "image", "P", 1)
    assert library.open_parity(content) is None
    library.verify("P")


def test_the_room_for_it_is_asked_for_at_once(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.publish(tmp_path / "image", "P")
    (sidecar,) = sidecars(tmp_path)
    needed = len(IMAGE) + sidecar.stat().st_size + (4 << 20)
    monkeypatch.setattr(library._stock.store.own, "free_bytes", lambda: needed - 1)
    with pytest.raises(LibraryFull, match=f"needs {needed} bytes"):
        library.publish(tmp_path / "image", "Q")
    monkeypatch.setattr(library._stock.store.own, "free_bytes", lambda: needed)
    library.publish(tmp_path / "image", "Q")


def test_parity_that_cannot_be_made_leaves_nothing(library: Library, tmp_path: Path) -> None:
    def fail(slab: memoryview) -> list[bytes]:
        raise OSError(28, "No space left on device")

    library.parity_code = ParityCode(2, ROW_BYTES, fail)
    with pytest.raises(LibraryFull):
        library.publish(tmp_path / "image", "P")
    assert library.contents() == []
    assert [path for path in tmp_path.glob("library/*/*") if path.suffix == ".part"] == []
    assert list(tmp_path.glob("library/blobs/??/*")) == []


def test_the_image_is_read_once(library: Library, tmp_path: Path) -> None:
    """Counted by the kernel: what this process read from files while it published."""

    def read_bytes() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    big = tmp_path / "big"
    big.write_bytes(random.Random(5).randbytes(8 << 20))
    before = read_bytes()
    library.publish(big, "BIG")
    assert read_bytes() - before < 1.1 * (8 << 20)
