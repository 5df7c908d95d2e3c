# SPDX-License-Identifier: Apache-2.0
"""Contents on their way here, for those who wait for one: what it is, and how many of its bytes are verified so far.

Only contents of one file are to be had before their end, slab by slab as the manifest vouches for them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from dpd.content.description import Description
from dpd.errors import SourceUnavailable


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
        self._changed = threading.Condition()
        self._descriptor: int | None = None
        self._verified = 0
        self._failure: Exception | None = None
        self._is_over = False

    def described(self, description: Description) -> None:
        """It is known what comes."""
        with self._changed:
            self.description = description
            self._changed.notify_all()

    def grows(self, part: GrowingPart) -> None:
        """More of its one file is here, perhaps in another part than before."""
        with self._changed:
            if self._descriptor is None:
                self._descriptor = part.open()
            self._verified = max(self._verified, part.verified)
            self._changed.notify_all()

    def part_changed(self) -> None:
        """What came is thrown away; what is given out from now on is in another file."""
        with self._changed:
            self._close()
            self._verified = 0

    def ended(self, failure: Exception | None) -> None:
        """All of it is here, or it does not come now."""
        with self._changed:
            if failure is None and self.description is not None:
                self._verified = self.description.size_bytes
            self._failure, self._is_over = failure, True
            self._close()
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """The pull has ended; if it went well, the content is in the library."""
        return self._is_over

    def wait_described(self, timeout_s: float) -> Description | None:
        """What comes; None where that is not known in time. Raises SourceUnavailable where it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: self.description is not None or self._is_over, timeout_s)
            self._raise_failure()
            return self.description

    def wait_over(self, timeout_s: float) -> bool:
        """Whether the pull ended in time. Raises SourceUnavailable where it failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, timeout_s)
            self._raise_failure()
            return self._is_over

    def wait_verified(self, offset: int, timeout_s: float) -> int:
        """How many bytes are verified, once these are more than `offset` or the time is over. Raises SourceUnavailable where
        the rest does not come now."""
        with self._changed:
            self._changed.wait_for(lambda: self._verified > offset or self._is_over, timeout_s)
            if self._verified <= offset:
                self._raise_failure()
            return self._verified

    def open(self) -> int | None:
        """A descriptor for what is verified, closed by the caller; None where nothing is or the library has it."""
        with self._changed:
            if self._descriptor is None:
                return None
            return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SourceUnavailable(f"{self.package_id}: does not come now: {self._failure}")

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class UnderWay:
    """All of them. From any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._incoming: list[Incoming] = []

    @contextmanager
    def begun(self, package_id: str, source_version: int | None) -> Iterator[Incoming]:
        """A pull of this version, None for the newest, until the block ends."""
        incoming = Incoming(package_id, source_version)
        with self._changed:
            self._incoming.append(incoming)
            self._changed.notify_all()
        failure: Exception | None = SourceUnavailable("the pull was stopped")
        try:
            yield incoming
            failure = None
        except Exception as error:
            failure = error
            raise
        finally:
            with self._changed:
                self._incoming.remove(incoming)
            incoming.ended(failure)

    def find(self, package_id: str, source_version: int | None, timeout_s: float = 0.0) -> Incoming | None:
        """A pull of this version, or of any where None is asked; waits until it begins."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (found := self._find(package_id, source_version)) is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return self._find(package_id, source_version)
            return found

    def _find(self, package_id: str, source_version: int | None) -> Incoming | None:
        for each in self._incoming:
            known = each.description.source_version if each.description is not None else each.source_version
            if each.package_id == package_id and (source_version is None or known == source_version):
                return each
        return None
