# SPDX-License-Identifier: Apache-2.0
"""Many small changes of one file, each on disk before its caller goes on, at one fsync for all that wait together.

Whoever comes while a transaction is written waits for the next, and the first of those who wait writes for all of them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from dpd.database import Database
from dpd.errors import DpdError

_Draft = TypeVar("_Draft")
_T = TypeVar("_T")


class _Turn(Generic[_Draft]):
    """One caller's change."""

    def __init__(self, work: Callable[[_Draft], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False


class GroupCommit(Generic[_Draft]):
    """`begin` makes a draft over the open transaction; `publish` hears of it once it is on disk, one draft after the other."""

    def __init__(
        self,
        database: Database,
        begin: Callable[[sqlite3.Connection], _Draft],
        publish: Callable[[_Draft], object],
    ) -> None:
        self.failures = 0  # transactions that the file did not take
        self._database = database
        self._begin, self._publish = begin, publish
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[_Turn[_Draft]] = []

    def write(self, work: Callable[[_Draft], _T]) -> _T:
        """What the work returns, once its changes are on disk. It must raise before it changes anything, or not at all. Blocks."""
        turn = _Turn(work)
        with self._lock:
            self._waiting.append(turn)
        with self._writing:
            if not turn.is_done:
                self._write_all()
        if turn.error is not None:
            raise turn.error
        result: _T = turn.result
        return result

    def _write_all(self) -> None:
        with self._lock:
            turns, self._waiting = self._waiting, []
        try:
            with self._database.transaction() as connection:
                draft = self._begin(connection)
                for turn in turns:
                    _try(turn, draft)
        except BaseException as error:  # such as a full disk: nothing of it was written, for nobody
            self.failures += 1
            for turn in turns:
                turn.error, turn.is_done = turn.error or error, True
            return
        try:
            self._publish(draft)
        finally:
            for turn in turns:
                turn.is_done = True


def _try(turn: _Turn[_Draft], draft: _Draft) -> None:
    try:
        turn.result = turn.work(draft)
    except DpdError as error:
        turn.error = error
