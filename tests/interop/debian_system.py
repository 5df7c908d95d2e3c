# SPDX-License-Identifier: Apache-2.0
"""A Debian that starts: made by mmdebstrap out of the mirror's packages, captured by wimlib, kept in the user's cache.

It has what a real one has, systemd, udev, a kernel with its initrd and a login, but no boot loader and no host name: those are
what a deployment is for. Left out is what only costs a machine in QEMU time: manuals, languages, drivers of what it has not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.interop.linux import cache_directory

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "systemd-sysv",
    "udev",
    "login",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "python3-minimal",
    "iproute2",
    "zstd",
)
LEFT_OUT = ("man", "doc", "locale", "info", "zoneinfo", "i18n", "perl")
UNUSED = (
    "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/udev/hwdb.d", "usr/lib/udev/hwdb.bin",
    "var/cache", "var/lib/apt/lists", "var/log/apt", "etc/hostname",
)  # fmt: skip
UNUSED_MODULES = (
    "net", "drivers/net", "drivers/scsi", "drivers/infiniband", "drivers/md", "drivers/target", "drivers/hwmon", "drivers/usb",
    "fs/ocfs2", "fs/nfs", "fs/nfsd", "fs/smb", "fs/ceph", "fs/xfs", "fs/f2fs", "fs/gfs2", "fs/afs",
)  # fmt: skip
TIMEOUT_S = 900.0


class SystemMissing(Exception):
    """It is not in the cache, and cannot be made; the message says why."""


def debian_wim() -> Path:
    """The WIM with that system as its first image. Raises SystemMissing."""
    kept = cache_directory() / f"debian-{SUITE}.wim"
    if not kept.is_file():
        cache_directory().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_directory()) as work:
            root = Path(work, "root")
            _run(*_mmdebstrap(root))
            _prune(root)
            made = Path(work, "made.wim")
            _run("wimlib-imagex", "capture", root, made, "Debian", "--unix-data", "--compress=XPRESS", "--check")
            os.rename(made, kept)
    return kept


def _mmdebstrap(root: Path) -> tuple[str | Path, ...]:
    options = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in LEFT_OUT]
    options += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    include = f"--include={','.join(PACKAGES)}"
    return ("mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=directory", *options, include, SUITE, root, f"deb {MIRROR} {SUITE} main")  # fmt: skip


def _prune(root: Path) -> None:
    modules = [folder / "kernel" / each for folder in (root / "usr/lib/modules").iterdir() for each in UNUSED_MODULES]
    for place in (*modules, *(root / each for each in UNUSED)):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise SystemMissing(f"{command[0]}: {said[-1000:]}") from None
