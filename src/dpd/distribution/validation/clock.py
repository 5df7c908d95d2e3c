# SPDX-License-Identifier: Apache-2.0
"""Orders validation when it is due. Times that were missed while the daemon was down, or the machine asleep, are made up
once, however many they were."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from dpd.distribution.validation.schedule import ValidationSchedule
from dpd.distribution.validation.store import ValidationStore
from dpd.errors import DpdError

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 30.0  # the wall clock may be set at any time, so that nobody sleeps until the due time


class ValidationClock:
    """A thread that looks at the clock. `order` puts a validation of everything in the queue."""

    def __init__(
        self,
        schedule: ValidationSchedule,
        store: ValidationStore,
        order: Callable[[], object],
        *,
        clock: Callable[[], float] = time.time,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._schedule = schedule
        self._store = store
        self._order = order
        self._clock = clock
        self._look_interval_s = look_interval_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="validation clock", daemon=True)

    def start(self) -> None:
        """Look at once, and from then on."""
        self._thread.start()

    def stop(self) -> None:
        """Idempotent; waits for the thread."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def apply(self, schedule: ValidationSchedule) -> None:
        """Other times from now on; those of theirs that have gone by already were not missed."""
        now = self._clock()
        due_at = schedule.last_due(now)
        if due_at is not None and due_at > self._store.last_ordered_at():
            self._store.note_ordered(due_at)
        self._schedule = schedule

    def next_due(self) -> float | None:
        """When validation is ordered next, in seconds since the epoch; None for never."""
        return self._schedule.next_due(self._clock())

    def look(self) -> bool:
        """Order validation where it is due; whether it was. What cannot be ordered (DpdError) is still due at the next look;
        a fault between the two steps orders once more, which is the same job as long as that is open."""
        due_at = self._schedule.last_due(self._clock())
        if due_at is None or due_at <= self._store.last_ordered_at():
            return False
        self._order()
        self._store.note_ordered(due_at)
        return True

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except DpdError as error:
                log.error("scheduled validation not ordered", extra={"error": str(error)})
            except Exception:  # a thread that ends would be missed by nobody, and nothing would be validated any more
                log.exception("fault in the clock of validation")
            if self._ending.wait(self._look_interval_s):
                return
