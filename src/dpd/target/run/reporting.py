# SPDX-License-Identifier: Apache-2.0
"""What becomes of each step, told to the site in order: nothing is lost while it is away, and progress is told when it is there.

engine ──▶ numbered reports ──▶ the queue, which the state file keeps ──▶ POST /target/report ──▶ the site says what it has
       └─▶ progress ──▶ the latest alone                                                   └──▶ and whether to stop
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.sequence.exchange import (
    MAX_BODY_BYTES,
    MAX_MESSAGE_CHARACTERS,
    MAX_REPORTS,
    Receipt,
    Report,
    StepState,
    encode,
)
from dpd.target.distribution_point.connection import Refused
from dpd.target.work.state import State

PROGRESS_S = 2.0
SIGN_OF_LIFE_S = 15.0  # so that a cancelled run hears of it during a step that tells no progress
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 15.0
_BODY_BYTES = MAX_BODY_BYTES - 4096


class Reporter:
    """Sends in a thread of its own from `start` to `stop`. `post` is the desk's; `keep` makes the state durable, when something is
    told; that the site has it needs no such haste, since whoever goes on from an older state tells it twice."""

    def __init__(
        self,
        post: Callable[[str, tuple[Report, ...]], Receipt],
        state: State,
        keep: Callable[[], None],
        mask: Callable[[str], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.cancelled = ""  # why, once the site said so
        self.refused = ""  # why the site takes no reports of this run any more
        self._post = post
        self._state = state
        self._keep = keep
        self._mask = mask
        self._now = now
        self._changed = threading.Condition()
        self._progress: Report | None = None
        self._told_at = -SIGN_OF_LIFE_S
        self._is_ending = False
        self._rng = random.Random()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, step: str, state: StepState, message: str = "") -> None:
        """Something became of a step: it will be told, however long that takes."""
        with self._changed:
            report = Report(self._state.next_number, self._now(), step, state, self._short(message))
            self._state.next_number += 1
            self._state.reports.append(report)
            self._progress = None
            self._keep()
            self._changed.notify_all()

    def progress(self, step: str, done_bytes: int, total_bytes: int, rate_bit_s: int = 0, message: str = "") -> None:
        """How far it is; a later one takes its place."""
        report = Report(
            0, self._now(), step, StepState.PROGRESS, self._short(message), done_bytes, total_bytes, rate_bit_s
        )
        with self._changed:
            if self._progress is None:
                self._changed.notify_all()
            self._progress = report

    def flush(self, patience_s: float) -> bool:
        """Whether the site has everything, after so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._state.reports or self.refused, patience_s)
            return not self._state.reports

    def stop(self) -> None:
        """End the thread. What is not told stays in the state. Idempotent."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _short(self, message: str) -> str:
        hidden = self._mask(message)
        if len(hidden) <= MAX_MESSAGE_CHARACTERS:
            return hidden
        half = MAX_MESSAGE_CHARACTERS // 2 - 2
        return f"{hidden[:half]}...{hidden[-half:]}"

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while batch := self._next_batch():
            try:
                receipt = self._post(self._state.execution, batch[0])
            except (Refused, ContentNotFound, SessionError) as error:
                self._give_up(str(error))
                return
            except DpdError:
                if self._wait(retry_s * (0.5 + self._rng.random() / 2)):
                    return
                retry_s = min(2 * retry_s, MAX_RETRY_S)
                continue
            retry_s = FIRST_RETRY_S
            self._take(receipt)

    def _next_batch(self) -> tuple[tuple[Report, ...]] | None:
        """What to send now, in a tuple since it may be empty: a sign of life. None: no more."""
        with self._changed:
            while not self._is_ending:
                now = time.monotonic()
                if self._state.reports:
                    due_at = now
                elif self._progress is not None:
                    due_at = self._told_at + PROGRESS_S
                else:
                    due_at = self._told_at + SIGN_OF_LIFE_S
                if due_at <= now:
                    self._told_at = now
                    return (self._batch(),)
                self._changed.wait(due_at - now)
            return None

    def _batch(self) -> tuple[Report, ...]:
        batch: list[Report] = []
        size_bytes = 0
        waiting = [*self._state.reports[:MAX_REPORTS], *([self._progress] if self._progress else [])]
        for report in waiting[:MAX_REPORTS]:
            size_bytes += len(encode(report)) + 1
            if batch and size_bytes > _BODY_BYTES:
                break
            batch.append(report)
        self._progress = None
        return tuple(batch)

    def _take(self, receipt: Receipt) -> None:
        with self._changed:
            self._state.reports[:] = [each for each in self._state.reports if each.number >= receipt.next]
            self.cancelled = self.cancelled or receipt.cancel
            self._changed.notify_all()

    def _give_up(self, reason: str) -> None:
        with self._changed:
            self.refused = reason
            self._changed.notify_all()

    def _wait(self, wait_s: float) -> bool:
        """Whether it is over meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_ending, wait_s)
