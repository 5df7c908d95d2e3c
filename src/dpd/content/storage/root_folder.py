# SPDX-License-Identifier: Apache-2.0
"""One folder that holds blobs. A library has its own, and as many more as the operator adds.

incoming/<random>.part      a blob being copied in, or a folder in which something is made
incoming/<sha256>.part      a blob being received, which the next try goes on with
blobs/<ab>/<sha256>         blobs
blobs/<ab>/<sha256>.parity  the first parity rows of its slabs; good to have, never needed
dpd-root.json, lock         in added folders: which root of which library this is, and its owner

A folder without its marker is never written to: a disk that is not mounted leaves an empty folder in its place.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from dpd.content.storage.disk import free_bytes, in_words, sync_directory, sync_file_system, take_lock, write_whole
from dpd.errors import ContentError

MARKER = "dpd-root.json"
FORMAT = "dpd-root/1"
_FOLDERS = ("blobs", "incoming")
_MODE = 0o750
_HASH = re.compile(r"[0-9a-f]{64}")
_SYNCED_ONE_BY_ONE = 8  # blobs; more of them are cheaper by one sync of the whole file system


@dataclass(frozen=True, slots=True)
class Adopted:
    """A part that is complete: the blob it becomes, the root it lies in, and its parity."""

    part: Path
    sha256: str
    root: int = 0
    parity: Path | None = None


class RootFolder:
    """The files of one root. Every method may be called from any thread; OSErrors are the caller's to put into words."""

    def __init__(self, number: int, path: Path, lock: int = -1) -> None:
        """Owns the lock's descriptor."""
        self.number = number
        self.path = path
        self._lock = lock
        self._names = map(f"{secrets.token_hex(8)}-{{:x}}".format, count())  # none ever given to anybody else

    @classmethod
    def own(cls, path: Path) -> RootFolder:
        """That of the library itself, which has the lock and whose other files say whose it is."""
        _make_folders(path)
        return cls(0, path)

    @classmethod
    def added(cls, number: int, path: Path, library_id: str) -> RootFolder:
        """One that was added before. Raises ContentError, also where it is not there, and LibraryInUse."""
        with _told(path):
            marker = _read_marker(path)
            if marker != _marker(number, library_id):
                raise ContentError(f"{path}: {_other_marker(marker, number)}")
            lock = take_lock(path, f"root {path}")
            try:
                _make_folders(path)
                return cls(number, path, lock)
            except BaseException:
                os.close(lock)
                raise

    def blob(self, sha256: str) -> Path:
        return Path(f"{self.path}/blobs/{sha256[:2]}/{sha256}")

    def parity(self, sha256: str) -> Path:
        return self.blob(sha256).with_suffix(".parity")

    def new_part(self) -> Path:
        """A name for a blob whose hash is not known yet. What a crash leaves is swept."""
        return Path(f"{self.path}/incoming/{next(self._names)}.part")

    def kept_part(self, sha256: str) -> Path:
        """The name of a blob that is received. It stays over restarts, to be gone on with."""
        return Path(f"{self.path}/incoming/{sha256}.part")

    def free_bytes(self) -> int:
        """What an ordinary user may still write here."""
        return free_bytes(self.path)

    def sync(self) -> None:
        """Whatever was written here is on the disk."""
        sync_file_system(self.path)

    def adopt(self, blobs: Sequence[Adopted]) -> None:
        """Give parts, already on the disk, their final names. They replace equal blobs, so that publishing again repairs.

        So does their parity; without one, that of before goes.
        """
        blob_folder, folders = str(self.path / "blobs"), set[str]()
        for each in blobs:  # in text: paths as objects cost more than the renames
            folder = f"{blob_folder}/{each.sha256[:2]}"
            if folder not in folders:
                os.makedirs(folder, mode=_MODE, exist_ok=True)
                folders.add(folder)
            os.replace(each.part, f"{folder}/{each.sha256}")
            if each.parity is not None:
                os.replace(each.parity, f"{folder}/{each.sha256}.parity")
            else:
                _unlink(f"{folder}/{each.sha256}.parity")
        self._sync_names(folders)

    def drop(self, hashes: Iterable[str]) -> None:
        """Blobs and their parity; idempotent. A folder that this leaves empty stays."""
        blob_folder = str(self.path / "blobs")
        for sha256 in hashes:
            _unlink(f"{blob_folder}/{sha256[:2]}/{sha256}")
            _unlink(f"{blob_folder}/{sha256[:2]}/{sha256}.parity")

    def blobs(self) -> Iterator[Path]:
        """Every blob file, without its parity. Looks at all of them: gc alone may take that long."""
        return (path for path in self.path.glob("blobs/??/*") if _HASH.fullmatch(path.name))

    def files_of(self, prefix: str) -> list[Path]:
        """The blobs whose hashes begin with these two digits, and their parity files."""
        folder = f"{self.path}/blobs/{prefix}"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        return [Path(folder, name) for name in names if _HASH.fullmatch(name.removesuffix(".parity"))]

    def parts(self) -> Iterator[Path]:
        """Whatever lies in incoming/."""
        return self.path.glob("incoming/*.part")

    def sweep_parts(self) -> None:
        """Remove what a crash left, but for parts that the next try goes on with."""
        for part in self.parts():
            if not _HASH.fullmatch(part.stem):
                drop_part(part)

    def remove(self) -> None:
        """The folder is no root any more. What is not ours stays in it. Raises OSError where blobs do."""
        for part in self.parts():
            drop_part(part)
        for folder in [*self.path.glob("blobs/??"), *(self.path / name for name in _FOLDERS)]:
            folder.rmdir()
        (self.path / MARKER).unlink(missing_ok=True)
        (self.path / "lock").unlink(missing_ok=True)
        sync_directory(self.path)
        self.close()

    def close(self) -> None:
        """Give the lock back; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _sync_names(self, folders: set[str]) -> None:
        if len(folders) > _SYNCED_ONE_BY_ONE:
            self.sync()
            return
        for folder in folders:
            sync_directory(Path(folder))
        sync_directory(self.path / "blobs")


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def drop_part(part: Path) -> None:
    """Remove a part, or a whole folder of that name in which one is made; idempotent."""
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


def mark(path: Path, number: int, library_id: str, roots: Mapping[int, str]) -> None:
    """Make a folder the root of this number. It may hold anything but another library or a root of one; one that was a
    root of this library may be it again, but not while it is still one of `roots`, numbers with their paths: its blobs
    would belong to no root then. Raises ContentError."""
    with _told(path):
        path.mkdir(mode=_MODE, parents=True, exist_ok=True)
        marker = _read_marker(path)
        if marker is None and any((path / name).exists() for name in (*_FOLDERS, "library.db")):
            raise ContentError(f"{path}: has blobs/, incoming/ or library.db of something else; name an empty folder")
        if marker is not None and _library_of(marker) != library_id:
            raise ContentError(f"{path}: {_other_marker(marker, number)}")
        old = None if marker is None else _root_of(marker)
        if old is not None and old in roots:
            raise ContentError(
                f"{path}: holds the blobs of root {old}, which is expected at {roots[old]}; mount it there, or remove root {old} first"
            )
        _make_folders(path)
        write_whole(path / MARKER, _marker(number, library_id), mode=0o640)
        sync_directory(path.parent)


def _make_folders(path: Path) -> None:
    for name in _FOLDERS:
        (path / name).mkdir(mode=_MODE, parents=True, exist_ok=True)
    sync_directory(path)


def _marker(number: int, library_id: str) -> bytes:
    return json.dumps({"format": FORMAT, "library": library_id, "root": number}).encode("ascii") + b"\n"


def _read_marker(path: Path) -> bytes | None:
    try:
        return (path / MARKER).read_bytes()[:4096]
    except FileNotFoundError:
        return None


def _library_of(marker: bytes) -> str | None:
    """The library that a marker names; None where it cannot be understood."""
    try:
        return str(json.loads(marker)["library"])
    except (ValueError, TypeError, KeyError):
        return None


def _root_of(marker: bytes) -> int | None:
    number = json.loads(marker).get("root")
    return number if isinstance(number, int) else None


def _other_marker(marker: bytes | None, number: int) -> str:
    """What a marker says that is not the expected one."""
    if marker is None:
        return f"not there, or without {MARKER}; mount the disk that holds root {number}"
    library = _library_of(marker)
    if library is None:
        return f"its {MARKER} cannot be understood; restore it from a backup, or name another folder"
    return f"its {MARKER} is that of another root ({marker.decode('ascii', 'replace').strip()}), expected root {number} of this library; mount the right disk, or name another folder"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Puts what the system says of a folder into words."""
    try:
        yield
    except OSError as error:
        step = ""
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            step = f"; dpd's user must own the folder, and its unit let it write there: `systemctl edit dpd`, [Service] ReadWritePaths={path}"
        raise ContentError(f"{path}: cannot be a root: {in_words(error)}{step}") from None
