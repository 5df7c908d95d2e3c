# SPDX-License-Identifier: Apache-2.0
"""Contents on their way here, for those who wait for one: what it is, and how many of its bytes are verified so far.

Only contents of one file are to be had before their end, slab by slab as the manifest vouches for them.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from dpd.content.description import Description


class GrowingPart(Protocol):
    """A blob that is being received."""

    @property
    def verified(self) -> int: ...

    def open(self) -> int: ...


class Incoming:
    """One content that is being pulled. Told by the pull, asked by any thread."""

    def __init__(self, package_id: str, source_version: int | None) -> None:
        self.package_id = package_id
        self.source_version = source_version
        self.description: Description | None = None
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._verified = 0
        self._failure = ""
        self._is_over = False

    def described(self, description: Description) -> None:
        """It is known what comes."""
        self.description = description

    def grows(self, part: GrowingPart) -> None:
        """More of its one file is here, perhaps in another part than before."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = part.open()
            self._verified = max(self._verified, part.verified)

    def part_changed(self) -> None:
        """What came is thrown away; what is given out from now on is in another file."""
        with self._lock:
            self._close()
            self._verified = 0

    def ended(self, failure: BaseException | None) -> None:
        """All of it is here, or it does not come now."""
        with self._lock:
            if failure is not None:
                self._failure = f"{self.package_id}: does not come now: {failure}"
            elif self.description is not None:
                self._verified = self.description.size_bytes
            self._is_over = True
            self._close()

    @property
    def verified(self) -> int:
        """How many bytes from its begin may be given out."""
        return self._verified

    @property
    def failure(self) -> str:
        """Why the rest does not come now; "" as long as it may."""
        return self._failure

    @property
    def is_over(self) -> bool:
        """The pull has ended; if it went well, the content is in the library."""
        return self._is_over

    def open(self) -> int | None:
        """A descriptor for what is verified, closed by the caller; None where nothing is or the library has it."""
        with self._lock:
            if self._descriptor is None:
                return None
            return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


MAX_FAILED = 100
FAILED_S = 5.0  # how long a failure is found by those who had asked for what failed


class UnderWay:
    """All of them. From any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._incoming: list[Incoming] = []
        self._failed: deque[tuple[float, Incoming]] = deque(maxlen=MAX_FAILED)

    @contextmanager
    def begun(self, package_id: str, source_version: int | None) -> Iterator[Incoming]:
        """A pull of this version, None for the newest, until the block ends."""
        incoming = Incoming(package_id, source_version)
        with self._lock:
            self._incoming.append(incoming)
        failure: BaseException | None = None
        try:
            yield incoming
        except BaseException as error:
            failure = error
            raise
        finally:
            incoming.ended(failure)
            with self._lock:
                self._incoming.remove(incoming)
                if failure is not None:
                    self._failed.append((self._clock(), incoming))

    def find(self, package_id: str, source_version: int | None) -> Incoming | None:
        """A pull of this version, or of any where None is asked."""
        with self._lock:
            return next((each for each in self._incoming if _is_of(each, package_id, source_version)), None)

    def failed(self, package_id: str, source_version: int | None) -> Incoming | None:
        """The last one of these that failed, if that was just now."""
        with self._lock:
            for at, each in reversed(self._failed):
                if self._clock() - at < FAILED_S and _is_of(each, package_id, source_version):
                    return each
        return None


def _is_of(incoming: Incoming, package_id: str, source_version: int | None) -> bool:
    described = incoming.description
    known = described.source_version if described is not None else incoming.source_version
    return incoming.package_id == package_id and source_version in (None, known)
