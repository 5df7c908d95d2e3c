# SPDX-License-Identifier: Apache-2.0
"""The file being received: what survives kill -9, power cuts, other hands and full disks, and what is never believed."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from blake3 import blake3

from dpd.content.manifest import Manifest
from dpd.errors import ContentError
from dpd.target.receiving.slab_store import SlabStore

SLAB = 4096
CONTENT = random.Random(6).randbytes(5 * SLAB + 100)
SLABS = [CONTENT[at : at + SLAB] for at in range(0, len(CONTENT), SLAB)]
MANIFEST = Manifest(
    package_id="LAB00001",
    source_version=1,
    size_bytes=len(CONTENT),
    sha256=sha256(CONTENT).hexdigest(),
    slab_bytes=SLAB,
    slab_hashes=tuple(sha256(slab).digest() for slab in SLABS),
    slab_blake3=tuple(blake3(slab).digest() for slab in SLABS),
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "image.wim"


def slab(number: int) -> memoryview:
    return memoryview(SLABS[number])


def store_of(output: Path, *slabs: int, sync: bool = True) -> SlabStore:
    store = SlabStore(output, MANIFEST)
    for number in slabs:
        assert store.check_and_write(number, slab(number))
    if sync:
        store.sync()
    return store


def reopened(output: Path) -> int:
    """What a new run believes to have."""
    store = SlabStore(output, MANIFEST)
    store.close()
    return store.verified


def killed(output: Path, *slabs: int, sync: bool = False) -> None:
    """A run that stored these and was killed; without `sync` nothing is known to be durable."""
    store_of(output, *slabs, sync=sync).close()


def test_slabs_in_any_order_become_the_image_under_its_name(output: Path) -> None:
    store = store_of(output, 5, 0, 3, 1, 2, 4)
    assert not output.exists()
    store.finish()
    store.close()
    assert output.read_bytes() == CONTENT
    assert list(output.parent.iterdir()) == [output]


def test_a_damaged_slab_touches_neither_file_nor_journal(output: Path) -> None:
    store = store_of(output)
    before = store.journal.read_bytes()
    assert not store.check_and_write(1, slab(2))
    assert store.journal.read_bytes() == before
    assert store.part.read_bytes() == bytes(len(CONTENT))
    store.close()


@pytest.mark.parametrize("sync", [True, False])
def test_a_killed_run_goes_on_where_it_was(output: Path, sync: bool) -> None:
    killed(output, 0, 3, 5, sync=sync)
    assert reopened(output) == 0b101001


def test_after_a_power_cut_what_was_not_durable_is_hashed_again(output: Path) -> None:
    store = store_of(output, 0, 1)
    store.check_and_write(2, slab(2))
    store.check_and_write(3, slab(3))
    store.close()
    with store.part.open("r+b") as part:
        part.seek(3 * SLAB)
        part.write(bytes(SLAB))  # the page that never reached the disk
    assert reopened(output) == 0b0111


def test_what_was_durable_is_not_read_again(output: Path) -> None:
    """Re-reading 20 GB would take a minute at each start."""
    killed(output, 0, 1, sync=True)
    part = output.with_name("image.wim.part")
    part.write_bytes(bytes(len(CONTENT)))
    assert reopened(output) == 0b11


def test_a_mark_covers_only_what_was_logged_before_the_sync_began(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker stores a slab while the disk is syncing: it is in the journal, and not known to be durable."""
    store = store_of(output, 0)
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        real(descriptor)
        assert store.check_and_write(1, slab(1))

    store.check_and_write(4, slab(4))
    monkeypatch.setattr(os, "fdatasync", slow)
    store.sync()
    monkeypatch.undo()
    store.close()
    assert store.journal.read_text().splitlines()[-2:] == ["v 1", "s 2"]
    with store.part.open("r+b") as part:
        part.seek(SLAB)
        part.write(bytes(SLAB))
    assert reopened(output) == 0b10001


def cut(part: Path) -> None:
    os.truncate(part, 2 * SLAB + 10)


def extend(part: Path) -> None:
    with part.open("ab") as file:
        file.write(b"more")


def remove(part: Path) -> None:
    part.unlink()


@pytest.mark.parametrize(("change", "left"), [(cut, 0b11), (extend, 0b11111), (remove, 0)])
def test_a_file_that_is_not_as_it_was_left_is_hashed_whole(
    output: Path, change: Callable[[Path], None], left: int
) -> None:
    killed(output, 0, 1, 2, 3, 4, sync=True)
    change(output.with_name("image.wim.part"))
    store = SlabStore(output, MANIFEST)
    assert store.verified == left
    assert store.part.stat().st_size == len(CONTENT)
    store.close()


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"\0" * 4096,
        b"manifest 00\nv 0\ns 1\n",
        b"garbage\nv 0\nv 1\ns 2\n",
        b"\xff\xfe\xfd",
    ],
    ids=["empty", "zeros", "another image", "no head", "binary"],
)
def test_a_journal_that_is_not_ours_counts_for_nothing(output: Path, journal: bytes) -> None:
    killed(output, 0, 1)
    output.with_name("image.wim.journal").write_bytes(journal)
    assert reopened(output) == 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("v 0\nv 1", 0b11),  # torn behind the number: hashed again
        ("v 0\nv", 0b01),
        ("v 0\nv 99\nv -1\nv 1\n", 0b11),
        ("v 0\nv 3\n", 0b01),  # 3 was never written
        ("v 0\nx 1\n\0\0\0\nv 1\n", 0b11),
        ("v 0\ns 7\nv 3\n", 0b01),  # a mark beyond what is logged
        ("v " + "9" * 5000 + "\nv 0\n", 0b01),
        ("v 1\nv 1\nv 1\n", 0b10),
    ],
)
def test_lines_that_make_no_sense_are_passed_over(output: Path, lines: str, expected: int) -> None:
    killed(output, 0, 1)
    journal = output.with_name("image.wim.journal")
    head = journal.read_text().splitlines()[0]
    journal.write_text(f"{head}\ns 0\n{lines}")
    assert reopened(output) == expected


def test_another_version_of_the_image_starts_anew(output: Path) -> None:
    killed(output, 0, 1, sync=True)
    other = Manifest(**{name: getattr(MANIFEST, name) for name in MANIFEST.__slots__} | {"source_version": 2})
    store = SlabStore(output, other)
    assert store.verified == 0
    store.close()


def test_the_journal_does_not_grow_over_many_runs(output: Path) -> None:
    killed(output, 0, 1)
    sizes = set()
    for _ in range(5):
        assert reopened(output) == 0b11
        sizes.add(output.with_name("image.wim.journal").stat().st_size)
    assert len(sizes) == 1
    assert not output.with_name("image.wim.journal.new").exists()


def test_workers_store_side_by_side(output: Path) -> None:
    store = SlabStore(output, MANIFEST)

    def work(numbers: range) -> None:
        for number in numbers:
            store.check_and_write(number, slab(number))
            store.sync()

    threads = [threading.Thread(target=work, args=(range(first, 6, 2),)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert store.part.read_bytes() == CONTENT
    assert store.journal.read_text().splitlines().count("s 6") == 1
    assert reopened(output) == 0b111111


# ---- refusals


def test_two_receivers_do_not_write_one_file(output: Path) -> None:
    store = SlabStore(output, MANIFEST)
    with pytest.raises(ContentError, match=r"image.wim.part: another `dpd receive` writes it; choose another --output"):
        SlabStore(output, MANIFEST)
    store.close()
    assert reopened(output) == 0


@pytest.mark.parametrize("name", ["", "/", "."])
def test_a_directory_is_no_output(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContentError, match="is a directory; --output is the name of the file to write"):
        SlabStore(Path(name), MANIFEST)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"nope/image.part: cannot be written: No such file or directory; choose"):
        SlabStore(tmp_path / "nope" / "image", MANIFEST)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_shows_before_the_first_datagram_and_nothing_is_kept_of_it(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(48 << 10))
    with pytest.raises(ContentError, match=rf"no room for {len(CONTENT)} bytes, 16384 are free; make room or choose"):
        SlabStore(small_disk / "image", MANIFEST)
    assert (small_disk / "image.part").stat().st_blocks == 0


def test_a_disk_that_fills_up_meanwhile_is_told_and_what_is_verified_stays(small_disk: Path) -> None:
    store = store_of(small_disk / "image", 0, 1)
    free = os.statvfs(small_disk)
    (small_disk / "other").write_bytes(bytes(free.f_bavail * free.f_frsize))

    def fill() -> None:  # the image has its room; it is the journal that grows
        for number in [2, 3, 4, 5] * 500:
            store.check_and_write(number, slab(number))

    with pytest.raises(ContentError, match="No space left on device; what was verified is kept: make room and run"):
        fill()
    store.close()
    (small_disk / "other").unlink()
    assert reopened(small_disk / "image") & 0b11 == 0b11


def test_a_file_larger_than_the_file_system_takes_is_told(output: Path) -> None:
    huge = Manifest(**{name: getattr(MANIFEST, name) for name in MANIFEST.__slots__} | {"size_bytes": 1 << 60})
    with pytest.raises(ContentError, match=r"no room for|cannot be made|cannot be reserved"):
        SlabStore(output, huge)


def test_a_disk_that_fails_to_sync_is_told(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(output, 0, sync=False)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(
        ContentError, match=r"part: cannot be made durable: Input/output error; what was verified is kept: run"
    ):
        store.sync()
    monkeypatch.undo()
    store.close()
    assert "s 1" not in store.journal.read_text()
