# SPDX-License-Identifier: Apache-2.0
"""The library's files: who may open it, what lies where, and nothing half-written under a final name.

lock                     held by the process that owns the library, with its pid inside
library.db               the catalogue
incoming/<random>.part   a blob being copied in
blobs/<ab>/<sha256>      contents, each once however many packages share it
blobs/<ab>/<sha256>.parity  the first parity rows of its slabs, where the settings want them; good to have, never needed
manifests/<sha256>.json  signed manifests, named by the hash of what is signed
keys/manifest.ed25519    the key that signs them
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from dpd.errors import ContentError, LibraryInUse

_FOLDERS = {"incoming": 0o750, "blobs": 0o750, "manifests": 0o750, "keys": 0o700}
_HASH = re.compile(r"[0-9a-f]{64}")


class Store:
    """The directory tree of one library, locked for this process while open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for folder, mode in _FOLDERS.items():
                (root / folder).mkdir(mode=mode, parents=True, exist_ok=True)
            self._lock = _take_lock(root)
        except OSError as error:
            raise ContentError(f"library {root}: {in_words(error)}") from None

    @property
    def database(self) -> Path:
        return self.root / "library.db"

    @property
    def key(self) -> Path:
        return self.root / "keys" / "manifest.ed25519"

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256[:2] / sha256

    def parity(self, sha256: str) -> Path:
        return self.blob(sha256).with_suffix(".parity")

    def manifest(self, name: str) -> Path:
        return self.root / "manifests" / f"{name}.json"

    def new_part(self) -> Path:
        """A name for a blob whose hash is not known yet."""
        return self.root / "incoming" / f"{secrets.token_hex(8)}.part"

    def free_bytes(self) -> int:
        """What an ordinary user may still write here."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def adopt(self, part: Path, sha256: str, parity: Path | None = None) -> None:
        """Give a part, already on the disk, its final name. It replaces an equal blob, so that publishing again repairs.

        So does its parity; without one, that of before goes.
        """
        blob = self.blob(sha256)
        blob.parent.mkdir(mode=0o750, exist_ok=True)
        os.replace(part, blob)
        if parity is not None:
            os.replace(parity, self.parity(sha256))
        else:
            self.parity(sha256).unlink(missing_ok=True)
        sync_directory(blob.parent)
        sync_directory(blob.parent.parent)

    def drop_blob(self, sha256: str) -> None:
        """And its parity; idempotent."""
        self.blob(sha256).unlink(missing_ok=True)
        self.parity(sha256).unlink(missing_ok=True)

    def write_manifest(self, name: str, document: bytes) -> None:
        write_whole(self.manifest(name), document, mode=0o640)

    def blobs(self) -> Iterator[Path]:
        return (path for path in self.root.glob("blobs/??/*") if _HASH.fullmatch(path.name))

    def sweep(self, blobs: set[str], manifests: set[str]) -> None:
        """Remove the leftovers of a crash: parts, and blobs and manifests other than these. Leaves foreign files alone."""
        for part in self.root.glob("*/*.part"):
            part.unlink(missing_ok=True)
        for path in self.blobs():
            if path.name not in blobs:
                path.unlink(missing_ok=True)
        for path in self.root.glob("blobs/??/*.parity"):
            if _HASH.fullmatch(path.stem) and path.stem not in blobs:
                path.unlink(missing_ok=True)
        for path in self.root.glob("manifests/*.json"):
            if _HASH.fullmatch(path.stem) and path.stem not in manifests:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Put a small file in place, on the disk, all or nothing."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
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


def in_words(error: OSError) -> str:
    """What the system said, and of which file where it tells."""
    return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"


def _take_lock(root: Path) -> int:
    """The lock's descriptor. The kernel drops the lock with the process, so a stale file never blocks anybody."""
    path = root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise LibraryInUse(
            f"library {root} is in use by process {holder or 'unknown'} ({path}): use that daemon through `dpd content`, or stop it first"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
