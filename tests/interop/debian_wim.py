# SPDX-License-Identifier: Apache-2.0
"""A real Debian root in a WIM: what the packages of this machine installed, captured by wimlib as two images; and a second
version of that file, as an update of some packages makes it. What changed is told by wimlib's own list of blobs."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MINIMUM_BYTES = 1 << 30
_ROOM_BYTES = 200 << 20  # files that are there twice are in a WIM once
# In the order of what a root needs first; what an installation lacks is left out.
_FOLDERS = (
    "/usr/bin", "/usr/sbin", "/var/lib/dpkg/info", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/systemd", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/lib/git-core", "/usr/lib/gcc",
    "/usr/share/perl", "/usr/share/locale", "/usr/share/man", "/usr/share/doc", "/usr/share/javascript",
    "/usr/lib/llvm-14", "/usr/share/AAVMF", "/usr/share/qemu",
)  # fmt: skip
CHANGED_FILES = 60
CHANGED_MAXIMUM_BYTES = 3 << 20  # of one file


def wimlib(*arguments: str | Path, stdin: str = "") -> str:
    ran = subprocess.run(
        ["wimlib-imagex", *map(str, arguments)], input=stdin.encode(), capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode("utf-8", "replace")


def capture(wim: Path) -> None:
    """Two images: the whole root, and the programs alone. Not compressed, so that the file is as large as it can be for the
    seconds that it takes."""
    sources = wim.with_suffix(".sources")
    sources.write_text("".join(f"{folder} {folder.lstrip('/')}\n" for folder in _root_folders()))
    options = ("--compress=none", "--no-acls", "--unix-data")
    wimlib("capture", "--source-list", sources, wim, "Debian", "All of it", "--flags=Server", *options)
    wimlib("append", "/usr/bin", wim, "Debian programs", "--flags=Core", "--no-acls", "--unix-data")
    sources.unlink()
    assert wim.stat().st_size >= MINIMUM_BYTES, f"a Debian root of {wim.stat().st_size} bytes"


def _root_folders() -> Iterator[str]:
    total = 0
    for folder in _FOLDERS:
        if os.path.isdir(folder) and total < MINIMUM_BYTES + _ROOM_BYTES:
            total += sum(size for _, size in _files(folder))
            yield folder


def _files(folder: str) -> Iterator[tuple[str, int]]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path, os.lstat(path).st_size


def update(wim: Path, folder: Path) -> None:
    """What an upgrade does: files with new content under their old names, in the first image. wimlib appends."""
    rng = random.Random(5)
    candidates = sorted((path, size) for path, size in _files("/usr/bin") if 50_000 <= size <= CHANGED_MAXIMUM_BYTES)
    folder.mkdir()
    commands = []
    for number, (path, size) in enumerate(rng.sample(candidates, min(CHANGED_FILES, len(candidates)))):
        (folder / str(number)).write_bytes(rng.randbytes(size + rng.randrange(1000)))
        commands.append(f"delete '{path}'\nadd {folder / str(number)} '{path}'\n")
    wimlib("update", wim, "1", "--no-acls", stdin="".join(commands))
    shutil.rmtree(folder)


def changed_bytes(old: Path, new: Path) -> int:
    """What of `new` is not in `old`, by wimlib: resources by their SHA-1, and the tables, which are other ones."""
    had = _resources(old)
    resources = sum(size for sha1, size in _resources(new).items() if sha1 not in had)
    fields = dict(re.findall(r"^([A-Z][A-Za-z ]+?) += (\d+)", wimlib("info", new, "--header"), re.MULTILINE))
    return resources + sum(int(fields[f"{table} Size"]) for table in ("Blob Table", "XML Data", "Integrity"))


def _resources(wim: Path) -> dict[str, int]:
    """Stored bytes of each blob, metadata also, by its SHA-1."""
    found = {}
    for block in wimlib("info", wim, "--blobs").split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z ]+?) += (\S+)", block, re.MULTILINE))
        if fields:
            found[fields["Hash"]] = int(fields.get("Compressed size") or fields["Uncompressed size"])
    return found
