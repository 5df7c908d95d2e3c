# SPDX-License-Identifier: Apache-2.0
"""An image on its way here by multicast, of which a program reads what is verified while the rest arrives.

reception, in a thread ──▶ slab store ──▶ a slab is verified ──▶ the served file answers who waits for it
   └─ fails: who reads gets an I/O error, and the step says why the reception failed
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dpd.content.description import Description
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.target.images import keeping
from dpd.target.images.served_file import ServedFile
from dpd.target.receiving.slab_store import SlabStore
from dpd.target.work.work import Work

PLACE = "arriving.wim"
JOIN_S = 0.2


class ArrivingImage:
    """The bytes of an image as far as they are verified; a source for ServedFile. `changed` is called whenever there is more."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.changed: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._file = -1
        self._verified = 0  # slab set
        self._has_failed = False

    def attach(self, store: SlabStore) -> None:
        """Its slabs come into this store from now on."""
        file = store.follow(self._note)
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = file
            self._verified |= store.verified
        self.changed()

    def read(self, offset: int, size_bytes: int) -> bytes | None:
        """None: not all of it is verified. Raises OSError once it has failed."""
        first, last = offset // SLAB_BYTES, (offset + size_bytes - 1) // SLAB_BYTES
        wanted = (1 << last + 1) - (1 << first)
        with self._lock:
            if self._has_failed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return None if wanted & ~self._verified else os.pread(self._file, size_bytes, offset)

    def fail(self) -> None:
        """No more will come: nobody is to wait for it."""
        with self._lock:
            self._has_failed = True
        self.changed()

    def close(self) -> None:
        """Nobody reads any more."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _note(self, slab: int) -> None:
        with self._lock:
            self._verified |= 1 << slab
        self.changed()


class Arrival:
    """One image received beside the step's own thread, within `with`; `path` is to be read meanwhile. Whatever ends the block ends the
    reception; what is verified by then stays. Raises NotServable where nothing can be read while it arrives."""

    def __init__(self, work: Work, description: Description, volume: str) -> None:
        self._work, self._description = work, description
        self._place = keeping.place_of(work, description, volume)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._image = ArrivingImage(description.size_bytes)
        self._served = ServedFile(work.room / PLACE, self._image)
        self._image.changed = self._served.look_again
        self._failure: Exception | None = None
        self._is_ending = False
        self._received = (0, description.size_bytes, "by multicast")
        self._applied = (0, 0)
        self._thread = threading.Thread(target=self._run, name="arrival", daemon=True)

    @property
    def path(self) -> Path:
        return self._served.place

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending = True
        self._thread.join()
        self._served.close()
        self._image.close()

    def check(self) -> None:
        """Raises what ends the step, or why no more arrives."""
        self._work.check()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until it is all here. Raises as `check`."""
        while self._thread.is_alive():
            self._work.check()
            self._thread.join(JOIN_S)
        self.check()

    def note_applied(self, done_bytes: int, total_bytes: int) -> None:
        """The program that reads it has got so far."""
        self._applied = done_bytes, total_bytes
        self._tell()

    # ---- the thread

    def _run(self) -> None:
        try:
            self._receive()
        except Exception as error:  # raised again by the step's own thread
            self._failure = error
            self._image.fail()

    def _receive(self) -> None:
        content = self._work.content.beside(self._check_ending)
        package, version = self._description.package_id, self._description.source_version
        content.receive(package, version, self._place, self._watch, by_multicast=True, opened=self._image.attach)

    def _check_ending(self) -> None:
        if self._is_ending:
            raise _Ended
        self._work.check()

    def _watch(self, done_bytes: int, total_bytes: int, way: str) -> None:
        self._check_ending()
        self._received = done_bytes, total_bytes, f"by {way}"
        self._tell()

    def _tell(self) -> None:
        done_bytes, total_bytes, way = self._received
        applied_bytes, applied_of = self._applied
        if done_bytes == total_bytes and applied_of:
            self._work.progress(applied_bytes, applied_of, "applied")
        elif applied_of:
            self._work.progress(done_bytes, total_bytes, f"{way}, {100 * applied_bytes // applied_of} % applied")
        else:
            self._work.progress(done_bytes, total_bytes, way)


class _Ended(Exception):
    """The thread is to end."""
