# SPDX-License-Identifier: Apache-2.0
"""What is stored plain is compared with its SHA-1; compressed WIMs, and both together, are in tests/interop/test_wim.py."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.content.wim_builder import HEADER_BYTES, RESOURCES, blob_entry, make_wim

from dpd.content.wim.verification import WimCheck, verify_wim
from dpd.errors import ContentCorrupt

COMPRESSED, FREE = 0x4, 0x1
SIZES = [len(each) for each in RESOURCES]


@contextmanager
def opened(*contents: bytes, folder: Path) -> Iterator[list[int]]:
    descriptors = []
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content)
        descriptors.append(os.open(folder / str(number), os.O_RDONLY))
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def verified(folder: Path, *contents: bytes, seen: list[tuple[int, int]] | None = None) -> WimCheck:
    with opened(*contents, folder=folder) as parts:
        names = [f"part{number}" for number in range(len(parts))]
        return verify_wim(parts, names, lambda *now: seen.append(now) if seen is not None else None)


def test_every_stored_blob_is_read_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert verified(tmp_path, make_wim(), seen=seen) == WimCheck(2, 2, by_wimlib=False)
    assert seen == [(SIZES[0], sum(SIZES)), (sum(SIZES), sum(SIZES))]


@pytest.mark.parametrize(("at", "blob"), [(0, 0), (SIZES[0] - 1, 0), (SIZES[0], 1), (sum(SIZES) - 1, 1)])
def test_a_flipped_bit_names_its_blob(tmp_path: Path, at: int, blob: int) -> None:
    damaged = bytearray(make_wim())
    damaged[HEADER_BYTES + at] ^= 0x10
    with pytest.raises(ContentCorrupt, match=rf"part0: blob {blob} \(bytes \d+ to \d+\) has another SHA-1"):
        verified(tmp_path, bytes(damaged))


def test_parts_are_read_one_after_the_other(tmp_path: Path) -> None:
    parts = [make_wim(part=(1, 2)), make_wim(part=(2, 2))]
    seen: list[tuple[int, int]] = []
    assert verified(tmp_path, *parts, seen=seen) == WimCheck(4, 4, by_wimlib=False)
    assert seen[-1] == (2 * sum(SIZES), 2 * sum(SIZES))
    damaged = bytearray(parts[1])
    damaged[HEADER_BYTES] ^= 1
    with pytest.raises(ContentCorrupt, match="part1: blob 0 "):
        verified(tmp_path, parts[0], bytes(damaged))


def test_what_is_not_in_use_is_not_read(tmp_path: Path) -> None:
    table = blob_entry(10, HEADER_BYTES, flags=FREE, sha1=b"x" * 20) + blob_entry(
        10, HEADER_BYTES, part=2, sha1=b"x" * 20
    )
    assert verified(tmp_path, make_wim(blobs=table)) == WimCheck(0, 0, by_wimlib=False)


def test_without_wimlib_what_is_compressed_stays_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packed = blob_entry(10, HEADER_BYTES, flags=COMPRESSED, original_size=20, sha1=b"x" * 20)
    found = verified(tmp_path, make_wim(blobs=packed))
    assert (found.resources, found.unchecked) == (1, 1)


def test_a_file_that_shrinks_meanwhile_is_truncated(tmp_path: Path) -> None:
    def shrink(done: int, total: int) -> None:
        os.truncate(tmp_path / "0", HEADER_BYTES + SIZES[0] + 1)

    with opened(make_wim(), folder=tmp_path) as parts, pytest.raises(ContentCorrupt, match=r"a\.wim: truncated"):
        verify_wim(parts, ["a.wim"], shrink)
