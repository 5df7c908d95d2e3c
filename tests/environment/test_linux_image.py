# SPDX-License-Identifier: Apache-2.0
"""Whole builds out of a small Debian on the disk; tests/interop/test_boot_image_build.py takes the real one."""

from __future__ import annotations

import gzip
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.environment.packaged import PYTHON, Repository, unpack

from dpd.environment.architectures import architecture
from dpd.environment.bytecode import Compiler, write_zipapp
from dpd.environment.linux_image import LinuxImage, Wish, build, build_time
from dpd.environment.packages import Packages, read_list
from dpd.errors import BuildError

MADE_AT = 1_700_000_000


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    target = tmp_path / "target.pyz"
    write_zipapp(target, {"__main__.py": b"print('target')\n"}, Compiler())
    return Wish(architecture("x64"), target, MADE_AT, b"PEM", "ab" * 32, quickly=True)


def built(debian: Repository, wish: Wish, tmp_path: Path, name: str) -> LinuxImage:
    folder = tmp_path / name
    folder.mkdir()
    return build(wish, Packages("amd64", tmp_path / "cache", sources=debian.sources), folder)


def test_an_image_has_programs_python_modules_and_the_target(debian: Repository, wish: Wish, tmp_path: Path) -> None:
    image = built(debian, wish, tmp_path, "out")
    assert image.kernel.read_bytes() == b"kernel"
    assert [path.read_bytes() for path in image.chain] == [b"signed shimx64.efi", b"signed grubx64.efi"]
    assert (image.release, image.modules) == ("6.1.0-9-amd64", 1)
    root = tmp_path / "root"
    unpack(image.initramfs, root)
    assert os.access(root / "init", os.X_OK)
    with zipfile.ZipFile(root / "dpd/dpd-target.pyz") as target:
        assert target.namelist() == ["__main__.py", "__main__.pyc"]
        assert {each.compress_type for each in target.infolist()} == {zipfile.ZIP_STORED}, "the initramfs is compressed"
    assert (root / "usr/sbin/mkfs.ext4").readlink() == Path("mke2fs")
    assert (root / f"usr/lib/{PYTHON}/os.pyc").is_file()
    assert not (root / f"usr/lib/{PYTHON}/test").exists()
    modules = root / "lib/modules/6.1.0-9-amd64"
    assert (modules / "modules.dep").read_text() == "kernel/fs/ext4/ext4.ko:\n"
    assert not (modules / "kernel/sound").exists()
    assert (root / "usr/lib/x86_64-linux-gnu/libicudata.so.72").stat().st_size < 1000
    assert (root / "usr/lib/grub/i386-pc/normal.mod").is_file()
    assert not (root / "usr/lib/grub/i386-pc/normal.module").exists()


def test_equal_packages_and_time_give_equal_bytes(debian: Repository, wish: Wish, tmp_path: Path) -> None:
    first, second = (built(debian, wish, tmp_path, name) for name in ("first", "second"))
    assert first.initramfs.read_bytes() == second.initramfs.read_bytes()
    assert (tmp_path / "first/packages.txt").read_bytes() == (tmp_path / "second/packages.txt").read_bytes()
    later = built(debian, replace(wish, made_at=MADE_AT + 1), tmp_path, "later")
    assert later.initramfs.read_bytes() != first.initramfs.read_bytes()


def test_the_list_names_what_something_was_taken_of(debian: Repository, wish: Wish, tmp_path: Path) -> None:
    image = built(debian, wish, tmp_path, "out")
    listed = list(read_list((tmp_path / "out/packages.txt").read_text(), "packages.txt"))
    assert tuple(listed) == image.packages
    names = [package.name for package in listed]
    assert names == sorted(names)
    assert {"busybox-static", "python3", "linux-image-6.1.0-9-amd64", "shim-signed"} <= set(names)
    assert "media-types" not in names, "nothing of it is in the image"


def test_without_grub_its_programs_and_modules_are_left_out(debian: Repository, wish: Wish, tmp_path: Path) -> None:
    image = built(debian, replace(wish, with_grub=False), tmp_path, "out")
    unpack(image.initramfs, tmp_path / "root")
    assert not (tmp_path / "root/usr/lib/grub").exists()
    assert not (tmp_path / "root/usr/sbin/grub-install").exists()


def test_a_package_that_lacks_what_is_to_be_in_it_is_told(repository: Repository, wish: Wish, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="linux-image-amd64"):
        built(repository, wish, tmp_path, "out")


def test_the_time_of_files_is_that_of_reproducible_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert build_time() == MADE_AT
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH=yesterday: expected seconds"):
        build_time()


def test_an_arm64_kernel_may_be_packed_and_no_other(debian: Repository, wish: Wish, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="x64: Debian's kernel is a packed one; leave --pack-kernel out"):
        built(debian, replace(wish, packed_kernel=True), tmp_path, "out")
    unpacked = replace(architecture("x64"), has_packed_kernel=False)
    image = built(debian, replace(wish, architecture=unpacked, packed_kernel=True), tmp_path, "packed")
    assert image.kernel.read_bytes()[:2] == b"\x1f\x8b"
    assert gzip.decompress(image.kernel.read_bytes()) == b"kernel"
