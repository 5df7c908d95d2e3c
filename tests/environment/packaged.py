# SPDX-License-Identifier: Apache-2.0
"""A small Debian for tests: packages made by dpkg-deb, and a repository on the disk that the real apt reads."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dpd.environment import contents
from dpd.environment.architectures import architecture

PYTHON = f"python3.{sys.version_info.minor}"


class Repository:
    """`sources` is a sources.list of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packages: list[str] = []
        (folder / "pool").mkdir(parents=True)
        self.sources = folder / "sources.list"
        self.sources.write_text(f"deb [trusted=yes] file:{folder} ./\n", encoding="utf-8")
        self._write()

    def add(
        self,
        name: str,
        files: Mapping[str, bytes | str],
        *,
        needs: str = "",
        version: str = "1.0-1",
        programs: bool = True,
    ) -> None:
        """A package with files by name; a text is where a link points."""
        root = self._folder / "roots" / f"{name}-{version}"
        fields = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: dpd <dpd@example.org>\n"
        fields += f"Depends: {needs}\n" if needs else ""
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN/control").write_text(f"{fields}Description: of a test\n", encoding="utf-8")
        for path, content in files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                place.symlink_to(content)
            else:
                place.write_bytes(content)
                place.chmod(0o755 if programs else 0o644)
        archive = self._folder / "pool" / f"{name}_{version}_all.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(archive)]
        subprocess.run(command, check=True, capture_output=True)
        content = archive.read_bytes()
        self._packages.append(
            f"{fields}Filename: ./pool/{archive.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\nDescription: of a test\n"
        )
        self._write()

    def _write(self) -> None:
        (self._folder / "Packages").write_text("\n".join(self._packages), encoding="utf-8")


def module(depends: str = "", *further: str) -> bytes:
    """A kernel module that says this of itself, and does nothing: an ELF file with one section and its name."""
    said = b"".join(f"{line}\0".encode() for line in (f"depends={depends}", *further))
    names = b"\0.modinfo\0.names\0"
    head, entry = 64, 64
    table = head + len(said) + len(names)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 1, 62, 1, 0, 0, table, 0, head, 0, 0, entry, 3, 2
    )
    section = struct.Struct("<IIQQQQIIQQ")
    sections = (
        bytes(entry)
        + section.pack(1, 1, 0, 0, head, len(said), 0, 0, 1, 0)
        + section.pack(10, 3, 0, 0, head + len(said), len(names), 0, 0, 1, 0)
    )
    return header + said + names + sections


def fill(repository: Repository) -> None:
    """What an environment for x64 is made of, each program a line of text: enough to build one of a few kilobytes."""
    libraries = "usr/lib/x86_64-linux-gnu"
    programs = {name: f"#!/bin/sh\n# {name}\n".encode() for name in (*contents.PROGRAMS, *contents.GRUB_PROGRAMS)}
    repository.add(
        "wimtools", {f"bin/{name.rpartition('/')[2]}": text for name, text in programs.items() if "/bin/" in name}
    )
    repository.add("e2fsprogs", {name: text for name, text in programs.items() if "/sbin/" in name})
    for name in ("ntfs-3g", "btrfs-progs", "dosfstools", "fdisk", "media-types"):
        repository.add(name, {f"usr/share/doc/{name}": b"said"})
    nss = {f"{libraries}/{name}": b"library" for name in ("libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1")}
    repository.add(
        "grub2-common",
        {f"{libraries}/libicudata.so.72": "libicudata.so.72.1", f"{libraries}/libicudata.so.72.1": b"i" * 99_999},
    )
    repository.add("grub-efi-amd64-bin", {"usr/lib/grub/x86_64-efi/normal.mod": b"module"})
    repository.add(
        "grub-pc-bin", {"usr/lib/grub/i386-pc/normal.mod": b"module", "usr/lib/grub/i386-pc/normal.module": b"symbols"}
    )
    repository.add("busybox-static", {"bin/busybox": b"#!busybox"} | nss)
    library = f"usr/lib/{PYTHON}"
    sources = {f"{library}/os.py": b"def name():\n    return 'posix'\n", f"{library}/json/__init__.py": b"'''json'''\n"}
    left_out = {
        f"{library}/test/test_os.py": b"",
        f"{library}/turtle.py": b"",
        f"{library}/lib-dynload/_tkinter.cpython.so": b"",
    }
    more: dict[str, bytes | str] = {
        f"usr/bin/{PYTHON}": b"#!python",
        f"{library}/lib-dynload/_json.cpython.so": b"json",
        f"{library}/gone.py": "/nowhere.py",
    }
    repository.add("python3", sources | left_out | more)
    repository.add("linux-image-amd64", {}, needs="linux-image-6.1.0-9-amd64")
    kernel = {
        "boot/vmlinuz-6.1.0-9-amd64": b"kernel",
        "lib/modules/6.1.0-9-amd64/kernel/fs/ext4/ext4.ko": module("", "alias=fs-ext4"),
        "lib/modules/6.1.0-9-amd64/kernel/sound/soundcore.ko": module(),
        "lib/modules/6.1.0-9-amd64/modules.builtin": b"kernel/fs/proc.ko\n",
        "lib/modules/6.1.0-9-amd64/modules.order": b"kernel/fs/ext4/ext4.ko\n",
    }
    repository.add("linux-image-6.1.0-9-amd64", kernel)
    for package, path, name in architecture("x64").chain:
        repository.add(package, {path: f"signed {name}".encode()}, programs=False)


def unpack(initramfs: Path, folder: Path) -> None:
    """As a kernel does, but into a folder."""
    folder.mkdir()
    plain = subprocess.run(["zstd", "-dcq", "--long=27", str(initramfs)], check=True, capture_output=True).stdout
    subprocess.run(["busybox", "cpio", "-id"], input=plain, cwd=folder, check=True, capture_output=True)
