# SPDX-License-Identifier: Apache-2.0
"""Makes status messages of the journal: a thread of its own that looks at the machines that have something new.

Whoever answers a machine only marks it. The thread gathers what comes in GATHER_S, and after each look rests for so much longer
than it took that a thousand machines switched on at once wait for their messages, and not for their answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from dpd.explain.boot_reports import MACHINES, OVER_S, BootReport, BootReports
from dpd.explain.findings import Surroundings
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal

log = logging.getLogger(__name__)

GATHER_S = 0.3
SLICE = 16  # machines looked at without a rest
REST = 19  # times as long as a look took: a twentieth of a core at most
BURST = 3000  # messages of beginnings at once: a school's morning
PER_S = 20.0  # and for ever, which 100,000 of history hold for more than an hour; a flood of invented MACs is more
FAILED_BURST, FAILED_PER_S = (
    100,
    0.2,
)  # messages of failures; above that their causes and numbers say more than each of them
UNREPORTED_S = 60.0  # between two messages of what there was no message of
CAUSES_TOLD = 5
STOP_S = 5.0
# Anybody's packet makes them.
_OF_BEGINNINGS = frozenset({"boot.granted", "boot.refused", "boot.waiting"})
_OF_FAILURES = frozenset({"boot.failed", "boot.unfinished"})


class Allowance:
    """A bucket of `burst`, filled by `per_s`."""

    def __init__(self, burst: float, per_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._monotonic = burst, per_s, monotonic
        self._left, self._at = burst, monotonic()

    def take(self) -> bool:
        """Whether there is one left."""
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class BootWatch:
    """Runs between `start` and `stop`. `surroundings` may be called from any thread."""

    def __init__(
        self,
        journal: BootJournal,
        events: EventLog,
        surroundings: Callable[[], Surroundings],
        *,
        over_s: float = OVER_S,
        allowance: Allowance | None = None,
        failures: Allowance | None = None,
    ) -> None:
        """`allowance` is of messages of beginnings, `failures` of those of boots that did not end well."""
        self._journal = journal
        self._events = events
        self._surroundings = surroundings
        self._over_s = over_s
        self._allowance = allowance or Allowance(BURST, PER_S)
        self._failures = failures or Allowance(FAILED_BURST, FAILED_PER_S)
        self._unreported, self._unreported_at = 0, 0.0  # when it may be told again
        self._unreported_failures: Counter[str] = Counter()  # by cause
        self._reports = BootReports()
        self._due: OrderedDict[str, float] = OrderedDict()  # when a machine will have been silent for long enough
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="boot watch", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._journal.watch(self._woken.set)
        self._thread.start()

    def stop(self) -> None:
        """Tell what there is and end; idempotent. Blocks for STOP_S at most."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._woken.wait(self._wait_s())
            self._stopping.wait(GATHER_S)
            is_last = self._stopping.is_set()
            self._woken.clear()
            self._look_at(self._journal.take_touched(), is_over=False)
            self._look_at(self._over(), is_over=True)
            self._tell_unreported()

    def _wait_s(self) -> float | None:
        """Until the next machine has been silent for long enough, or what was not told may be; None: until something is new."""
        times = [next(iter(self._due.values()))] if self._due else []
        if self._unreported or self._unreported_failures:
            times.append(self._unreported_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _over(self) -> list[str]:
        now = time.monotonic()
        over = [mac for mac, at in self._due.items() if at <= now]
        for mac in over:
            del self._due[mac]
        return over

    def _look_at(self, macs: Sequence[str], *, is_over: bool) -> None:
        for start in range(0, len(macs), SLICE):
            began = time.monotonic()
            around = self._surroundings()
            for mac in macs[start : start + SLICE]:
                self._look(mac, around, is_over=is_over)
            self._stopping.wait((time.monotonic() - began) * REST)

    def _look(self, mac: str, around: Surroundings, *, is_over: bool) -> None:
        """The edge: one machine's story must not end the messages of the others."""
        try:
            before, events = self._journal.chapter(mac)
            for report in self._reports.look(mac, before, events, around, is_over=is_over):
                self._tell(report)
        except Exception:
            log.exception("boot not told", extra={"mac": mac})
        if not is_over:
            self._due[mac] = time.monotonic() + self._over_s
            self._due.move_to_end(mac)
            while len(self._due) > MACHINES:
                self._due.popitem(last=False)

    def _tell(self, report: BootReport) -> None:
        if report.event in _OF_BEGINNINGS and not self._allowance.take():
            self._unreported += 1
        elif report.event in _OF_FAILURES and not self._failures.take():
            self._unreported_failures[str(report.fields["cause"])] += 1
        else:
            self._events.note(report.event, **report.fields)

    def _tell_unreported(self) -> None:
        now = time.monotonic()
        if now < self._unreported_at and not self._stopping.is_set():
            return
        count, self._unreported = self._unreported, 0
        failures, self._unreported_failures = self._unreported_failures, Counter()
        if count:
            self._events.note("boot.unreported", count=count)
        if failures:
            self._events.note("boot.failures", count=failures.total(), causes=_in_words(failures))
        if count or failures:
            self._unreported_at = now + UNREPORTED_S


def _in_words(causes: Counter[str]) -> str:
    """The causes that came most often, each with its number."""
    told = [f"{cause} {count}" for cause, count in causes.most_common(CAUSES_TOLD)]
    others = causes.total() - sum(count for _, count in causes.most_common(CAUSES_TOLD))
    return ", ".join([*told, *([f"others {others}"] if others else [])])
