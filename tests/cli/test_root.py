# SPDX-License-Identifier: Apache-2.0
"""`dpd root …`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from tests.cli.conftest import Dpd

from dpd.cli.root import read_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1048576", 1 << 20), ("500M", 500 << 20), ("20GiB", 20 << 30), ("1tb", 1 << 40), ("7 ", 7), ("9B", 9)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert read_size(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "GiB", "1PiB", "1 G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a size such as 500M, 20GiB or 0"):
        read_size(text)


def test_a_root_is_added_filled_drained_and_removed(asked: Dpd, tmp_path: Path) -> None:
    source, folder = tmp_path / "root.img", tmp_path / "disk 2"
    source.write_bytes(os.urandom(100_000))
    added = asked("root", "add", folder, "--reserve", "1M").out
    number = added.removeprefix("root ").partition(":")[0]
    assert added.startswith(f"root {int(number)}: {folder} is active")
    try:
        asked("root", "set", "0", "--reserve", "1000T")
        assert asked("content", "publish", source, "--package", "ROOT0001").code == 0
        rows = asked("root", "list").out.splitlines()
        assert rows[0].split() == ["ID", "STATE", "FREE", "OF", "RESERVE", "BLOBS", "HOLDS", "PATH"]
        assert rows[2].split()[:2] == [number, "active"]
        assert rows[2].rstrip().endswith(str(folder))
        listed = asked("root", "list", "--json").json["roots"]
        assert [(each["id"], each["reserve_bytes"]) for each in listed] == [(0, 1000 << 40), (int(number), 1 << 20)]
        assert (listed[1]["blobs"], listed[1]["blob_bytes"]) == (1, 100_000)
        refused = asked("root", "remove", number)
        assert (refused.code, f"run `dpd root drain {number}` first" in refused.err) == (1, True)
        asked("root", "set", "0", "--reserve", "0")
        drained = asked("root", "drain", number)
        assert (drained.code, drained.err) == (0, "")
        assert asked("root", "list", "--json").json["roots"][1]["state"] == "empty"
    finally:
        asked("root", "set", "0", "--reserve", "0")
        asked("root", "drain", number)
        removed = asked("root", "remove", number)
    assert removed.out == f"root {number}: {folder} is no root any more\n"
    assert asked("content", "verify", "ROOT0001").code == 0
    assert asked("content", "remove", "ROOT0001").code == 0
    assert os.listdir(folder) == []


def test_what_cannot_be_is_told(asked: Dpd, tmp_path: Path) -> None:
    assert asked("root", "set", "0").code == 2
    ended = asked("root", "drain", "77")
    assert (ended.code, "there is no root 77; `dpd root list`" in ended.err) == (1, True)
    ended = asked("root", "add", "/proc/dpd")
    assert (ended.code, "/proc/dpd: cannot be a root" in ended.err) == (1, True)
