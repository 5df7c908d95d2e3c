# SPDX-License-Identifier: Apache-2.0
"""Publishing beside sha256sum: one large file, and a folder of 20,000 small ones.

    python -m bench.publish [--quick] [--folder DIR] [--size-mib N] [--files N] [--rounds N]

All read the same files from the page cache, in turn. sha256sum reads and hashes once; dpd also writes the copy and waits
until it is on the disk, hashes slabs twice more (SHA-256 and BLAKE3), cuts chunks and signs. In memory (the default folder)
this is a matter of processors; on a disk that writes slower than sha256sum reads, `cp` with `sync` is what to compare with.
Exits with 1 where the large file is published at less than 0.8 times the speed of sha256sum, in memory.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.contest import MEMORY, MIB, Contest, Run, choose, shell
from bench.machine import print_facts, version_of

from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES

GOAL = 0.8


def _command(*arguments: str | Path) -> Run:
    def run() -> None:
        subprocess.run([*map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    return run


def make_file(path: Path, size_mib: int) -> None:
    """Of random bytes, the same each time."""
    chance = random.Random(1)
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(chance.randbytes(MIB))


def large_file(home: Path, library: Library, size_mib: int, rounds: int) -> float:
    """The ratio to sha256sum."""
    source, copy = home / "large.img", home / "copy"
    make_file(source, size_mib)
    contest = Contest(size_mib * MIB, 1, rounds)
    contest.add("sha256sum", _command("sha256sum", source))
    if shutil.which("openssl"):
        contest.add("openssl sha256", _command("openssl", "dgst", "-sha256", source))
    contest.add("cp, sync", shell("cp large.img copy && sync copy", home), copy.unlink)
    contest.add("dpd", lambda: _publish(library, source), lambda: _remove(library))
    contest.hold()
    print(f"One file of {size_mib} MiB\n")
    contest.show("sha256sum")
    source.unlink()
    return contest.speed("dpd").median / contest.speed("sha256sum").median


def make_folder(folder: Path, count: int) -> int:
    """As an upgrade package is: most files small, a few large. All their bytes."""
    chance, size_bytes = random.Random(2), 0
    for number in range(count):
        path = folder / str(number % 200) / f"{number}.dll"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = min(4 * MIB, int(chance.paretovariate(0.9) * 1500))
        path.write_bytes(chance.randbytes(size))
        size_bytes += size
    return size_bytes


def many_files(home: Path, library: Library, count: int, rounds: int) -> None:
    """What they take."""
    folder = home / "folder"
    size_bytes = make_folder(folder, count)
    os.sync()
    contest = Contest(size_bytes, count, rounds)
    contest.add("sha256sum", shell("find . -type f -print0 | xargs -0 sha256sum", folder))
    contest.add("cp, sync", shell("cp -r folder copy && sync -f copy", home), lambda: shutil.rmtree(home / "copy"))
    contest.add("dpd", lambda: _publish(library, folder))
    contest.add("dpd, nothing new", lambda: _publish(library, folder), lambda: _remove(library, 2))
    contest.hold()
    print(f"{count} files, {size_bytes / MIB:.0f} MiB\n")
    contest.show("sha256sum")


def _publish(library: Library, source: Path) -> None:
    library.publish(source, "BENCH")


def _remove(library: Library, versions: int = 1) -> None:
    for _ in range(versions):
        library.remove("BENCH")


def main() -> int:
    chosen = choose(__doc__)
    print_facts()
    print(f"{'sha256sum':>14}: {version_of('sha256sum', '--version')}\n{'folder':>14}: {chosen.folder}\n")
    with (
        tempfile.TemporaryDirectory(prefix="dpd-bench-", dir=chosen.folder) as home,
        Library(Path(home) / "library", slab_bytes=SLAB_BYTES) as library,
    ):
        reached = large_file(Path(home), library, chosen.size_mib, chosen.rounds)
        many_files(Path(home), library, chosen.files, chosen.rounds)
    if str(chosen.folder) != MEMORY:
        return 0
    print(f"goal: {GOAL} x sha256sum for the large file; reached: {reached:.2f} x")
    return 0 if reached >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
