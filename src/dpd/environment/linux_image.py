# SPDX-License-Identifier: Apache-2.0
"""A Linux boot image out of Debian's packages: kernel, initramfs, the signed loaders for it, and the list of what is inside.

Equal packages, target and time give equal bytes: members of the initramfs are sorted, and each has the one time.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dpd.environment import contents
from dpd.environment.architectures import Architecture
from dpd.environment.cpio import write_archive
from dpd.environment.file_tree import FileTree
from dpd.environment.packages import Package, Packages, described
from dpd.errors import BuildError

KERNEL, INITRAMFS, LIST = "vmlinuz", "initrd.img", "packages.txt"
# Linux unpacks windows of up to 128 MiB; more than 27 bits only takes more of the machine's memory.
COMPRESS = ("zstd", "--quiet", "-19", "--long=27", "-T1", "--stdout", "-")
COMPRESS_QUICKLY = ("zstd", "--quiet", "-3", "-T1", "--stdout", "-")

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an image is to be. `made_at`: seconds since the epoch, of every file inside. `authorities` is PEM. `quickly`:
    compress less, for trials. `packed_kernel`: by gzip, where Debian's is not packed; no Secure Boot then."""

    architecture: Architecture
    target: Path
    made_at: int
    authorities: bytes = b""
    public_key: str = ""
    with_grub: bool = True
    quickly: bool = False
    packed_kernel: bool = False


@dataclass(frozen=True, slots=True)
class LinuxImage:
    """What was built, in one folder. `chain`: the signed loaders, in the order in which they start each other."""

    kernel: Path
    initramfs: Path
    chain: tuple[Path, ...]
    packages: tuple[Package, ...]
    release: str
    unpacked_bytes: int
    modules: int

    @property
    def size_bytes(self) -> int:
        return self.kernel.stat().st_size + self.initramfs.stat().st_size


def build(wish: Wish, packages: Packages, folder: Path, told: Told = lambda what: None) -> LinuxImage:
    """Build into a folder that is there. Raises BuildError."""
    if shutil.which(COMPRESS[0]) is None:
        raise BuildError("zstd: not on this machine; apt-get install zstd")
    architecture = wish.architecture
    if wish.packed_kernel and architecture.has_packed_kernel:
        raise BuildError(f"{architecture.name}: Debian's kernel is a packed one; leave --pack-kernel out")
    told("packages")
    kernel_name = packages.kernel(architecture.kernel)
    archives = packages.fetch([*contents.PACKAGES, *(architecture.grub if wish.with_grub else ())])
    (kernel_archive,) = packages.fetch([kernel_name], with_needed=False).values()
    signed = packages.fetch([package for package, _, _ in architecture.chain], with_needed=False)
    unpacked = {name: packages.unpacked(archive) for name, archive in archives.items()}
    kernel = packages.unpacked(kernel_archive)
    told("files")
    with tempfile.TemporaryDirectory(prefix="dpd-environment-", dir=folder) as work:
        tree = FileTree(unpacked, architecture.libraries)
        contents.put_system(tree)
        contents.put_programs(tree, architecture, with_grub=wish.with_grub)
        interpreters = [
            path for name, path in tree.paths("usr/bin") if name.startswith("python3.") and name[8:].isdigit()
        ]
        compiler = contents.put_library(tree, architecture, interpreters, Path(work))
        modules = contents.put_modules(tree, kernel)
        target = contents.compiled_target(wish.target, compiler, Path(work))
        contents.put_target(tree, target, wish.made_at, authorities=wish.authorities, public_key=wish.public_key)
        told("initramfs")
        initramfs = folder / INITRAMFS
        unpacked_bytes = _compress(tree, initramfs, wish)
    (image,) = kernel.glob("boot/vmlinuz-*")
    _put_kernel(image, folder / KERNEL, wish)
    chain = tuple(
        _put_signed(packages, signed[package], path, folder / name) for package, path, name in architecture.chain
    )
    inside = {name: archives[name] for name in tree.used} | {kernel_name: kernel_archive} | signed
    listed = tuple(sorted(described(archive) for archive in inside.values()))
    (folder / LIST).write_text(list_text(listed), encoding="ascii")
    return LinuxImage(
        folder / KERNEL, initramfs, chain, listed, image.name.removeprefix("vmlinuz-"), unpacked_bytes, modules
    )


def list_text(packages: Iterable[Package]) -> str:
    """What a build may be repeated with."""
    return "# name, version, SHA-256 of the package\n" + "".join(f"{package}\n" for package in packages)


def _compress(tree: FileTree, initramfs: Path, wish: Wish) -> int:
    command = COMPRESS_QUICKLY if wish.quickly else COMPRESS
    with initramfs.open("wb") as out, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as compressor:
        assert compressor.stdin is not None
        with compressor.stdin as into:
            written = write_archive(into, tree.members(), wish.made_at)
    if compressor.returncode:
        raise BuildError(f"{initramfs}: zstd ended with status {compressor.returncode}")
    return written


def _put_kernel(image: Path, place: Path, wish: Wish) -> None:
    if not wish.packed_kernel:
        shutil.copyfile(image, place)
        return
    with place.open("wb") as file, gzip.GzipFile("", "wb", 1 if wish.quickly else 9, file, wish.made_at) as packed:
        packed.write(image.read_bytes())


def _put_signed(packages: Packages, archive: Path, path: str, place: Path) -> Path:
    source = packages.unpacked(archive) / path
    if not source.is_file():
        raise BuildError(f"{archive.name}: no {path} in it")
    return Path(shutil.copyfile(source, place))


def build_time() -> int:
    """SOURCE_DATE_EPOCH as reproducible-builds.org defines it; 0 where it is not set. Raises BuildError."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise BuildError(f"SOURCE_DATE_EPOCH={given}: expected seconds since 1970")
    return int(given or 0)
