# SPDX-License-Identifier: Apache-2.0
"""What a file system owes us: small files whole or not at all, names that outlive a power cut, one owner of a folder."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpd.errors import ContentError, LibraryFull, LibraryInUse

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # what a full disk says


def write_whole(path: Path, content: bytes, *, mode: int, beside: Path | None = None) -> None:
    """Put a small file in place, on the disk, all or nothing. It is written as `beside` first, on the same file system;
    None: a name in the same folder that ends in .part."""
    part = beside or path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """A new name is on the disk only once its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """All that was written to the file system of this folder is on the disk: one wait for thousands of files. Raises
    OSError, since Linux 5.8 also where an earlier write of it failed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def begin_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Let the disk begin with these bytes now, so that the sync at the end finds little left. A hint: what cannot take it
    does without."""
    if hasattr(_libc, "sync_file_range"):
        _libc.sync_file_range(
            descriptor, ctypes.c_int64(offset), ctypes.c_int64(size_bytes), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        )


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def in_words(error: OSError) -> str:
    """What the system said, and of which file where it tells."""
    return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"


@contextmanager
def disk_trouble_told(what: str) -> Iterator[None]:
    """Whatever the system says against `what` is a LibraryFull or a ContentError with the next step."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise LibraryFull(
                f"{what}: the disk became full; make room there, for example with `dpd content remove`, and try again"
            ) from None
        raise ContentError(f"{what}: {in_words(error)}; check that disk and try again") from error


def take_lock(folder: Path, owned: str) -> int:
    """The descriptor of the folder's lock, in which our process id stands; `owned` names the folder in a refusal. The
    kernel drops the lock with the process, so a stale file never blocks anybody. Raises LibraryInUse, OSError."""
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise LibraryInUse(
            f"{owned} is in use by process {holder or 'unknown'} ({path}): use that daemon through `dpd content`, or stop it first"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
