# SPDX-License-Identifier: Apache-2.0
"""The file being received and the journal that lets a killed receiver go on where it was.

    image.wim.part      the image, preallocated; slabs are written at their offsets in any order
    image.wim.journal   first line: which manifest; then "v N" for each slab N written, "s" when all before it is durable

A line is appended right after its slab was written: after kill -9 both are in the page cache. After a power cut the
slabs behind the last "s" may be missing on disk, so those are hashed again before they count. Only when every slab is
verified and durable does the file get its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from dpd.content.manifest import Manifest, SlabCheck, encode
from dpd.errors import ContentError

SYNC_SLABS = 64
SYNC_S = 2.0


class SlabStore:
    """One image on its way to `output`. `verified` is the slab set that an earlier run left."""

    def __init__(self, output: Path, manifest: Manifest) -> None:
        self.output = output
        self.part = output.with_name(output.name + ".part")
        self.journal = output.with_name(output.name + ".journal")
        self._manifest = manifest
        self._check = SlabCheck(manifest)
        self._name = hashlib.sha256(encode(manifest)).hexdigest()
        self._lock = threading.Lock()
        self._unsynced = 0
        self._synced_at = time.monotonic()
        try:
            self._file = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ContentError(f"{self.part}: cannot be written: {error.strerror}; choose another --output") from None
        try:
            self._reserve()
            self.verified = self._resume()
            self._log = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._compact()
        except BaseException:
            os.close(self._file)
            raise

    def _reserve(self) -> None:
        """Take the space now: a full disk shows before the first datagram, and slabs land in allocated blocks."""
        size = self._manifest.size_bytes
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                free = os.statvfs(self.part.parent)
                os.ftruncate(self._file, 0)
                raise ContentError(
                    f"{self.part}: no room for {size} bytes, {free.f_bavail * free.f_frsize} are free; "
                    "make room or choose another --output"
                ) from None
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve
                raise ContentError(f"{self.part}: cannot be reserved: {error.strerror}") from None
        os.ftruncate(self._file, size)

    def _resume(self) -> int:
        """The slabs an earlier run stored: those behind the last sync mark only if their hash says so."""
        try:
            lines = self.journal.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise ContentError(f"{self.journal}: cannot be read: {error.strerror}") from None
        if not lines or lines[0] != f"manifest {self._name}":
            return 0
        durable = max((i for i, line in enumerate(lines) if line == "s"), default=0)
        stored = _slab_set(lines[1:durable], self._manifest.slab_count)
        doubtful = _slab_set(lines[durable:], self._manifest.slab_count) & ~stored
        while doubtful:
            slab = (doubtful & -doubtful).bit_length() - 1
            doubtful &= doubtful - 1
            if self._check.fits(slab, self._read(slab)):
                stored |= 1 << slab
        return stored

    def _read(self, slab: int) -> bytes:
        begin, end = self._manifest.extent(slab)
        return os.pread(self._file, end - begin, begin)

    def _compact(self) -> None:
        """Write the journal anew in one piece: what is verified, all of it durable."""
        os.fdatasync(self._file)
        slabs = (f"v {slab}\n" for slab in range(self._manifest.slab_count) if self.verified >> slab & 1)
        text = f"manifest {self._name}\n" + "".join(slabs) + "s\n"
        fresh = self.journal.with_name(self.journal.name + ".new")
        fresh.write_text(text, encoding="ascii")
        os.replace(fresh, self.journal)
        os.close(self._log)
        self._log = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        """Store a slab if its hash is the manifest's. Thread-safe. Raises ContentError when the disk refuses."""
        if not self._check.fits(slab, content):
            return False
        begin, _ = self._manifest.extent(slab)
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._file, content[written:], begin + written)
            os.write(self._log, b"v %d\n" % slab)
        except OSError as error:
            raise ContentError(
                f"{self.part}: slab {slab} cannot be written: {error.strerror}; what was verified is kept, run the same command again"
            ) from None
        with self._lock:
            self._unsynced += 1
            is_due = self._unsynced >= SYNC_SLABS or time.monotonic() - self._synced_at > SYNC_S
        if is_due:
            self.sync()
        return True

    def sync(self) -> None:
        """Make what was written durable and mark it so in the journal."""
        with self._lock:
            if not self._unsynced:
                return
            self._unsynced, self._synced_at = 0, time.monotonic()
        # Slabs logged between the two calls are durable or not: they stand behind the mark only if logged after it,
        # so the mark is written first into the order of the log as of now.
        position = os.lseek(self._log, 0, os.SEEK_END)
        os.fdatasync(self._file)
        if os.lseek(self._log, 0, os.SEEK_END) == position:
            os.write(self._log, b"s\n")

    def finish(self) -> None:
        """All is verified: durable, then the real name, then no journal."""
        os.fsync(self._file)
        os.rename(self.part, self.output)
        directory = os.open(self.output.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)
        os.close(self._log)


def _slab_set(lines: Iterable[str], slab_count: int) -> int:
    """The slabs that "v N" lines name; a torn last line does not count."""
    slabs = 0
    for line in lines:
        kind, _, number = line.partition(" ")
        if kind == "v" and number.isdigit() and int(number) < slab_count:
            slabs |= 1 << int(number)
    return slabs
