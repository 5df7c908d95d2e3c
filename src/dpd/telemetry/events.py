# SPDX-License-Identifier: Apache-2.0
"""What happened, for whoever follows: a bounded log in memory with increasing ids, the daemon's log, and the spool on disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dpd.telemetry.log import LEVELS
from dpd.telemetry.news import News
from dpd.telemetry.spool import Spool
from dpd.telemetry.status_messages import Value as Value
from dpd.telemetry.status_messages import definition_of
from dpd.urls import without_secrets

log = logging.getLogger(__name__)

CAPACITY = 10_000  # some 5 MB; a room of 1000 machines makes 2000 by joining and completing
MAX_EVENTS = 1000  # in one answer


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `at` is seconds since the epoch; ids increase, also over restarts of the daemon."""

    id: int
    at: float
    event: str
    fields: dict[str, Value] = field(default_factory=dict)


class EventLog:
    """The last `capacity` events; all of them go to the spool too, where there is one. Safe to use from any thread; followers
    wait on their own loops."""

    def __init__(
        self, capacity: int = CAPACITY, *, spool: Spool | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.spool = spool
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=capacity)
        self._latest = int(clock() * 1000)  # a restarted daemon goes on above where the one before can have ended
        self._news = News()

    @property
    def latest(self) -> int:
        """The id of the last event, or of none yet."""
        return self._latest

    def note(self, event: str, **fields: Value) -> Event:
        """Add an event, and a line of its severity to the log; followers wake up. Passwords and tokens in URLs are left out."""
        noted = self.keep(event, **fields)
        log.log(LEVELS[definition_of(event).severity], event.replace("_", " "), extra=fields)
        return noted

    def keep(self, event: str, **fields: Value) -> Event:
        """Add an event that has its line in the log already."""
        fields = {name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}
        with self._lock:
            self._latest += 1
            kept = Event(self._latest, self._clock(), event, fields)
            self._events.append(kept)
            if self.spool is not None:  # under the lock, so that both have one order
                self.spool.put(event, fields, kept.at)
        self._news.release()
        return kept

    def release(self) -> None:
        """Let those who wait have their answer, also where there is nothing to tell."""
        self._news.release()
        if self.spool is not None:
            self.spool.release()

    def after(self, id: int, limit: int = MAX_EVENTS) -> list[Event]:
        """The events with higher ids, oldest first, at most `limit`. Older ones than are kept are missing without a mark."""
        with self._lock:
            return self._newer(id)[:limit]

    def _newer(self, id: int) -> list[Event]:
        newer = []
        for event in reversed(self._events):
            if event.id <= id:
                break
            newer.append(event)
        return newer[::-1]

    async def wait(self, after: int, wait_s: float) -> list[Event]:
        """As `after`, but where there is nothing yet, wait for it."""
        await self._news.wait(lambda: bool(self.after(after, 1)), wait_s)
        return self.after(after)
