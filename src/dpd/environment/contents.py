# SPDX-License-Identifier: Apache-2.0
"""What the Linux environment consists of: programs of Debian's packages by name, and a few files of our own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from dpd.environment import elf
from dpd.environment.architectures import Architecture
from dpd.environment.bytecode import Compiler, read_zipapp, write_zipapp
from dpd.environment.file_tree import PROGRAM, FileTree
from dpd.environment.kernel_modules import KernelModules, tables
from dpd.environment.python_library import put_python
from dpd.errors import BuildError

PACKAGES = (
    "busybox-static", "python3", "wimtools", "ntfs-3g", "e2fsprogs", "btrfs-progs", "dosfstools", "fdisk", "grub2-common", "media-types",
)  # fmt: skip
PROGRAMS = (
    "usr/bin/wimlib-imagex", "usr/sbin/mkntfs", "usr/bin/ntfs-3g", "usr/bin/ntfsfix", "usr/sbin/ntfsresize",
    "usr/sbin/mke2fs", "usr/sbin/e2fsck", "usr/sbin/resize2fs", "usr/bin/btrfs", "usr/sbin/mkfs.btrfs", "usr/sbin/mkfs.fat",
    "usr/sbin/fsck.fat", "usr/sbin/sfdisk",
)  # fmt: skip
LINKS = {
    "usr/sbin/mkfs.ext4": "mke2fs", "usr/sbin/mkfs.ntfs": "mkntfs", "usr/sbin/mkfs.vfat": "mkfs.fat", "usr/sbin/fsck.ext4": "e2fsck",
    "usr/sbin/mount.ntfs-3g": "/usr/bin/ntfs-3g", "usr/sbin/mount.ntfs": "/usr/bin/ntfs-3g",
}  # fmt: skip
GRUB_PROGRAMS = ("usr/sbin/grub-install", "usr/sbin/grub-probe", "usr/bin/grub-mkimage")
# Busybox's programs of which the real ones are here would hide them, were they links.
APPLETS = [
    "[",
    "[[",
    "ash",
    "awk",
    "basename",
    "blkdiscard",
    "blockdev",
    "cat",
    "chmod",
    "chown",
    "chroot",
    "chvt",
    "clear",
    "cmp",
    "cp",
    "cttyhack",
    "cut",
    "date",
    "dc",
    "dd",
    "df",
    "diff",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "egrep",
    "env",
    "expr",
    "false",
    "fgrep",
    "find",
    "flock",
    "free",
    "fsfreeze",
    "fstrim",
    "grep",
    "gunzip",
    "gzip",
    "halt",
    "head",
    "hexdump",
    "hostname",
    "hwclock",
    "id",
    "ifconfig",
    "init",
    "insmod",
    "ip",
    "kill",
    "killall",
    "less",
    "ln",
    "losetup",
    "ls",
    "lsmod",
    "lsscsi",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mkswap",
    "mktemp",
    "modprobe",
    "more",
    "mount",
    "mv",
    "nc",
    "nslookup",
    "od",
    "pidof",
    "ping",
    "ping6",
    "poweroff",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "reboot",
    "rm",
    "rmdir",
    "rmmod",
    "route",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "swapoff",
    "swapon",
    "switch_root",
    "sync",
    "sysctl",
    "tail",
    "tar",
    "tee",
    "test",
    "tftp",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "truncate",
    "tty",
    "udhcpc",
    "umount",
    "uname",
    "uniq",
    "unxz",
    "unzip",
    "uptime",
    "usleep",
    "vconfig",
    "vi",
    "wc",
    "wget",
    "which",
    "xargs",
    "xxd",
    "xz",
    "xzcat",
    "yes",
    "zcat",
]
IN_SBIN = frozenset(
    (
        "modprobe",
        "udhcpc",
        "ip",
        "reboot",
        "poweroff",
        "halt",
        "init",
        "losetup",
        "mkswap",
        "swapon",
        "swapoff",
        "sysctl",
    )
)


def put_programs(tree: FileTree, architecture: Architecture, *, with_grub: bool) -> None:
    """Every program with the libraries that it needs."""
    tree.take("usr/bin/busybox")
    for name in APPLETS:
        place = f"usr/sbin/{name}" if name in IN_SBIN else f"usr/bin/{name}"
        tree.put_link(place, "/usr/bin/busybox")
    _empty_icu(tree, architecture)
    for name in PROGRAMS:
        tree.take(name)
    for name, points_to in LINKS.items():
        tree.put_link(name, points_to)
    if with_grub:
        for name in GRUB_PROGRAMS:
            tree.take(name)
        for folder in architecture.grub_folders:
            tree.take_folder(
                f"usr/lib/grub/{folder}",
                lambda name: name.endswith((".mod", ".lst", ".img", "modinfo.sh", "grub-bios-setup")),
            )


def put_target(tree: FileTree, target: Path, made_at: int, *, authorities: bytes, public_key: str) -> None:
    """The first program, the target, and what that is given: the site's certificate authorities as PEM, the public key of its
    distribution point as hex digits; either may be empty."""
    own = resources.files("dpd.environment") / "files"
    tree.put("init", (own / "init").read_bytes(), PROGRAM)
    tree.put("dpd/lease", (own / "lease").read_bytes(), PROGRAM)
    tree.put("dpd/dpd-target.pyz", target)
    tree.put("dpd/made-at", f"{made_at}\n".encode())
    if authorities:
        tree.put("dpd/ca.pem", authorities)
    if public_key:
        tree.put("dpd/signing-key", f"{public_key}\n".encode())


def put_system(tree: FileTree) -> None:
    """Folders that are mounted on, and the files that libc asks for."""
    for folder in ("dev", "proc", "sys", "run", "mnt", "root", "etc", "var", "usr/local/bin", "usr/local/sbin"):
        tree.put_folder(folder)
    tree.put_folder("tmp", 0o1777)
    tree.put_link("var/run", "/run")
    tree.put_device("dev/console", 5, 1)
    tree.put_device("dev/null", 1, 3, 0o666)
    tree.put("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    tree.put("etc/group", b"root:x:0:\ndisk:x:6:\n")
    tree.put("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    tree.put("etc/nsswitch.conf", b"hosts: files dns\n")
    tree.put_link("etc/mtab", "/proc/self/mounts")
    for library in (
        "libnss_dns.so.2",
        "libnss_files.so.2",
        "libgcc_s.so.1",
    ):  # what is opened by name, and named nowhere
        tree.take(f"usr/lib/{tree.libraries}/{library}")


def compiled_target(target: Path, compiler: Compiler | None, work: Path) -> Path:
    """The target with bytecode of the environment's own Python, where there is a compiler for it. Its members are not compressed: the
    initramfs is, and does it better as a whole."""
    if compiler is None:
        return target
    made = work / target.name
    write_zipapp(made, read_zipapp(target), compiler, compression=zipfile.ZIP_STORED)
    return made


def put_modules(tree: FileTree, kernel: Path) -> int:
    """The kernel's modules, from its unpacked package; how many."""
    (folder,) = _module_folders(kernel)
    modules = KernelModules(folder).chosen()
    place = f"usr/lib/modules/{folder.name}"
    for module in modules:
        tree.put(f"{place}/{module.path}", folder / module.path)
    for name, text in tables(modules):
        tree.put(f"{place}/{name}", text.encode())
    for name in ("modules.builtin", "modules.order"):
        tree.put(f"{place}/{name}", folder / name)
    return len(modules)


def put_library(
    tree: FileTree, architecture: Architecture, interpreters: Iterable[Path], work: Path
) -> Compiler | None:
    """Python with its library; what compiles for it."""
    interpreter = min(interpreters, key=str, default=None)
    if interpreter is None:
        raise BuildError("no python3.N below usr/bin in Debian's packages")
    return put_python(tree, architecture, interpreter, work)


def _module_folders(kernel: Path) -> list[Path]:
    found = [
        folder
        for place in ("lib/modules", "usr/lib/modules")
        for folder in kernel.glob(f"{place}/*")
        if folder.is_dir()
    ]
    if len(found) != 1:
        raise BuildError(f"{kernel}: {len(found)} folders of modules, expected one")
    return found


def _empty_icu(tree: FileTree, architecture: Architecture) -> None:
    """wimlib reads a WIM's XML by libxml2, that needs ICU for encodings other than those of WIMs, and ICU has 31 MB of data for
    them. An ICU without any, as its own build knows it, does."""
    folder = f"usr/lib/{architecture.libraries}"
    for name, _ in list(tree.paths(folder)):
        if name.startswith("libicudata.so.") and name.count(".") == 2:
            release = name.rpartition(".")[2]
            content = elf.library(architecture.machine, name, f"icudt{release}_dat", EMPTY_ICU)
            tree.put(f"{folder}/{name}", content, PROGRAM)


# UDataInfo of ICU (unicode/udata.h) behind its header's size and magic, then a table of no entries.
EMPTY_ICU = (
    (32).to_bytes(2, "little") + b"\xda\x27" + (20).to_bytes(2, "little") + bytes(2) + bytes((0, 0, 2, 0)) + b"CmnD"
    + bytes((1, 0, 0, 0)) + bytes(4) + bytes(8) + bytes(4)
)  # fmt: skip
