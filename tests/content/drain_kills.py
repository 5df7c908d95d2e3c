# SPDX-License-Identifier: Apache-2.0
"""Kills drains at random moments, one after the other, and looks at what the next open finds. A program of its own: it forks.

Usage: drain_kills.py KILLS SEED DIRECTORY. Two roots give each other their blobs, to and fro. Prints as JSON how many drains
were killed and how many came to their end in between.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import dpd.content
from dpd.content import drain
from dpd.content.library import Library

SLAB_BYTES = 4096
CONTENT_FOLDER = str(Path(dpd.content.__file__).parent)
Files = dict[str, bytes]


def main(kills: int, seed: int, directory: Path) -> None:
    chance = random.Random(seed)
    files = make_files(directory / "source", chance)
    root, killed, ended, source = directory / "library", 0, 0, 1
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.add_root(directory / "second")
        library.publish(directory / "source", "TREE")
        library.publish(directory / "source" / "0", "FILE")
    while killed < kills:
        if drain_is_killed(root, source, chance.randrange(1, 9000)):
            killed += 1
        else:
            ended, source = ended + 1, 1 - source
        with Library(root, slab_bytes=SLAB_BYTES) as library:
            check(library, files)
            if not library.roots()[source].blobs:  # it was killed behind the last blob
                source = 1 - source
            library.set_root(1 - source, active=True)
    print(json.dumps({"killed": killed, "ended": ended}))


def make_files(folder: Path, chance: random.Random) -> Files:
    folder.mkdir()
    sizes = [70_000, 1 << 20, (1 << 20) + 1, 0, *(chance.randrange(1, 5000) for _ in range(25))]
    files = {str(number): chance.randbytes(size) for number, size in enumerate(sizes)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


def drain_is_killed(root: Path, number: int, lines: int) -> bool:
    """Fork, drain there, and SIGKILL it after so many lines of dpd.content in any of its threads; False: it finished."""
    child = os.fork()
    if child == 0:
        library = Library(root, slab_bytes=SLAB_BYTES)
        drain._BATCH_BLOBS = 5  # so that a drain has several batches
        kill_after(lines)
        library.drain_root(number)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def kill_after(lines: int) -> None:
    left = [lines]

    def trace(frame: FrameType, event: str, _: object) -> object:
        if not frame.f_code.co_filename.startswith(CONTENT_FOLDER):
            return None
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)  # type: ignore[arg-type]
    sys.settrace(trace)  # type: ignore[arg-type]


def check(library: Library, files: Files) -> None:
    """Everything is whole and nothing is in two places or left over."""
    tree, one = library.find("TREE"), library.find("FILE")
    given = {entry.path: library.open_file(tree, entry.path)[0] for entry in library.files(tree)}
    for path, descriptor in given.items():
        with open(descriptor, "rb") as file:
            assert file.read() == files[path]
    assert len(given) == len(files)
    library.verify("FILE", one.source_version)
    hashes = {entry.sha256 for entry in library.files(tree)}
    there = [path for status in library.roots() for path in Path(status.path).glob("blobs/??/*")]
    assert sorted(path.name for path in there) == sorted(hashes)
    assert [path for status in library.roots() for path in Path(status.path).glob("incoming/*")] == []


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
