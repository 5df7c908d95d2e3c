# SPDX-License-Identifier: Apache-2.0
"""What the work of a job sees of it: where to tell how far it is, and where to hear that it is to stop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from dpd.distribution.jobs.job import Job
from dpd.errors import JobCancelled, JobError

RATE_SPAN_S = 10.0  # the rate shown is of the last seconds, so that a stall shows
_SAMPLE_INTERVAL_S = 0.25


class JobRun:
    """One try of one job, in a worker's thread. The desk may look and interrupt from any other.

    `check` is to be called at least at each piece of work: it raises JobCancelled where the job is to end and
    JobPostponed where it is to go on later; the work then keeps what it has on disk and lets the error pass.
    """

    def __init__(
        self, job: Job, *, gate: Callable[[], None] = lambda: None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`gate` raises what `check` raises while nobody interrupts, such as JobPostponed out of hours."""
        self.job = job
        self.source_version = job.source_version
        self._gate = gate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._interruption: JobError | None = None
        self._done, self._total, self._message = job.done_bytes, job.total_bytes, job.message
        self._samples: deque[tuple[float, int]] = deque()

    def progress(self, done: int, total: int) -> None:
        """So many bytes of so many are here. Bytes that an earlier try had brought count as done."""
        with self._lock:
            self._done, self._total = done, total
            now = self._monotonic()
            if self._samples and done < self._samples[-1][1]:  # another stage has begun
                self._samples.clear()
            if not self._samples or now - self._samples[-1][0] >= _SAMPLE_INTERVAL_S:
                self._samples.append((now, done))
            while self._samples[0][0] < now - RATE_SPAN_S:
                self._samples.popleft()

    def say(self, text: str) -> None:
        """What is being done, for people: one line."""
        with self._lock:
            self._message = text

    def resolve(self, source_version: int) -> None:
        """The order spoke of the newest version: it is this one."""
        self.source_version = source_version

    def check(self) -> None:
        """Raises JobCancelled, JobPostponed."""
        if self._interruption is not None:
            raise self._interruption
        self._gate()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up for an interruption. Raises as `check`."""
        self._interrupted.wait(max(0.0, seconds))
        self.check()

    def interrupt(self, reason: JobError) -> None:
        """Let the next `check` raise this. Who was to go on later can still be cancelled, and not the other way round."""
        with self._lock:
            if not isinstance(self._interruption, JobCancelled):
                self._interruption = reason
        self._interrupted.set()

    def seen(self) -> Job:
        """The job with what this run has told so far."""
        with self._lock:
            rate_bytes_s = self._rate_bytes_s()
            left = max(0, self._total - self._done)
            return replace(
                self.job,
                done_bytes=self._done,
                total_bytes=self._total,
                message=self._message,
                rate_mbit_s=rate_bytes_s * 8 / 1e6,
                eta_s=left / rate_bytes_s if rate_bytes_s > 0 else None,
            )

    def _rate_bytes_s(self) -> float:
        if not self._samples:
            return 0.0
        began, done = self._samples[0]
        elapsed = self._monotonic() - began
        return (self._done - done) / elapsed if elapsed > 0 else 0.0


Work: TypeAlias = Callable[[JobRun], None]
