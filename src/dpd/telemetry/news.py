# SPDX-License-Identifier: Apache-2.0
"""Waiting on an event loop for what any thread may bring."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class News:
    """Who brings something does that first and calls `release` then; so nobody who looks before waiting misses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of who waits; held by nobody who works
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    async def wait(self, is_there: Callable[[], bool], wait_s: float) -> bool:
        """Whether it is there, now or within that time; it may be not, although `release` was called, which ends the wait.
        `is_there` takes no time, and no lock under which anybody calls `release`."""
        news = asyncio.Event()
        with self._lock:
            if is_there() or wait_s <= 0:
                return is_there()
            self._waiting[news] = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(wait_s):
                await news.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting.pop(news, None)
        return is_there()

    def release(self) -> None:
        """Those who wait look again, also where there is nothing. From any thread."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for news, loop in waiting.items():
            with suppress(RuntimeError):  # a loop that is closed
                loop.call_soon_threadsafe(news.set)
