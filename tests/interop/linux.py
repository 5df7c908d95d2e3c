# SPDX-License-Identifier: Apache-2.0
"""The Linux that a test machine boots: Debian's kernel, never installed, and an initramfs of one busybox.

The kernel is downloaded once into the user's cache. The cloud flavour is 27 MB instead of 70, and has all that a boot
to the first userspace line needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

KERNEL_PACKAGE = "linux-image-cloud-amd64"
BUSYBOX = Path("/usr/bin/busybox"), Path("/bin/busybox")
MARK = "DPD-LAB-USERSPACE-OK"
INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "{MARK} $(/bin/busybox cat /proc/cmdline)"
/bin/busybox reboot -f
"""

IPXE_EFI = Path("/usr/lib/ipxe/ipxe.efi")
BOOT_SCRIPT = """#!ipxe
kernel http://{address}:8080/boot/vmlinuz initrd=initrd.cpio console=ttyS0 quiet panic=-1 dpd.mac=${{net0/mac}}
initrd http://{address}:8080/boot/initrd.cpio
boot
"""

FILE, DIRECTORY, CHARACTER_DEVICE = 0o100000, 0o040000, 0o020000


PutLinux = Callable[[Path], tuple[Path, Path]]  # the fixture of that name


class LinuxMissing(Exception):
    """Something of it is not here and not to be had; the message says what and why."""


def cache_directory() -> Path:
    """Where downloads for tests live between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpd-tests"


def put_linux(folder: Path) -> tuple[Path, Path]:
    """The kernel as vmlinuz and the initramfs as initrd.cpio in a folder. Raises LinuxMissing."""
    busybox = find_busybox()
    if busybox is None:
        raise LinuxMissing("missing: busybox-static")
    kernel, initramfs = folder / "vmlinuz", folder / "initrd.cpio"
    shutil.copy(find_kernel(), kernel)
    write_initramfs(initramfs, busybox)
    return kernel, initramfs


def find_kernel() -> Path:
    """Debian's newest kernel, from the cache or by `apt-get download`. Raises LinuxMissing."""
    cached = sorted(cache_directory().glob("vmlinuz-*"))
    return cached[-1] if cached else _download_kernel()


def find_modules(*names: str) -> list[Path]:
    """Modules of that kernel, in this order. Raises LinuxMissing."""
    folder = modules_of(find_kernel())
    if not folder.is_dir():
        _download_kernel()
    found = [folder / f"{name}.ko" for name in names]
    lacking = [path.name for path in found if not path.is_file()]
    if lacking:
        raise LinuxMissing(f"{folder.name}: {', '.join(lacking)} not among the modules of {KERNEL_PACKAGE}")
    return found


def modules_of(kernel: Path) -> Path:
    """Where a kernel's modules for a virtual network card and networks lie in the cache, flat."""
    return kernel.with_name(kernel.name.replace("vmlinuz-", "modules-"))


def _download_kernel() -> Path:
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_directory()) as work:
        package = _output("apt-cache", "depends", "--important", KERNEL_PACKAGE, where=work).split("Depends: ")[-1]
        _output("apt-get", "download", package.strip(), where=work)
        archive = next(Path(work).glob("*.deb"))
        _output("dpkg-deb", "--extract", str(archive), "unpacked", where=work)
        kernel = next(Path(work, "unpacked/boot").glob("vmlinuz-*"))
        modules = Path(work, "modules")
        modules.mkdir()
        for module in Path(work, "unpacked/lib/modules").rglob("*.ko"):
            if {"net", "802", "8021q", "core", "llc", "virtio"} & {module.parent.name}:
                shutil.move(module, modules / module.name)
        kept = cache_directory() / kernel.name
        if not modules_of(kept).exists():
            os.rename(modules, modules_of(kept))
        return Path(shutil.move(kernel, kept))


def _output(*command: str, where: str) -> str:
    try:
        run = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise LinuxMissing(f"no Linux kernel to boot: {' '.join(command)}: {said}") from None
    return run.stdout


def find_busybox() -> Path | None:
    """A busybox that needs no library (Debian: busybox-static); None where there is none."""
    for path in BUSYBOX:
        if path.is_file() and b"/ld-linux" not in path.read_bytes():  # a dynamic one names its loader
            return path
    return None


def write_initramfs(path: Path, busybox: Path, init: str = INIT, files: Mapping[str, Path] | None = None) -> None:
    """An initramfs with a first program, which by default says MARK and the kernel's command line and switches the machine off;
    and with other files by the name they have there, without a leading slash."""
    programs = {"bin/busybox": busybox, **(files or {})}
    folders = {str(parent) for name in programs for parent in PurePosixPath(name).parents} | {"dev", "proc", "sys"}
    entries = [
        *(_cpio_entry(folder, DIRECTORY | 0o755) for folder in sorted(folders - {"."})),
        _cpio_entry("dev/console", CHARACTER_DEVICE | 0o600, device=(5, 1)),
        *(_cpio_entry(name, FILE | 0o755, file.read_bytes()) for name, file in programs.items()),
        _cpio_entry("init", FILE | 0o755, init.encode()),
        _cpio_entry("TRAILER!!!", 0),
    ]
    path.write_bytes(b"".join(entries))


def _cpio_entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member in the newc format (Documentation/driver-api/early-userspace/buffer-format.rst of Linux)."""
    inode, user, group, links, mtime, name_bytes = 0, 0, 0, 1, 0, len(name) + 1
    fields = (inode, mode, user, group, links, mtime, len(content), 0, 0, *device, name_bytes, 0)
    header = "070701" + "".join(f"{value:08x}" for value in fields)
    head = header.encode() + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
