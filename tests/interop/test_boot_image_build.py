# SPDX-License-Identifier: Apache-2.0
"""The deployment environment out of Debian's own packages: how large it is, and whether what is inside runs."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Thread

import pytest
from tests.environment.packaged import unpack
from tests.interop.linux import cache_directory

from dpd.environment.architectures import architecture
from dpd.environment.linux_image import LinuxImage, Wish, build
from dpd.environment.packages import Packages
from dpd.errors import BuildError
from dpd.target import bundle

HERE = {"aarch64": "arm64"}.get(platform.machine(), "x64")
LIMIT_BYTES = 36_000_000  # kernel and initramfs, everything in it
MADE_AT = 1_700_000_000
IMPORTED = "asyncio, ctypes, hashlib, http.client, json, lzma, ssl, tomllib, zipfile"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> LinuxImage:
    folder = tmp_path_factory.mktemp("environment")
    target = folder / "target.pyz"
    bundle.build(target)
    here = architecture(HERE)
    try:
        packages = Packages(here.debian, cache_directory() / "packages")
        return build(Wish(here, target, MADE_AT, b"PEM", "ab" * 32), packages, folder)
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def root(image: LinuxImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked") / "root"
    unpack(image.initramfs, folder)
    return folder


@pytest.fixture
def inside(root: Path, need: Callable[..., None]) -> Callable[[str], str]:
    """Runs shell lines in the unpacked environment, and gives back what they say."""
    need("chroot", "unshare")

    def run(lines: str) -> str:
        command = ["unshare", "--mount", "--propagation=private", "chroot", str(root), "/bin/sh", "-e"]
        ran = subprocess.run(
            command,
            input=f"mount -t proc proc /proc\n{lines}",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, f"{ran.stdout[-1000:]}\n{ran.stderr[-1000:]}"
        return ran.stdout

    return run


def test_kernel_and_initramfs_are_no_larger_than_asked(image: LinuxImage) -> None:
    if HERE == "x64":  # Debian's kernel for ARM64 is not compressed
        assert image.size_bytes <= LIMIT_BYTES, f"{image.size_bytes} bytes"
    assert len(image.packages) > 30


def test_python_has_what_the_target_imports(inside: Callable[[str], str]) -> None:
    inside(f'python3 -I -S -c "import {IMPORTED}"')
    assert "deploy" in inside("python3 -I -S /dpd/dpd-target.pyz deploy --help")


def test_its_python_takes_the_target_as_bytecode(inside: Callable[[str], str]) -> None:
    told = (
        "import runpy, sys; sys.path[0] = '/dpd/dpd-target.pyz'; import dpd.target.deploy as it; print(it.__cached__)"
    )
    assert inside(f'python3 -I -S -c "{told}"').endswith("/dpd-target.pyz/dpd/target/deploy.pyc\n")


def test_the_clock_of_a_site_can_be_asked_for(inside: Callable[[str], str], tmp_path: Path) -> None:
    """The lines of /init, at what every distribution point answers. Some of busybox's options end in a segmentation fault."""
    init = (resources.files("dpd.environment") / "files/init").read_text("utf-8")
    lines = init[init.index("    there=$(timeout 5") : init.index('    [ "$there" -le')].replace(
        "timeout 5", "timeout 30"
    )
    (tmp_path / "repository/v1").mkdir(parents=True)
    (tmp_path / "repository/v1/identity").write_text("{}", "ascii")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        told = inside(f"ask() {{\n{lines}}}\nurl=http://127.0.0.1:{server.server_port}\nask\necho $there")
        server.shutdown()
    assert abs(int(told) - time.time()) < 300


def test_wimlib_captures_and_applies_with_an_icu_that_has_no_data(inside: Callable[[str], str]) -> None:
    """Names of files and of the image are not ASCII: wimlib reads and writes XML in UTF-16."""
    told = inside(
        """cd /tmp; export LC_ALL=C.UTF-8
        mkdir -p 'from/Ordner ä' && echo hello >'from/Ordner ä/日本.txt' && ln 'from/Ordner ä/日本.txt' from/hard
        wimlib-imagex capture from image.wim 'Bild ü' --unix-data --check >&2
        wimlib-imagex info image.wim
        mkdir -p to && wimlib-imagex apply image.wim 1 to --unix-data >&2
        cat 'to/Ordner ä/日本.txt'; test to/hard -ef 'to/Ordner ä/日本.txt'"""
    )
    assert "Bild ü" in told
    assert told.endswith("hello\n")


def test_its_programs_make_every_file_system(inside: Callable[[str], str]) -> None:
    inside(
        """cd /tmp; [ -e /dev/urandom ] || mknod /dev/urandom c 1 9
        for kind in fat ext4 btrfs ntfs; do truncate -s 300M $kind.img; done
        mkfs.fat -F 32 fat.img; mkfs.ext4 -q ext4.img; mkfs.btrfs -q btrfs.img; mkfs.ntfs -q -F ntfs.img
        fsck.fat -n fat.img; e2fsck -fn ext4.img; btrfs check btrfs.img; ntfsfix -n ntfs.img
        rm -f *.img"""
    )


def test_grub_s_images_can_be_made_for_both_kinds_of_firmware(inside: Callable[[str], str]) -> None:
    if HERE != "x64":
        pytest.skip("GRUB's modules are those of x64")
    for form in ("i386-pc", "x86_64-efi"):
        inside(
            f"grub-mkimage -O {form} -o /tmp/grub.{form} -p /boot/grub part_gpt ext2 normal linux; test -s /tmp/grub.{form}"
        )


def test_every_module_that_one_names_is_there(root: Path) -> None:
    (folder,) = (root / "usr/lib/modules").iterdir()
    named = {
        path for line in (folder / "modules.dep").read_text().splitlines() for path in line.replace(":", "").split()
    }
    assert not {path for path in named if not (folder / path).is_file()}
    for name in (
        "ext4",
        "vfat",
        "btrfs",
        "virtio_net",
        "e1000e",
        "igb",
        "tg3",
        "nvme",
        "ahci",
        "virtio_blk",
        "xhci-pci",
        "fuse",
    ):
        assert any(path.endswith(f"/{name}.ko") for path in named), name
