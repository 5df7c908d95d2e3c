# SPDX-License-Identifier: Apache-2.0
"""Debian packages of another architecture, downloaded into the user's cache and unpacked, never installed: dpkg and apt of
this machine go on knowing their own architecture alone."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.interop.linux import cache_directory

TIMEOUT_S = 300.0


class PackageMissing(Exception):
    """Not in the cache and not to be had; the message says why."""


def foreign_file(package: str, path: str, architecture: str) -> Path:
    """One file of a package, such as usr/lib/grub/…, from the cache or by apt. Raises PackageMissing."""
    cached = cache_directory() / f"{architecture}-{Path(path).name}"
    if not cached.is_file():
        cache_directory().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_directory()) as work:
            _download(package, architecture, Path(work))
            found = Path(work, "unpacked", path)
            if not found.is_file():
                raise PackageMissing(f"{package} of {architecture} has no {path}")
            shutil.move(found, cached)
    return cached


def _download(package: str, architecture: str, work: Path) -> None:
    """The package index of that architecture (9 MB for Debian 12), then the package."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Dir::State::Lists": str(work / "lists"),
        "Dir::State::status": "/dev/null",
        "Dir::Cache": str(work / "cache"),
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(work, "apt-get", *options, "-qq", "update")
    _run(work, "apt-get", *options, "-qq", "download", package)
    archive = next(work.glob("*.deb"))
    _run(work, "dpkg-deb", "--extract", str(archive), "unpacked")


def _run(where: Path, *command: str) -> None:
    try:
        subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise PackageMissing(f"{command[0]}: {said}") from None
