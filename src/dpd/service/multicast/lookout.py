# SPDX-License-Identifier: Apache-2.0
"""The thread that looks after all sessions: it shares the rates out, and once a second sees to slow and silent receivers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from dpd.service.multicast.session import Session
from dpd.service.multicast.uplink import INTERVAL_S, Uplink

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Lookout:
    """Starts at the first `wake`; sleeps while there is no session."""

    def __init__(self, uplink: Uplink, sessions: Callable[[], list[Session]], look_after: Callable[[], None]) -> None:
        self._uplink = uplink
        self._sessions = sessions
        self._look_after = look_after
        self._news = threading.Condition()
        self._has_news = self._is_stopped = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something has changed: a session, a member, a ceiling."""
        with self._news:
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._run, name="multicast-lookout", daemon=True)
                self._thread.start()
            self._has_news = True
            self._news.notify()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        with self._news:
            self._is_stopped = self._has_news = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        looked_at = 0.0
        while not self._is_stopped:
            now = time.monotonic()
            try:
                self._uplink.share_out(self._sessions(), now)
                if now - looked_at >= LOOK_S:
                    looked_at = now
                    self._look_after()
            except Exception:  # the sessions go on, at the rates they have
                log.exception("multicast sessions could not be looked after")
            self._wait(self._until_next_look())

    def _until_next_look(self) -> float | None:
        sessions = self._sessions()
        if not sessions:
            return None
        is_shared = self._uplink.rate_bit_s or any(len(s.streams) > 1 and s.rate_bit_s for s in sessions)
        return INTERVAL_S if is_shared and any(session.is_busy for session in sessions) else LOOK_S

    def _wait(self, timeout_s: float | None) -> None:
        with self._news:
            if not self._has_news:
                self._news.wait(timeout_s)
            self._has_news = False
