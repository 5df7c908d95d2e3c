# SPDX-License-Identifier: Apache-2.0
"""The file being received and the journal that lets a killed receiver go on where it was.

    image.wim.part      the image, preallocated; slabs are written at their offsets in any order
    image.wim.journal   first line: which manifest; then "v N" for each slab N written, "s K" when the first K are durable

A line is appended right after its slab was written: after kill -9 both are in the page cache. After a power cut the
slabs behind the durable ones may be missing on disk, so those are hashed again before they count; so is every slab of a
file that is not as long as it was left. Only when every slab is verified and durable does the file get its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dpd.content.manifest import Manifest, SlabCheck, encode
from dpd.errors import ContentError

SYNC_SLABS = 64
SYNC_S = 2.0


class SlabStore:
    """One image on its way to `output`. `verified` is the slab set that an earlier run left."""

    def __init__(self, output: Path, manifest: Manifest) -> None:
        if not output.name or output.is_dir():
            raise ContentError(f"{output}: is a directory; --output is the name of the file to write")
        self.output = output
        self.part = output.with_name(output.name + ".part")
        self.journal = output.with_name(output.name + ".journal")
        self._manifest = manifest
        self._check = SlabCheck(manifest)
        self._name = hashlib.sha256(encode(manifest)).hexdigest()
        self._lock = threading.Lock()
        self._logged = self._durable = 0  # slabs
        self._synced_at = time.monotonic()
        self._note: Callable[[int], object] = lambda slab: None
        with contextlib.ExitStack() as opened:
            self._file = self._open(self.part, os.O_RDWR | os.O_CREAT)
            opened.callback(os.close, self._file)
            self._lock_file()
            was_whole = os.fstat(self._file).st_size == manifest.size_bytes
            self._reserve()
            self.verified = self._resume(is_trusted=was_whole)
            self._log = self._start_journal()
            opened.pop_all()

    def _open(self, path: Path, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ContentError(f"{path}: cannot be written: {error.strerror}; choose another --output") from None

    def _lock_file(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise ContentError(f"{self.part}: another `dpd receive` writes it; choose another --output") from None

    def _reserve(self) -> None:
        """Take the space now: a full disk shows before the first datagram, and slabs land in allocated blocks."""
        size = self._manifest.size_bytes
        before = os.fstat(self._file).st_size
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            os.ftruncate(self._file, before)  # give back what was had of it
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                free = os.statvfs(self.part.parent)
                raise ContentError(
                    f"{self.part}: no room for {size} bytes, {free.f_bavail * free.f_frsize} are free; "
                    "make room or choose another --output"
                ) from None
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve
                raise ContentError(f"{self.part}: cannot be reserved: {error.strerror}") from None
        with self._told(f"{self.part}: cannot be made {size} bytes long"):
            os.ftruncate(self._file, size)

    def _resume(self, *, is_trusted: bool) -> int:
        """The slabs an earlier run stored: those that were durable in a trusted file; the rest if their hash says so."""
        try:
            lines = self.journal.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise ContentError(f"{self.journal}: cannot be read: {error.strerror}") from None
        if not lines or lines[0] != f"manifest {self._name}":
            return 0
        durable, doubtful = _read_journal(lines[1:], self._manifest.slab_count)
        if not is_trusted:
            durable, doubtful = set(), durable | doubtful
        durable.update(slab for slab in doubtful - durable if self._check.fits(slab, self._read(slab)))
        return sum(1 << slab for slab in durable)

    def _read(self, slab: int) -> bytes:
        begin, end = self._manifest.extent(slab)
        return os.pread(self._file, end - begin, begin)

    def _start_journal(self) -> int:
        """Write the journal anew in one piece: what is verified, all of it durable. Returns it, open for appending."""
        slabs = [slab for slab in range(self._manifest.slab_count) if self.verified >> slab & 1]
        self._logged = self._durable = len(slabs)
        text = f"manifest {self._name}\n" + "".join(f"v {slab}\n" for slab in slabs) + f"s {len(slabs)}\n"
        fresh = self.journal.with_name(self.journal.name + ".new")
        log = self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            with self._told(f"{self.journal}: cannot be written"):
                os.fdatasync(self._file)
                os.write(log, text.encode("ascii"))
                os.fdatasync(log)
                os.replace(fresh, self.journal)
        except BaseException:
            os.close(log)
            raise
        return log

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """An error of the disk, with what it means."""
        try:
            yield
        except OSError as error:
            advice = "make room and " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise ContentError(
                f"{what}: {error.strerror}; what was verified is kept: {advice}run the same command again"
            ) from None

    def follow(self, note: Callable[[int], object]) -> int:
        """Have `note` called with each slab as soon as it is stored, from whichever thread. Returns a descriptor of the file that is the
        caller's to close, and good for as long, whatever becomes of this store and its lock. To be called before anything is stored."""
        self._note = note
        return self._open(self.part, os.O_RDONLY)

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        """Store a slab if its hash is the manifest's. Thread-safe. Raises ContentError when the disk refuses."""
        if not self._check.fits(slab, content):
            return False
        begin, _ = self._manifest.extent(slab)
        with self._told(f"{self.part}: slab {slab} cannot be written"):
            written = 0
            while written < len(content):
                written += os.pwrite(self._file, content[written:], begin + written)
            with self._lock:
                os.write(self._log, b"v %d\n" % slab)
                self._logged += 1
                is_due = self._logged - self._durable >= SYNC_SLABS or time.monotonic() - self._synced_at > SYNC_S
        self._note(slab)
        if is_due:
            self.sync()
        return True

    def sync(self) -> None:
        """Make durable what was written, and say in the journal how much that is. Raises ContentError."""
        with self._lock:
            logged = self._logged
            if logged == self._durable:
                return
            self._synced_at = time.monotonic()
        with self._told(f"{self.part}: cannot be made durable"):
            os.fdatasync(self._file)
            with self._lock:
                if logged > self._durable:  # else another worker's mark, made meanwhile, says as much or more
                    self._durable = logged
                    os.write(self._log, b"s %d\n" % logged)

    def finish(self) -> None:
        """All is verified: durable, then the real name, then no journal. Raises ContentError."""
        with self._told(f"{self.output}: cannot be given its name"):
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


def _read_journal(lines: Iterable[str], slab_count: int) -> tuple[set[int], set[int]]:
    """(durable, not known to be durable) slabs. Lines that say nothing, such as a torn last one, do not count."""
    logged: list[int] = []
    durable = 0
    for line in lines:
        kind, _, number = line.partition(" ")
        value = int(number) if number.isdigit() and len(number) < 12 else -1
        if kind == "v" and 0 <= value < slab_count:
            logged.append(value)
        elif kind == "s" and 0 <= value <= len(logged):
            durable = max(durable, value)
    return set(logged[:durable]), set(logged[durable:])
