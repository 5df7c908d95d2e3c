# SPDX-License-Identifier: Apache-2.0
"""What wimlib reads of a WIM before it writes the first file, and that nothing else is taken for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dpd.content.wim.file import WimFile
from dpd.content.wim.index import index_extents

FILE_BYTES = 3 << 20


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if shutil.which("wimlib-imagex") is None:
        pytest.skip("missing: wimlib-imagex")
    found = []
    for name in ("one", "two"):
        tree = tmp_path_factory.mktemp(name)
        for number in range(3):
            (tree / f"file{number}").write_bytes(os.urandom(FILE_BYTES))
        found.append(tree)
    return found


def wimlib(*words: str | Path) -> str:
    ran = subprocess.run(["wimlib-imagex", *map(str, words)], capture_output=True, text=True, check=True)
    return ran.stdout


def extents_of(wim: Path, image: int = 0) -> list[tuple[int, int]]:
    descriptor = os.open(wim, os.O_RDONLY)
    try:
        return list(index_extents(WimFile(descriptor), image))
    finally:
        os.close(descriptor)


def offsets(wim: Path) -> dict[str, int]:
    found = re.findall(r"^(\w.*?) +Offset += (\d+)$", wimlib("info", wim, "--header"), re.MULTILINE)
    return {name: int(offset) for name, offset in found}


@pytest.mark.parametrize("option", ["--compress=none", "--compress=lzx", "--solid", "--pipable"])
def test_header_tables_and_metadata_are_found_and_no_file(tmp_path: Path, trees: list[Path], option: str) -> None:
    wim = tmp_path / "test.wim"
    wimlib("capture", trees[0], wim, "one", option)
    wimlib("append", trees[1], wim, "two")
    found = extents_of(wim)
    assert found[0] == (0, 208)
    told = offsets(wim)
    assert {told["Blob Table"], told["XML Data"]} <= {begin for begin, _ in found}
    metadata = [
        int(offset)
        for offset, flags in re.findall(
            r"Offset in WIM += (\d+) bytes\n.*\n.*\nFlags += (.*)\n", wimlib("info", wim, "--blobs")
        )
        if "METADATA" in flags
    ]
    assert len(metadata) == 2
    assert set(metadata) <= {begin for begin, _ in found}
    assert set(metadata) & {begin for begin, _ in extents_of(wim, 2)} == {metadata[1]}
    assert sum(end - begin for begin, end in found) < FILE_BYTES
    assert all(0 <= begin < end <= wim.stat().st_size for begin, end in found)


def test_what_is_no_wim_or_a_damaged_one_has_what_can_be_told(tmp_path: Path, trees: list[Path]) -> None:
    other = tmp_path / "other"
    other.write_bytes(os.urandom(5000))
    assert extents_of(other) == [(0, 208)]
    other.write_bytes(b"short")
    assert extents_of(other) == []
    wim = tmp_path / "test.wim"
    wimlib("capture", trees[0], wim, "one", "--compress=none")
    os.truncate(wim, wim.stat().st_size // 2)
    assert extents_of(wim) == [(0, 208)]
