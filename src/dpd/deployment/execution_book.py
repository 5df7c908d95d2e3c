# SPDX-License-Identifier: Apache-2.0
"""The book of executions: who runs which task sequence, how far they are, and what they said.

Theory of operation. What a target numbers is on disk before it is confirmed, and a number is taken once: none is lost, none counts
twice, whatever happens to either side. Reports of many targets share one fsync (group_commit). Progress, which may be lost, stays
in memory, so that a thousand targets may tell theirs each second; it is written with the next numbered report of its execution.
Open executions are in memory, as they are on disk but for that; those that have ended are read when somebody asks.

Each change gets a revision, so that a follower asks for what is newer than what it has seen.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import TypeAlias

from dpd.database import Database
from dpd.deployment import execution_table as table
from dpd.deployment.execution import (
    Execution,
    ExecutionState,
    StepName,
    began_anew,
    cancel_told,
    hear,
    lose,
    plan_steps,
    take_progress,
    take_report,
    words_of,
)
from dpd.deployment.execution_events import (
    Tell,
    Told,
    execution_fields,
    told_of_change,
    told_of_report,
)
from dpd.deployment.execution_table import KeptReport, Wanted
from dpd.deployment.group_commit import GroupCommit
from dpd.errors import DeploymentError, ExecutionNotFound
from dpd.sequence.exchange import Receipt, Report

RUN_TIME_S = 120 * 60.0  # the original's default of a task sequence
SILENT_S = 300.0  # it says that it is there each 15 s; a short cut of the network is no silence
RESTART_S = 900.0  # some servers' firmware takes a quarter of an hour
KEPT_S = 90 * 86400.0  # an ended execution is kept so long; the last one of each machine stays
MAX_REPORTS = 20_000  # of one execution; who says more is broken
MAX_FOLLOWED = 10_000  # executions whose last change is remembered


Executions: TypeAlias = list[Execution]


class ExecutionBook:
    """All executions of one dpd. Any thread; whatever is written blocks for the disk."""

    def __init__(
        self, database: Database, *, tell: Tell = lambda event, fields: None, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._tell = tell
        self._opened_at = clock()
        self._lock = threading.Lock()  # for memory; never held while the disk works
        self._open = {each.id: each for each in table.open_executions(database)}
        self._revision = 0
        self._changed: OrderedDict[str, int] = OrderedDict()  # the revision of each one's last change, the latest last
        self._commit = GroupCommit(database, self._begin_draft, self._publish)
        self.at_change: Callable[[], object] = lambda: None  # whoever follows; called in the thread of who changed

    # ---- the target's desk

    def begin(
        self,
        machine: str,
        computer: str,
        mac: str,
        deployment: int,
        sequence: str,
        version: int,
        steps: Sequence[StepName],
        at: float,
        *,
        run_time_s: float = RUN_TIME_S,
    ) -> str:
        """A machine has taken its task sequence; the id of its execution. One of its that is still open is lost by that."""
        begun = Execution(
            token_hex(8), machine.lower(), computer, mac.lower(), deployment, sequence, version, at, at + run_time_s,
            heard_at=at, steps=plan_steps(steps),
        )  # fmt: skip

        def write(draft: _Draft) -> None:
            for earlier in draft.of_machine(begun.machine):
                draft.change(earlier, lose(earlier, began_anew(earlier), at, is_final=True))
            draft.add(begun)

        self._commit.write(write)
        return begun.id

    def take_reports(self, id: str, reports: Sequence[Report], at: float) -> Receipt:
        """Take what is new of them, in their order, up to the first gap. Raises ExecutionNotFound, DeploymentError for too many."""
        receipt = self._take_in_memory(id, reports, at)
        if receipt is None:
            return self._commit.write(lambda draft: _take(draft, id, reports, at))
        self.at_change()
        return receipt

    def _take_in_memory(self, id: str, reports: Sequence[Report], at: float) -> Receipt | None:
        """None where there is something for the disk."""
        with self._lock:
            execution = self._open.get(id)
            if execution is None or execution.is_silent or any(each.number > execution.reported for each in reports):
                return None
            for report in reports:
                if report.number == 0:
                    execution = take_progress(execution, report, at)
            self._note(replace(execution, heard_at=at))
            return Receipt(execution.reported + 1, cancel_told(execution))

    # ---- the operator

    def cancel(self, id: str, reason: str, actor: str) -> Execution:
        """Its machine is told at its next report, and stops behind the piece of work that it is at; it says so itself. The first
        reason stands. Raises ExecutionNotFound, DeploymentError where it has ended."""

        def write(draft: _Draft) -> Execution:
            execution = draft.find(id)
            if not execution.is_open:
                raise DeploymentError(
                    f"execution {id} of {execution.who}: has ended as {execution.state}; nothing to cancel"
                )
            if execution.cancel_reason:
                return execution
            cancelled = replace(execution, cancel_reason=reason or f"cancelled by {actor}", cancel_actor=actor)
            draft.change(execution, cancelled)
            told = execution_fields(execution) | {"reason": cancelled.cancel_reason, "actor": actor}
            draft.told.append(("deployment.cancelling", told))
            return cancelled

        return self._commit.write(write)

    def note_log(self, id: str, log_bytes: int) -> Execution:
        """It has left so much of a log. Raises ExecutionNotFound."""

        def write(draft: _Draft) -> Execution:
            execution = draft.find(id)
            noted = replace(execution, log_bytes=log_bytes)
            draft.change(execution, noted)
            return noted

        return self._commit.write(write)

    # ---- looking

    def find(self, id: str) -> Execution:
        """Raises ExecutionNotFound."""
        with self._lock:
            execution = self._open.get(id)
        return execution or _find_ended(self._database, id)

    def list(self, wanted: Wanted = Wanted(), limit: int = 100) -> Executions:  # noqa: B008
        """At most `limit`, the newest first."""
        found = table.list_executions(self._database, wanted, limit)
        with self._lock:
            return [self._open.get(each.id, each) for each in found]

    def open_executions(self) -> Executions:
        """Those whose machines are expected to say more, the oldest first."""
        with self._lock:
            return sorted(self._open.values(), key=lambda each: each.started_at)

    def reports(self, id: str, after: int = 0, limit: int = 1000) -> Sequence[KeptReport]:
        """The numbered reports behind one. Raises ExecutionNotFound."""
        self.find(id)
        return table.list_reports(self._database, id, after, limit)

    @property
    def write_failures(self) -> int:
        """How often the disk did not take what it was to keep."""
        return self._commit.failures

    @property
    def revision(self) -> int:
        """Of the last change."""
        return self._revision

    def changed(self, after: int) -> tuple[int, Executions]:
        """The revision now, and those that have changed since another, the first change first."""
        with self._lock:
            revision, ids = self._revision, []
            for id in reversed(self._changed):
                if self._changed[id] <= after:
                    break
                ids.append(id)
            found = {id: self._open.get(id) for id in reversed(ids)}
        ended = [id for id, execution in found.items() if execution is None]
        for start in range(0, len(ended), 500):
            part = ended[start : start + 500]
            marks = ", ".join("?" * len(part))
            found |= {each.id: each for each in table.find_executions(self._database, f"id IN ({marks})", *part)}
        return revision, [execution for execution in found.values() if execution is not None]

    # ---- time

    def look_over(self, now: float) -> Sequence[str]:
        """Tell of machines that are silent, give up those whose time is over as well, and forget what ended long ago: the ids of
        those. While dpd was not there, nobody could be heard."""

        def write(draft: _Draft) -> Sequence[str]:
            for execution in draft.open_executions():
                silent_s = now - max(execution.heard_at, self._opened_at)
                if silent_s <= (RESTART_S if execution.state is ExecutionState.RESTARTING else SILENT_S):
                    continue
                if now > execution.ends_by:
                    reason = f"nothing was heard of it for {silent_s / 60:.0f} minutes, and its time is over"
                    draft.change(execution, lose(execution, reason, now, is_final=False))
                elif not execution.is_silent:
                    draft.change(execution, replace(execution, is_silent=True))
            draft.forget(now - KEPT_S)
            return draft.forgotten

        return self._commit.write(write)

    # ---- inside

    def _begin_draft(self, connection: sqlite3.Connection) -> _Draft:
        with self._lock:
            return _Draft(connection, dict(self._open))

    def _publish(self, draft: _Draft) -> None:
        """It is on disk. Progress that came meanwhile gives way: the next is a second away."""
        with self._lock:
            for execution in draft.changed.values():
                self._note(execution)
            for id in draft.forgotten:
                self._changed.pop(id, None)
        for event, fields in draft.told:
            self._tell(event, fields)
        self.at_change()

    def _note(self, execution: Execution) -> None:
        if execution.is_open:
            self._open[execution.id] = execution
        else:
            self._open.pop(execution.id, None)
        self._revision += 1
        self._changed[execution.id] = self._revision
        self._changed.move_to_end(execution.id)
        while len(self._changed) > MAX_FOLLOWED:
            self._changed.popitem(last=False)


class _Draft:
    """What a transaction makes of the book."""

    def __init__(self, connection: sqlite3.Connection, open: dict[str, Execution]) -> None:
        self._connection = connection
        self._open = open
        self.changed: dict[str, Execution] = {}
        self.forgotten: list[str] = []
        self.told: list[Told] = []

    def find(self, id: str) -> Execution:
        return self.changed.get(id) or self._open.get(id) or _find_ended(self._connection, id)

    def open_executions(self) -> list[Execution]:
        return [each for each in (self._open | self.changed).values() if each.is_open]

    def of_machine(self, machine: str) -> list[Execution]:
        return [each for each in self.open_executions() if each.machine == machine]

    def add(self, execution: Execution) -> None:
        table.insert_execution(self._connection, execution)
        self.changed[execution.id] = execution
        self.told.append(("deployment.started", execution_fields(execution)))

    def change(self, before: Execution, after: Execution) -> None:
        self.write(before, after)
        self.told += told_of_change(before, after)

    def write(self, before: Execution, after: Execution, reports: Sequence[KeptReport] = ()) -> None:
        table.change_execution(self._connection, before, after)
        table.insert_reports(self._connection, after.id, reports)
        self.changed[after.id] = after

    def forget(self, before: float) -> None:
        self.forgotten += table.forget_ended(self._connection, before)


def _take(draft: _Draft, id: str, reports: Sequence[Report], at: float) -> Receipt:
    before = draft.find(id)
    execution = hear(before, at)
    kept: list[KeptReport] = []
    told = told_of_change(before, execution)
    for report in reports:
        if report.number == execution.reported + 1:
            if report.number > MAX_REPORTS:
                raise DeploymentError(
                    f"execution {id}: more than {MAX_REPORTS} reports; what runs on {execution.who} is broken"
                )
            after = take_report(execution, report, at)
            told += told_of_report(execution, after, report)
            kept.append(KeptReport(report.number, report.at, at, report.step, report.state, words_of(report)))
            execution = after
        elif report.number == 0:
            execution = take_progress(execution, report, at)
        elif report.number > execution.reported:
            break  # what is missing before it comes again, and so does this
    if execution != before:
        draft.write(before, execution, kept)
        draft.told += told
    return Receipt(execution.reported + 1, cancel_told(execution))


def _find_ended(source: Database | sqlite3.Connection, id: str) -> Execution:
    found = table.find_executions(source, "id = ?", id)
    if not found:
        raise ExecutionNotFound(f"no execution {id}; `dpd deploy list` shows those there are")
    return found[0]
