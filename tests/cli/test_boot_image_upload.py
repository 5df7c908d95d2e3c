# SPDX-License-Identifier: Apache-2.0
"""Files of a boot image on their way to a running daemon."""

from __future__ import annotations

from pathlib import Path

from tests.boot.conftest import bz_image
from tests.cli.conftest import Dpd


def test_files_arrive_whole_and_in_order(asked: Dpd, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(bz_image())
    initrds = []
    for number, size in enumerate((1, 3_000_000, 17)):
        path = tmp_path / f"initrd-{number}"
        path.write_bytes(bytes([number]) * size)
        initrds += ["--initrd", path]
    added = asked("boot-image", "add", "--id", "LNX2", "--kernel", kernel, *initrds, "--json")
    assert added.code == 0, added.err
    assert added.json["size_bytes"] == kernel.stat().st_size + 3_000_018
    assert added.json["files"] == ["vmlinuz", "initrd.img", "initrd-1.img", "initrd-2.img"]


def test_a_file_that_cannot_be_read_is_named(asked: Dpd, tmp_path: Path) -> None:
    refused = asked("boot-image", "add", "--id", "LNX2", "--kernel", tmp_path / "no-such-kernel", "--arch", "x64")
    assert refused.code == 1
    assert "no-such-kernel" in refused.err
