# SPDX-License-Identifier: Apache-2.0
"""One execution: a machine that runs a task sequence, and what each of its reports makes of it.

Theory of operation. A target numbers its reports from 1 without gaps and sends each until it is confirmed; so a report may come
twice, and one behind a gap is not taken. Number 0 is progress alone, which may be lost. An execution is open while it is RUNNING
or RESTARTING and ends as DONE, FAILED or CANCELLED, as its machine says; it is LOST where its machine says nothing any more, or has
begun anew. A machine that is heard again after it was given up goes on. Whatever comes after an end is kept and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from dpd.sequence.exchange import Report
from dpd.sequence.exchange import StepState as ReportState


class ExecutionState(StrEnum):
    """Where an execution is."""

    RUNNING = "running"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


OPEN: Final = frozenset({ExecutionState.RUNNING, ExecutionState.RESTARTING})


class StepState(StrEnum):
    """Where a step of an execution is."""

    WAITING = "waiting"
    RUNNING = "running"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StepName:
    """A step of the sequence: its place in the tree such as "2.1", its name and its kind."""

    id: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step as it ran, or is to. `attempts` counts its starts."""

    id: str
    name: str
    kind: str
    state: StepState = StepState.WAITING
    started_at: float = 0.0
    ended_at: float = 0.0
    attempts: int = 0
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    rate_bit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Execution:
    """`machine`: a computer's name in lower case, or an unknown one's MAC. `reported`: the number of the last report that was taken.
    `step`: where it is, or failed. `is_silent`: not heard for a while, and told so. `log_bytes`: of the log that it left, 0 for none."""

    id: str
    machine: str
    computer: str
    mac: str
    deployment: int
    sequence: str
    version: int
    started_at: float
    ends_by: float
    state: ExecutionState = ExecutionState.RUNNING
    heard_at: float = 0.0
    ended_at: float = 0.0
    reported: int = 0
    step: str = ""
    message: str = ""
    error: str = ""
    cancel_reason: str = ""
    cancel_actor: str = ""
    log_bytes: int = 0
    is_silent: bool = False
    steps: tuple[StepRun, ...] = field(default=())

    @property
    def is_open(self) -> bool:
        """Whether its machine is expected to say more."""
        return self.state in OPEN

    @property
    def who(self) -> str:
        """The computer's name, or the MAC of a machine without one."""
        return self.computer or self.mac

    def find_step(self, id: str) -> StepRun | None:
        """None where the sequence has no such step."""
        return next((step for step in self.steps if step.id == id), None)


_STEP_STATES = {
    ReportState.STARTED: StepState.RUNNING,
    ReportState.PROGRESS: StepState.RUNNING,
    ReportState.DONE: StepState.DONE,
    ReportState.FAILED: StepState.FAILED,
    ReportState.SKIPPED: StepState.SKIPPED,
    ReportState.RESTARTING: StepState.RESTARTING,
}
_ENDS = {
    ReportState.SEQUENCE_DONE: ExecutionState.DONE,
    ReportState.SEQUENCE_FAILED: ExecutionState.FAILED,
    ReportState.CANCELLED: ExecutionState.CANCELLED,
}


def plan_steps(steps: Sequence[StepName]) -> tuple[StepRun, ...]:
    """What an execution begins with."""
    return tuple(StepRun(step.id, step.name, step.kind) for step in steps)


def hear(execution: Execution, heard_at: float) -> Execution:
    """Its machine is there. One that was given up goes on, unless it has begun anew; one that has ended is left as it is."""
    if execution.is_open:
        return replace(execution, heard_at=heard_at, is_silent=False)
    if execution.state is ExecutionState.LOST and not execution.cancel_reason:
        return replace(execution, state=ExecutionState.RUNNING, heard_at=heard_at, ended_at=0.0, error="")
    return execution


def take_report(execution: Execution, report: Report, heard_at: float) -> Execution:
    """The execution after a numbered report. It must be the one behind `reported`."""
    counted = replace(hear(execution, heard_at), reported=report.number)
    if not counted.is_open:
        return replace(counted, heard_at=heard_at)
    state = report.state
    at = _plausible(report.at, execution.started_at, heard_at)
    message = words_of(report)
    if state in _ENDS:
        return _end(counted, _ENDS[state], message, at)
    counted = replace(
        counted,
        state=ExecutionState.RESTARTING if state is ReportState.RESTARTING else ExecutionState.RUNNING,
        step=report.step,
        message=message if state is ReportState.STARTED else message or counted.message,
        error=(message or counted.error) if state is ReportState.FAILED else counted.error,
    )
    return _with_step(counted, report.step, lambda step: _step_after(step, state, report, message, at))


def take_progress(execution: Execution, report: Report, heard_at: float) -> Execution:
    """The execution after a report that may be lost; one that has ended, or a step that does not run, is left as it is."""
    if not execution.is_open:
        return execution
    message = words_of(report)
    execution = hear(execution, heard_at)
    step = execution.find_step(report.step)
    if step is None or step.state is not StepState.RUNNING:
        return execution
    execution = replace(execution, message=message or execution.message)
    return _with_step(execution, report.step, lambda step: _counted(step, report, message))


def lose(execution: Execution, reason: str, at: float, *, is_final: bool) -> Execution:
    """Given up. Where it is final, its machine is told to stop, should it be heard again."""
    lost = replace(execution, state=ExecutionState.LOST, ended_at=at, error=reason, message=reason, is_silent=False)
    return _without_running(replace(lost, cancel_reason=lost.cancel_reason or reason), reason, at) if is_final else lost


def began_anew(execution: Execution) -> str:
    """Why one is lost whose machine has taken a task sequence since: its power was cut, or somebody restarted it."""
    return f"{execution.who} began anew"


def words_of(report: Report) -> str:
    """What it says, on one line and with nothing that a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in report.message)


def cancel_told(execution: Execution) -> str:
    """What its machine is answered: why to stop, "" to go on."""
    has_stopped = execution.state in _ENDS.values()
    return "" if has_stopped else execution.cancel_reason


def _end(execution: Execution, state: ExecutionState, message: str, at: float) -> Execution:
    """A sequence that was done has no error, whatever a step that was allowed to fail had said."""
    error = "" if state is ExecutionState.DONE else (message or execution.error)
    ended = replace(execution, state=state, ended_at=at, message=message or execution.message, error=error)
    why = f"cancelled: {error}" if state is ExecutionState.CANCELLED else error
    return ended if state is ExecutionState.DONE else _without_running(ended, why, at)


def _without_running(execution: Execution, why: str, at: float) -> Execution:
    """A step that was cut off in the middle is one that failed."""
    steps = (
        replace(
            each, state=StepState.FAILED, ended_at=max(at, each.started_at), message=why or each.message, rate_bit_s=0.0
        )
        if each.state in (StepState.RUNNING, StepState.RESTARTING)
        else each
        for each in execution.steps
    )
    return replace(execution, steps=tuple(steps))


def _step_after(step: StepRun, state: ReportState, report: Report, message: str, at: float) -> StepRun:
    counted = replace(_counted(step, report, message), state=_STEP_STATES[state])
    if state is ReportState.STARTED:
        return replace(counted, started_at=at, ended_at=0.0, attempts=step.attempts + 1, done_bytes=report.done_bytes)
    if state in (ReportState.PROGRESS, ReportState.RESTARTING):
        return replace(counted, started_at=step.started_at or at)
    return replace(counted, started_at=step.started_at or at, ended_at=at, rate_bit_s=0.0)


def _counted(step: StepRun, report: Report, message: str) -> StepRun:
    return replace(
        step,
        message=message or step.message,
        done_bytes=report.done_bytes or step.done_bytes,
        total_bytes=report.total_bytes or step.total_bytes,
        rate_bit_s=report.rate_bit_s,
    )


def _with_step(execution: Execution, id: str, change: Callable[[StepRun], StepRun]) -> Execution:
    steps = tuple(change(step) if step.id == id else step for step in execution.steps)
    return replace(execution, steps=steps)


def _plausible(at: float, earliest: float, latest: float) -> float:
    """A target's clock may be anywhere; what it says happened between its beginning and now."""
    return min(max(at, earliest), max(earliest, latest))
