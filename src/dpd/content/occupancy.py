# SPDX-License-Identifier: Apache-2.0
"""Who works in a library at this moment, so that closing waits for them and lets nobody in any more: another process may
open the library then, and what it finds there must be its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dpd.errors import ContentError


class Occupancy:
    """From any thread. `work` may be nested; `close` must not be called within it."""

    def __init__(self, what: str) -> None:
        """`what` names the library in a refusal."""
        self._what = what
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closing = False

    @property
    def is_closing(self) -> bool:
        """Nobody is let in any more."""
        return self._is_closing

    @contextmanager
    def work(self) -> Iterator[None]:
        """What `close` waits for. Raises ContentError once it has begun."""
        with self.work_if_open() as is_open:
            if not is_open:
                raise ContentError(f"{self._what}: has been closed")
            yield

    @contextmanager
    def work_if_open(self) -> Iterator[bool]:
        """The same for who has nothing more to do there once it is closed."""
        is_open = self._enter()
        try:
            yield is_open
        finally:
            if is_open:
                self._leave()

    def close(self) -> None:
        """Returns when nobody is inside. Idempotent."""
        with self._changed:
            self._is_closing = True
            self._changed.wait_for(lambda: self._inside == 0)

    def _enter(self) -> bool:
        with self._changed:
            self._inside += not self._is_closing
            return not self._is_closing

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
