# SPDX-License-Identifier: Apache-2.0
"""What is told of executions: `deployment.*` for what an operator would act on or count. Single steps that go well are in the book."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from dpd.deployment.execution import Execution, ExecutionState
from dpd.deployment.next_steps import next_step_of
from dpd.sequence.exchange import Report, StepState
from dpd.telemetry.events import Value

Tell: TypeAlias = Callable[[str, Mapping[str, Value]], None]
Told: TypeAlias = tuple[str, dict[str, Value]]

_ENDS = {
    ExecutionState.DONE: "deployment.done",
    ExecutionState.FAILED: "deployment.failed",
    ExecutionState.CANCELLED: "deployment.cancelled",
    ExecutionState.LOST: "deployment.lost",
}


def execution_fields(execution: Execution) -> dict[str, Value]:
    """What every event of an execution says of it."""
    fields: dict[str, Value] = {
        "execution": execution.id,
        "mac": execution.mac,
        "deployment": execution.deployment,
        "sequence": execution.sequence,
        "version": execution.version,
    }
    return fields | ({"computer": execution.computer} if execution.computer else {})


def step_fields(execution: Execution) -> dict[str, Value]:
    """Where it is, what went wrong there, and what to try."""
    fields: dict[str, Value] = {"error": execution.error or execution.message, "next_step": next_step_of(execution)}
    step = execution.find_step(execution.step)
    if step is not None:
        fields |= {"step": step.id, "step_name": step.name, "step_kind": step.kind}
    return fields


def told_of_change(before: Execution, after: Execution) -> list[Told]:
    """What a change of state, or of being heard, says."""
    told: list[Told] = []
    if after.is_open and (before.state is ExecutionState.LOST or (before.is_silent and not after.is_silent)):
        told.append(("deployment.heard_again", execution_fields(after)))
    if after.is_silent and not before.is_silent:
        told.append(("deployment.silent", execution_fields(after) | step_fields(after)))
    if before.is_open and not after.is_open:
        is_bad = after.state in (ExecutionState.FAILED, ExecutionState.LOST)
        fields: dict[str, Value] = {"seconds": round(after.ended_at - after.started_at)}
        if after.state is ExecutionState.CANCELLED:
            fields |= {"reason": after.cancel_reason or after.error}
        told.append((_ENDS[after.state], execution_fields(after) | fields | (step_fields(after) if is_bad else {})))
    return told


def told_of_report(before: Execution, after: Execution, report: Report) -> list[Told]:
    """What one numbered report says."""
    told: list[Told] = []
    if report.state is StepState.FAILED and after.is_open:
        told.append(("deployment.step_failed", execution_fields(after) | step_fields(after)))
    return told + told_of_change(before, after)
