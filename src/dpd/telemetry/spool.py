# SPDX-License-Identifier: Apache-2.0
"""Status messages on disk, until whoever is to have them has confirmed them, and as history after that.

Theory of operation. `put` hands a message to one writer thread and returns: who notes something never waits for a disk. The
writer takes what has gathered and commits it as one transaction, and only then has a message a sequence and can be read: so
what a reader has seen is on disk, and a sequence that was told once never means another message, also after a kill -9.

The spool is bounded. Where it is full the oldest go; if a reader had not confirmed them, that is counted and told by a message
of its own. Where the disk takes nothing, messages wait in memory; those beyond MAX_QUEUED are counted, and told as soon as there
is room. A file that is found damaged, by writing or by reading, is set aside and a new one begun, which tells so. In no case does a spool keep dpd from starting or running.

An `epoch` names the file: a new disk begins a new series, and (epoch, sequence) means one message for ever. It may change while
dpd runs, where the file is found damaged; sequences then begin at 1 again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dpd.telemetry.news import News
from dpd.telemetry.spool_file import (
    Put,
    SpoolError,
    SpoolFile,
    SpoolFull,
    SpoolLimits,
    is_damage,
    set_aside,
)
from dpd.telemetry.stats import counter, gauge, levels
from dpd.telemetry.status_messages import Severity, StatusMessage, Value

log = logging.getLogger(__name__)

MAX_QUEUED = 10_000  # messages that wait for the disk
MAX_BATCH = 500  # in one transaction
MAX_PAGE = 1000  # in one answer
RETRY_S = 2.0  # before the disk is asked again
CLOSE_S = 10.0  # for the last messages; a disk that hangs does not hold dpd for longer

_T = TypeVar("_T")


@dataclass(slots=True)
class SpoolStats:
    """What the spool counted."""

    written: int = counter("Status messages written to disk")
    dropped: int = counter("Status messages that made room for newer ones before every reader had them")
    lost: int = counter("Status messages that the disk did not take and memory could not hold")
    write_failures: int = counter("Times that the disk did not take status messages")
    files_set_aside: int = counter("Files of status messages that were damaged and begun anew")
    writable: int = gauge("Whether the disk takes status messages: 1, else 0")
    queued: int = gauge("Status messages that wait for the disk")
    kept: int = gauge("Status messages on disk")
    kept_bytes: int = gauge("Bytes of the status messages on disk")
    unconfirmed: dict[str, float] = levels("Status messages that a reader has not confirmed", "reader")


@dataclass(slots=True)
class _Loss:
    """What did not fit into the queue."""

    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    error: str = ""


class Spool:
    """One file, or memory alone where there is no path. Safe to use from any thread. `readers`, where given, are all that there
    are: whoever else once confirmed is forgotten, and not waited for."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        readers: Collection[str] | None = None,
        limits: SpoolLimits | None = None,
        clock: Callable[[], float] = time.time,
        retry_s: float = RETRY_S,
    ) -> None:
        self.stats = SpoolStats()
        self._path = path
        self._readers = readers
        self._limits = limits or SpoolLimits()
        self._clock = clock
        self._retry_s = retry_s
        self._changed = threading.Condition()  # its lock is for memory, and never held while the disk works
        self._queue: deque[Put] = deque()
        self._put_count = self._written_count = 0
        self._loss = _Loss()
        self._error = "not opened yet"
        self._is_closing = False
        self._damage: SpoolError | None = None  # found by a reader, for the writer to mend
        self._file: SpoolFile | None = None
        self._epoch = ""
        self._dropped_before = 0  # from files that are not open any more
        self._news = News()
        self._try_to_open()
        self._writer = threading.Thread(target=self._write_on, name="spool", daemon=True)
        self._writer.start()

    # ---- writers

    def put(self, event: str, fields: Mapping[str, Value], at: float | None = None) -> bool:
        """Have it written soon; the mapping must not change afterwards. Never waits for the disk. False: there is no room, and
        that will be told."""
        at = self._clock() if at is None else at
        with self._changed:
            if self._is_closing or len(self._queue) >= MAX_QUEUED:
                self._note_loss(at)
                return False
            self._tell_loss()
            self._enqueue((at, event, fields))
            self._changed.notify_all()
            return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put before is on disk; True: it is, and outlives a kill -9. Blocks."""
        with self._changed:
            goal = self._put_count
            return self._changed.wait_for(lambda: self._written_count >= goal, timeout_s)

    def _enqueue(self, put: Put) -> None:
        self._put_count += 1
        self._queue.append(put)
        self.stats.queued = len(self._queue)

    def _note_loss(self, at: float) -> None:
        loss = self._loss
        loss.first_at = loss.first_at if loss.count else at
        loss.last_at = at
        loss.count += 1
        loss.error = self._error or loss.error
        self.stats.lost += 1

    def _tell_loss(self) -> None:
        """In the place of what was lost."""
        loss = self._loss
        if loss.count:
            self._loss = _Loss()
            told: dict[str, Value] = {"count": loss.count, "first_at": loss.first_at, "last_at": loss.last_at}
            self._enqueue((self._clock(), "messages.lost", told | {"error": loss.error}))

    # ---- readers

    @property
    def epoch(self) -> str:
        """16 hex digits that name this series; "" as long as no file could be opened."""
        return self._epoch

    @property
    def latest(self) -> int:
        """The sequence of the newest message that can be read, 0 for none yet."""
        file = self._file
        return 0 if file is None else file.latest

    @property
    def oldest(self) -> int:
        """The sequence of the oldest message that can be read; above `latest` where there is none."""
        file = self._file
        return 1 if file is None else file.oldest

    def after(self, sequence: int, limit: int = MAX_PAGE, *, severity: Severity = Severity.INFO) -> list[StatusMessage]:
        """The messages with higher sequences, at least as severe, oldest first. Blocks. Raises SpoolError."""
        return self._asked(lambda file: file.after(sequence, limit, severity))

    def last(self, limit: int, *, severity: Severity = Severity.INFO) -> list[StatusMessage]:
        """The newest messages, at least as severe, the oldest of them first. Blocks. Raises SpoolError."""
        return self._asked(lambda file: file.last(limit, severity))

    def confirm(self, reader: str, sequence: int, epoch: str = "") -> None:
        """This reader has all up to there for certain; what is behind waits for it. With 0 it makes itself known. Never goes
        back. With an epoch it holds for that series alone. Blocks. Raises SpoolError."""

        def confirm(file: SpoolFile) -> None:
            if epoch in ("", file.epoch):
                file.confirm(reader, sequence)

        self._asked(confirm)
        self._count()

    def confirmed(self, reader: str) -> int:
        """Up to where this reader has confirmed; 0 where it never did."""
        file = self._file
        return 0 if file is None else file.confirmed.get(reader, 0)

    async def news(self, sequence: int, wait_s: float) -> bool:
        """Wait for a message above this sequence. False: the time is over, or `release` was called."""
        return await self._news.wait(lambda: self.latest > sequence, wait_s)

    def release(self) -> None:
        """Let those who wait for news go on, also where there are none."""
        self._news.release()

    def close(self) -> None:
        """Write what is left, where the disk takes it within CLOSE_S, and close the file; idempotent. Blocks."""
        with self._changed:
            is_closed, self._is_closing = self._is_closing, True
            self._changed.notify_all()
        self.release()
        self._writer.join(CLOSE_S)
        if (left := len(self._queue)) and not is_closed:
            log.error("status messages not written", extra={"count": left, "error": self._error})
        if self._file is not None and not self._writer.is_alive():
            self._file.close()

    def _asked(self, ask: Callable[[SpoolFile], _T]) -> _T:
        try:
            return ask(self._opened())
        except SpoolError as error:
            if is_damage(error):
                with self._changed:
                    self._damage = error
                    self._changed.notify_all()
            raise

    def _opened(self) -> SpoolFile:
        file = self._file
        if file is None:
            raise SpoolError(f"status messages cannot be read: {self._error}")
        return file

    # ---- the writer's thread

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._loss.count or self._damage or self._is_closing)
                damage, self._damage = self._damage, None
            if damage is not None:
                self._fail(damage)
            with self._changed:
                if not self._queue:
                    self._tell_loss()
                batch = [self._queue[place] for place in range(min(MAX_BATCH, len(self._queue)))]
                is_last_try = self._is_closing
            if not batch:
                if is_last_try:
                    return
                continue
            if self._try_to_write(batch):
                continue
            if is_last_try:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, self._retry_s)

    def _try_to_write(self, batch: Sequence[Put]) -> bool:
        if self._file is None and not self._try_to_open():
            return False
        try:
            self._opened().append(batch)
        except Exception as error:  # whatever it is: dpd goes on, and tries again
            self._fail(error)
            return False
        with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._written_count += len(batch)
            self.stats.written += len(batch)
            self._changed.notify_all()
        self._count()
        self._note_success()
        self.release()
        return True

    def _try_to_open(self) -> bool:
        path = Path(":memory:") if self._path is None else self._path
        try:
            file = SpoolFile(path, self._limits, self._readers)
        except Exception as error:
            self._fail(error)
            return False
        self._epoch = file.epoch  # first: who reads, and finds the epoch as it was before, has read that series
        self._file = file
        self._count()
        self._note_success()
        self.release()  # whoever waits in a series that is no more
        return True

    def _fail(self, error: Exception) -> None:
        """Told once for each cause. The file is opened anew the next time, unless all that it lacks is room."""
        self.stats.write_failures += 1
        self.stats.writable = 0
        if str(error) != self._error:
            log.error("status messages wait for their disk", extra={"error": str(error)})
        self._error = str(error)
        if isinstance(error, SpoolFull):
            return
        file, self._file = self._file, None
        epoch = "" if file is None else file.epoch
        if file is not None:
            self._dropped_before += file.dropped
            self._readers = tuple(file.confirmed)
            file.close()
        if is_damage(error) and self._path is not None:
            self._set_aside(self._path, epoch)

    def _set_aside(self, path: Path, epoch: str) -> None:
        """Nothing is lost by it that was not lost before; whoever wants may look. The next series tells."""
        try:
            aside = set_aside(path)
        except OSError as error:
            log.error("damaged file of status messages stays", extra={"path": str(path), "error": str(error)})
            return
        self.stats.files_set_aside += 1
        log.error("damaged file of status messages set aside, a new one begins", extra={"path": str(aside)})
        with self._changed:
            if self._queue and self._queue[0][1] == "messages.damaged":  # not even the new one could be written
                return
            self._put_count += 1
            self._queue.appendleft((self._clock(), "messages.damaged", {"path": str(aside), "series": epoch}))

    def _note_success(self) -> None:
        if self._error and self.stats.write_failures:
            log.info("status messages are written")
        self._error = ""
        self.stats.writable = 1

    def _count(self) -> None:
        file = self._file
        if file is not None:
            self.stats.queued = len(self._queue)
            self.stats.kept, self.stats.kept_bytes = file.kept, file.kept_bytes
            self.stats.dropped = self._dropped_before + file.dropped
            confirmed = file.confirmed
            self.stats.unconfirmed = {
                reader: float(file.latest - max(at, file.oldest - 1)) for reader, at in confirmed.items()
            }
