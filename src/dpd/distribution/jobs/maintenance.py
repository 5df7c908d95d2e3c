# SPDX-License-Identifier: Apache-2.0
"""Maintenance mode: no new content comes in and none is handed to clients, while validation goes on. Kept over restarts."""

from __future__ import annotations

from dpd.distribution.jobs.store import JobStore
from dpd.errors import Unavailable

_FACT = "maintenance"


class Maintenance:
    """`reason` is "" while there is none. Any thread; whoever serves asks at each request."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.reason = store.fact(_FACT)

    def change(self, reason: str) -> None:
        """Begin, or with "" end. It is on disk before it holds."""
        self._store.note_fact(_FACT, reason)
        self.reason = reason

    def refuse_new_content(self) -> None:
        """Raises Unavailable during maintenance."""
        if self.reason:
            raise Unavailable(
                f"no new content during maintenance ({self.reason}); `dpd maintenance off` ends it, then try again"
            )
