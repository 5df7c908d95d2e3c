# SPDX-License-Identifier: Apache-2.0
"""Switches HTTP on beside a session whose group is not heard or too slow, and back when the group flows again."""

from __future__ import annotations

import time
from collections.abc import Callable

from dpd.service.receiving.receiver import ReceiverSession
from dpd.target.receiving.fall_back import FallBack
from dpd.target.receiving.unicast import JoinAnew, UnicastSource


class SwitchOver:
    """Beside one session; `watch` is called in the session's thread, `close` when it has ended."""

    def __init__(self, session: ReceiverSession, fall_back: FallBack, open_source: Callable[[], UnicastSource]) -> None:
        self._session = session
        self._fall_back = fall_back
        self._open_source = open_source
        self._source: UnicastSource | None = None
        session.awaits_other_source = True

    @property
    def is_unicast(self) -> bool:
        return self._source is not None

    @property
    def fetched_bytes(self) -> int:
        return self._source.fetched_bytes if self._source else 0

    @property
    def fetched_slabs(self) -> int:
        """Slab set."""
        return self._source.fetched_slabs if self._source else 0

    def watch(self) -> str:
        """To be called a few times a second. Returns why HTTP begins now, else nothing. Raises JoinAnew when the group flows
        again: the session counts on this receiver no more, so it has to come back as if it were new."""
        counters, machine = self._session.machine.counters, self._session.machine
        is_wanted = self._fall_back.judge(machine.has_heard or counters.symbols > 0, counters.symbols, time.monotonic())
        if self._source is None and is_wanted:
            self._session.is_apart = True
            self._source = self._open_source()
            self._source.start()
            return self._fall_back.reason
        if self._source is not None and not is_wanted:
            raise JoinAnew("multicast flows again")
        return ""

    def close(self) -> None:
        if self._source is not None:
            self._source.stop()
