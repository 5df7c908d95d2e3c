# SPDX-License-Identifier: Apache-2.0
"""GRUB's menu and the table of file systems; GRUB's own parser judges the menu."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.target.stage import make_tree, need

from dpd.target.starting.boot_menu import file_systems, kernels, menu, stub
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed

ROOT = Volume("root", "/dev/sda", 2, "/dev/sda2", "linux", "ext4", "part-uuid", "1111-uuid")


def test_the_newest_kernel_comes_first_each_with_its_ram_disk(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "boot/vmlinuz").write_bytes(b"old")
    (tree / "boot/vmlinuz.dpkg-new.old").mkdir()
    assert kernels(tree) == [
        ("vmlinuz-6.1.0-10-amd64", "initrd.img-6.1.0-10-amd64"),
        ("vmlinuz-6.1.0-9-amd64", ""),
        ("vmlinuz", ""),
    ]


@pytest.mark.parametrize("options", ["", "console=ttyS0,115200n8 quiet", "a=$x b={c} d='e' ; reboot"])
def test_grub_reads_the_menu(tmp_path: Path, options: str) -> None:
    need("grub-script-check")
    place = tmp_path / "grub.cfg"
    place.write_text(menu(make_tree(tmp_path / "tree"), ROOT, options))
    checked = subprocess.run(["grub-script-check", place], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    (tmp_path / "stub.cfg").write_text(stub(ROOT))
    assert subprocess.run(["grub-script-check", tmp_path / "stub.cfg"], check=False).returncode == 0


def test_options_of_several_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="printable characters in one line"):
        menu(make_tree(tmp_path / "tree"), ROOT, "a\nreboot")


def test_a_btrfs_root_has_its_module_and_its_line(tmp_path: Path) -> None:
    root = Volume("root", "/dev/sda", 2, "/dev/sda2", "linux", "btrfs", "p", "u")
    assert "insmod btrfs" in menu(make_tree(tmp_path / "tree"), root, "")
    assert "UUID=u / btrfs defaults 0 0" in file_systems([root], root, "")


def test_the_table_has_root_swap_and_the_efi_system_partition(tmp_path: Path) -> None:
    esp = Volume("esp", "/dev/sda", 1, "/dev/sda1", "esp", "fat32", "p", "AAAA-BBBB")
    swap = Volume("swap", "/dev/sda", 3, "/dev/sda3", "swap", "swap", "p", "swap-uuid")
    data = Volume("data", "/dev/sda", 4, "/dev/sda4", "data", "ext4", "p", "data-uuid")
    assert file_systems([esp, ROOT, swap, data], ROOT, "esp").splitlines()[1:] == [
        "UUID=AAAA-BBBB /boot/efi vfat umask=0077 0 1",
        "UUID=1111-uuid / ext4 errors=remount-ro 0 1",
        "UUID=swap-uuid none swap sw 0 0",
    ]
