# SPDX-License-Identifier: Apache-2.0
"""The library's own folder: who may open it, and what lies where. Nothing is half-written under a final name.

lock                     held by the process that owns the library, with its pid inside
library.db               the catalogue
manifests/<sha256>.json  signed manifests, named by the hash of what is signed
chunks/<sha256>          chunk indexes of large blobs, named by the blob; good to have, never needed
keys/manifest.ed25519    the key that signs manifests
blobs/, incoming/        the root that every library has (root_folder.py); there may be others (roots.py)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dpd.content.storage.disk import in_words, sync_directory, take_lock, write_whole
from dpd.content.storage.root_folder import RootFolder
from dpd.errors import ContentError

_FOLDERS = {"manifests": 0o750, "chunks": 0o750, "keys": 0o700}
_HASH = re.compile(r"[0-9a-f]{64}")


class Store:
    """The directory tree of one library, locked for this process while open. OSErrors of all but opening are the
    caller's to put into words."""

    def __init__(self, root: Path) -> None:
        """Raises ContentError, LibraryInUse."""
        self.root = root
        self._lock = -1
        try:
            for folder, mode in _FOLDERS.items():
                (root / folder).mkdir(mode=mode, parents=True, exist_ok=True)
            self._lock = take_lock(root, f"library {root}")
            self.own = RootFolder.own(root)
            sync_directory(root.parent)
        except OSError as error:
            self.close()
            raise ContentError(f"library {root}: {in_words(error)}") from None

    @property
    def database(self) -> Path:
        return self.root / "library.db"

    @property
    def key(self) -> Path:
        return self.root / "keys" / "manifest.ed25519"

    def manifest(self, name: str) -> Path:
        return self.root / "manifests" / f"{name}.json"

    def chunks(self, sha256: str) -> Path:
        return self.root / "chunks" / sha256

    def write_manifest(self, name: str, document: bytes) -> None:
        """On the disk when this returns."""
        write_whole(self.manifest(name), document, mode=0o640, beside=self.own.new_part())

    def write_chunks(self, sha256: str, index: bytes) -> None:
        """On the disk when this returns."""
        write_whole(self.chunks(sha256), index, mode=0o640, beside=self.own.new_part())

    def drop_manifest(self, name: str) -> None:
        """Idempotent."""
        self.manifest(name).unlink(missing_ok=True)

    def drop_chunks(self, hashes: Iterable[str]) -> None:
        """Idempotent."""
        for sha256 in hashes:
            self.chunks(sha256).unlink(missing_ok=True)

    def manifests(self) -> Iterator[Path]:
        """All of them, which takes long where there are many."""
        return (path for path in self.root.glob("manifests/*.json") if _HASH.fullmatch(path.stem))

    def chunk_indexes(self) -> Iterator[Path]:
        """All of them, which takes long where there are many."""
        return (path for path in self.root.glob("chunks/*") if _HASH.fullmatch(path.name))

    def sweep_parts(self) -> None:
        """Remove the half-written files of a crash."""
        self.own.sweep_parts()
        for part in self.root.glob("keys/*.part"):
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
