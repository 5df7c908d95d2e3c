# SPDX-License-Identifier: Apache-2.0
"""A file that programs read while it is still arriving: a read of what is not here yet waits until it is.

Theory of operation. A program such as wimlib opens an image by its name, seeks in it, and takes a short read for its end: what is to
make it wait must answer its system calls, so a kernel's file system has to ask us, and FUSE is the one that does. Its protocol is read
here as it comes from /dev/fuse, of which a file that is only read needs little: no library and no program but `mount`. The mounted
root is the file itself.

    program ── read ──▶ kernel ──▶ /dev/fuse ──▶ here: the source has it ──▶ answered at once
                                                      └─ not yet ──▶ waits ──▶ `look_again`: answered in whatever order

Reads are passed on as they are asked (direct I/O): with readahead the kernel would make a program wait for bytes that it did not ask for.
Nobody is left waiting for ever: a program that is ended has its read answered (EINTR), and when our end of /dev/fuse is closed, be it
since this process was killed, the kernel fails every read. But this process must not read the file itself: killed in that read it would
wait for its own answer, and its end of /dev/fuse with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dpd.errors import DpdError

DEVICE = Path("/dev/fuse")
MAJOR, MINOR = 7, 31
ROOT_MODE = 0o100444  # a regular file
MAX_READ_PAGES = 256  # a read of up to 1 MiB comes in one piece
MAX_REQUEST_BYTES = 1 << 17  # the kernel wants room for more than it will send

_FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH = 2, 3, 14, 15, 18, 25
_INIT, _INTERRUPT, _DESTROY, _BATCH_FORGET = 26, 36, 38, 42
_ASYNC_READ, _MAX_PAGES, _DIRECT_IO = 1 << 0, 1 << 22, 1 << 0
_ATTRIBUTES_FOR_S = 3600
_IN = struct.Struct("<IIQQ16x")
_OUT = struct.Struct("<IiQ")
_INIT_IN = struct.Struct("<II")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR_OUT = struct.Struct("<QII6Q3I7I")
_OPEN_OUT = struct.Struct("<QII")
_READ_IN = struct.Struct("<8xQI")
_UNIQUE = struct.Struct("<Q")


class NotServable(DpdError):
    """This machine has no FUSE."""


class Source(Protocol):
    """What the file consists of."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, size_bytes: int) -> bytes | None:
        """The bytes there, within the file; None: not yet. Raises OSError, which the program gets."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One that waits."""

    unique: int
    offset: int
    size_bytes: int


class ServedFile:
    """Shows `source` as the file `place`, from a thread of its own, until `close`. Raises NotServable where that cannot be done."""

    def __init__(self, place: Path, source: Source) -> None:
        self.place = place
        self._source = source
        self._waiting: list[_Read] = []
        self._is_ending = False
        clear(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        self._device = _open_device()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="served-file", daemon=True)
        try:
            _mount(self._device, place)
        except BaseException:
            os.close(self._device)
            os.close(self._wake)
            raise
        self._thread.start()

    def look_again(self) -> None:
        """The source has more, or has failed. From any thread, until `close`."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Every read that waits fails; the file is gone."""
        self._is_ending = True
        self.look_again()
        self._thread.join()
        os.close(self._wake)
        clear(self.place)
        self.place.unlink(missing_ok=True)

    # ---- the thread

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            while not self._is_ending:
                for descriptor, _ in poll.poll():
                    if descriptor == self._wake:
                        os.eventfd_read(self._wake)
                        self._answer_waiting()
                    elif not self._take():
                        return
        finally:
            os.close(self._device)  # from here on the kernel fails what is asked

    def _take(self) -> bool:
        """One request. False: the file is mounted no more."""
        try:
            request = memoryview(os.read(self._device, MAX_REQUEST_BYTES))
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT)  # the last: its program ended meanwhile
        _, kind, unique, _ = _IN.unpack_from(request)
        body = request[_IN.size :]
        if kind == _READ:
            read = _Read(unique, *_READ_IN.unpack_from(body))
            if not self._answer_read(read):
                self._waiting.append(read)
        elif kind == _INTERRUPT:
            self._interrupt(_UNIQUE.unpack_from(body)[0])
        elif kind not in (_FORGET, _BATCH_FORGET):  # which want no answer
            self._answer_other(kind, unique, body)
        return bool(kind != _DESTROY)

    def _answer_other(self, kind: int, unique: int, body: memoryview) -> None:
        if kind == _INIT:
            _, minor = _INIT_IN.unpack_from(body)
            flags = _ASYNC_READ | _MAX_PAGES
            told = _INIT_OUT.pack(MAJOR, min(MINOR, minor), 0, flags, 12, 9, 4096, 1, MAX_READ_PAGES, 0, 0)
            self._answer(unique, told)
        elif kind == _GETATTR:
            size = self._source.size_bytes
            attributes = (1, size, -(-size // 512), 0, 0, 0, 0, 0, 0, ROOT_MODE, 1, 0, 0, 0, 4096, 0)
            self._answer(unique, _ATTR_OUT.pack(_ATTRIBUTES_FOR_S, 0, 0, *attributes))
        elif kind == _OPEN:
            self._answer(unique, _OPEN_OUT.pack(0, _DIRECT_IO, 0))
        elif kind in (_RELEASE, _FLUSH, _DESTROY):
            self._answer(unique)
        else:
            self._answer(unique, error=errno.ENOSYS)

    def _answer_waiting(self) -> None:
        self._waiting = [each for each in self._waiting if not self._answer_read(each)]

    def _answer_read(self, read: _Read) -> bool:
        """False: not yet."""
        end = min(read.offset + read.size_bytes, self._source.size_bytes)
        try:
            content = self._source.read(read.offset, end - read.offset) if read.offset < end else b""
        except OSError as error:
            self._answer(read.unique, error=error.errno or errno.EIO)
            return True
        if content is None:
            return False
        self._answer(read.unique, content)
        return True

    def _interrupt(self, unique: int) -> None:
        """The program that reads is to be ended."""
        if any(each.unique == unique for each in self._waiting):
            self._waiting = [each for each in self._waiting if each.unique != unique]
            self._answer(unique, error=errno.EINTR)

    def _answer(self, unique: int, content: bytes = b"", *, error: int = 0) -> None:
        with contextlib.suppress(OSError):  # who asked has ended meanwhile
            os.writev(self._device, [_OUT.pack(_OUT.size + len(content), -error, unique), content])


def clear(place: Path) -> None:
    """Unmount what is there, also what a killed predecessor left."""
    with contextlib.suppress(OSError):
        told = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        shown = str(place).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011").replace("\n", r"\012")
        for _ in range(sum(line.split(" ")[1] == shown for line in told.splitlines())):
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def _open_device() -> int:
    """Loads the kernel's module where it is not there yet. Raises NotServable."""
    if not DEVICE.exists():
        with contextlib.suppress(OSError):
            subprocess.run(["modprobe", "fuse"], capture_output=True, check=False)
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotServable(f"{DEVICE}: {error.strerror}") from None


def _mount(device: int, place: Path) -> None:
    """`mount` has the kernel take the descriptor; nothing is kept of it there. Raises NotServable."""
    options = f"ro,nosuid,nodev,fd={device},rootmode={ROOT_MODE | 0o100000:o},user_id=0,group_id=0"
    command = ["mount", "-i", "-t", "fuse", "-o", options, "dpd", str(place)]
    try:
        ran = subprocess.run(
            command, pass_fds=[device], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NotServable(f"mount: {error.strerror}") from None
    if ran.returncode:
        raise NotServable(f"{place}: {ran.stderr.strip() or f'mount ended with exit code {ran.returncode}'}")
