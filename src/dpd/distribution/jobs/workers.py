# SPDX-License-Identifier: Apache-2.0
"""The threads that work off the desk's jobs."""

from __future__ import annotations

import logging
import threading
import time

from dpd.distribution.jobs.desk import JobDesk
from dpd.errors import DpdError

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 60.0  # whatever is not told of, such as a wall clock that was set, shows at the latest then
_PAUSE_S = 5.0  # after the disk refused to write down that a job begins


class Workers:
    """`count` threads. They end when the desk drains, each after the try that it is at."""

    def __init__(self, desk: JobDesk, count: int) -> None:
        self._desk = desk
        self._threads = [threading.Thread(target=self._work, name=f"job-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """Once."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for all of them together; whether they have ended. To be called after the desk's `drain`."""
        ends_at = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while not self._desk.is_draining:
            news = self._desk.news
            try:
                pause_s = self._turn()
            except DpdError as error:
                log.error("no job begun", extra={"error": str(error)})
                pause_s = _PAUSE_S
            except Exception:  # a thread that ends would be missed by nobody, and jobs wait for ever
                log.exception("fault at the desk of jobs")
                pause_s = _PAUSE_S
            if pause_s:
                self._desk.wait(news, pause_s)

    def _turn(self) -> float:
        """One job, where there is one; how long to wait, 0 where the next may be there already."""
        run = self._desk.claim()
        if run is None:
            return LOOK_INTERVAL_S
        self._desk.perform(run)
        return 0.0
