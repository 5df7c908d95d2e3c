# SPDX-License-Identifier: Apache-2.0
"""How a version of a boot image comes to be on the disk: written beside the others, made durable, then renamed into place.

A reader sees a whole version or none; what an interrupted add left behind is removed at the next start.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpd.errors import ContentError, LibraryFull

FILES, RECORD = "files", "meta.json"
UNFINISHED, REMOVED = ".new-", ".old-"
CHUNK_BYTES = 4 << 20
SPARE_BYTES = 16 << 20  # kept free for the catalogue and the log

Progress = Callable[[int, int], None]


def sweep(root: Path) -> None:
    """Remove what an add or a remove that was interrupted left behind."""
    for left_over in (*root.glob(f"{UNFINISHED}*"), *root.glob(f"{REMOVED}*")):
        shutil.rmtree(left_over, ignore_errors=True)


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A folder for a version that is being made; gone again unless `publish` took it."""
    root.mkdir(mode=0o750, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))
    try:
        folder.joinpath(FILES).mkdir()
        yield folder
    except OSError as error:
        raise ContentError(f"{root}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, place: Path) -> None:
    """Put everything below the folder on the disk for good, then give it its name."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(at) / name)
        _sync(Path(at))
    place.parent.mkdir(mode=0o750, exist_ok=True)
    os.chmod(folder, 0o750)
    os.rename(folder, place)
    _sync(place.parent)
    _sync(place.parent.parent)


def remove(root: Path, place: Path) -> None:
    """Take a version away at once; who has one of its files open reads on."""
    grave = Path(tempfile.mkdtemp(prefix=REMOVED, dir=root))
    os.rename(place, grave / place.name)
    _sync(place.parent)
    shutil.rmtree(grave, ignore_errors=True)
    if not any(place.parent.iterdir()):
        place.parent.rmdir()


def refuse_if_full(root: Path, wanted: int) -> None:
    """Raises LibraryFull."""
    free = shutil.disk_usage(root).free
    if wanted + SPARE_BYTES > free:
        raise LibraryFull(
            f"boot image: needs {wanted} bytes in {root}, {free} are free; make room, for example with `dpd boot-image remove`"
        )


def bring(source: Path, target: Path, progress: Progress, done: int, total: int) -> int:
    """A file's bytes at another place; how many bytes are done now."""
    with source.open("rb") as read, target.open("xb") as written:
        while chunk := read.read(CHUNK_BYTES):
            written.write(chunk)
            done += len(chunk)
            progress(done, total)
    return done


def link(source: Path, target: Path) -> bool:
    """The same file under another name; False where that cannot be, as on another file system."""
    try:
        os.link(source, target)
    except OSError:
        return False
    os.chmod(target, 0o640)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
