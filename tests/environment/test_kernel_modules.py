# SPDX-License-Identifier: Apache-2.0
"""Modules of a kernel made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.environment.packaged import module

from dpd.environment.kernel_modules import KernelModules, module_name, tables
from dpd.errors import BuildError


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    files = {
        "fs/ext4/ext4.ko": module("mbcache,jbd2", "alias=fs-ext4", "softdep=pre: crc32c-generic"),
        "fs/jbd2/jbd2.ko": module("crc16"),
        "fs/mbcache.ko": module(),
        "lib/crc16.ko": module(),
        "crypto/crc32c_generic.ko": module("", "alias=crypto-crc32c"),
        "drivers/net/virtio_net.ko": module("net_failover,built_in", "alias=virtio:d00000001v*"),
        "drivers/net/net_failover.ko": module(),
        "drivers/ata/pata_via.ko": module(),
        "drivers/ata/ahci.ko": module(),
        "drivers/atari/atari.ko": module(),
    }
    for name, content in files.items():
        place = tmp_path / "kernel" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return tmp_path


def names(kernel: Path, *wanted: str, unwanted: tuple[str, ...] = ()) -> list[str]:
    return [each.name for each in KernelModules(kernel).chosen(wanted, unwanted)]


def test_modules_come_with_what_they_need_by_symbol_and_at_run_time(kernel: Path) -> None:
    assert names(kernel, "fs/ext4") == ["crc32c_generic", "ext4", "jbd2", "mbcache", "crc16"]


def test_what_is_built_into_the_kernel_is_no_module(kernel: Path) -> None:
    assert names(kernel, "drivers/net/virtio_net.ko") == ["net_failover", "virtio_net"]


def test_a_folder_is_not_another_one_that_begins_like_it(kernel: Path) -> None:
    assert names(kernel, "drivers/ata", unwanted=("drivers/ata/pata",)) == ["ahci"]


def test_the_tables_say_what_is_loaded_before_the_last_first(kernel: Path) -> None:
    told = dict(tables(KernelModules(kernel).chosen(("fs/ext4", "drivers/net"), ())))
    (line,) = [line for line in told["modules.dep"].splitlines() if line.startswith("kernel/fs/ext4/")]
    before = [module_name(path) for path in line.split(":")[1].split()]
    assert sorted(before) == ["crc16", "crc32c_generic", "jbd2", "mbcache"]
    assert before.index("crc16") > before.index("jbd2")
    assert "alias fs-ext4 ext4\n" in told["modules.alias"]
    assert "alias virtio:d00000001v* virtio_net\n" in told["modules.alias"]


def test_a_folder_without_modules_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no kernel modules"):
        KernelModules(tmp_path)
