# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about deployments under way."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from dpd.control.api.messages.message import Request
from dpd.deployment.capture_table import Capture
from dpd.deployment.execution import OPEN, Execution, ExecutionState, StepRun, StepState
from dpd.deployment.execution_table import KeptReport, Wanted
from dpd.deployment.next_steps import next_step_of

_END = r"(?![\s\S])"
ExecutionId = Annotated[
    str, Meta(pattern=rf"^[0-9a-f]{{16,128}}{_END}", description="An execution, by the digits it is listed under")
]
Machine = Annotated[
    str, Meta(min_length=1, max_length=64, description="A computer's name, or the MAC of a machine, such as PC-017")
]
DeploymentNumber = Annotated[int, Meta(ge=1, le=2**53 - 1, description="A deployment, by its number")]


class Which(StrEnum):
    """Executions by how they are; `open` and `ended` are several states together."""

    OPEN = "open"
    ENDED = "ended"
    RUNNING = "running"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class ExecutionsParameters(Request):
    """`before`: only those behind this one, which is the next page."""

    machine: Machine | None = None
    deployment: DeploymentNumber | None = None
    state: Which | None = None
    before: ExecutionId | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100

    def wanted(self) -> Wanted:
        return Wanted(self.machine or "", self.deployment, _states(self.state), self.before or "")


class FollowParameters(Request):
    """Those of one machine, or of one deployment; without either, all."""

    machine: Machine | None = None
    deployment: DeploymentNumber | None = None

    def wanted(self) -> Wanted:
        return Wanted(self.machine or "", self.deployment)


class ExecutionParameters(Request):
    execution: ExecutionId


class ReportsParameters(Request):
    """Those behind the number `after`."""

    execution: ExecutionId
    after: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class CapturesParameters(Request):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class CancelRequest(Request):
    """Why, for whoever stands before the machine."""

    reason: Annotated[str, Meta(max_length=200)] = ""


class ExecutionReply(Struct):
    """One execution at a glance. `step_states` has all steps in their order; `step`, its bytes and its rate are where it is, or
    failed. `next_step` is what to try where something is wrong. `log_bytes`: of the log that it left."""

    id: str
    machine: str
    computer: str
    mac: str
    deployment: int
    sequence: str
    version: int
    state: ExecutionState
    is_silent: bool
    started_at: float
    heard_at: float
    ended_at: float
    step: str
    step_name: str
    step_kind: str
    step_states: list[StepState]
    done_bytes: int
    total_bytes: int
    rate_bit_s: float
    message: str
    error: str
    next_step: str
    cancel_reason: str
    log_bytes: int


class ExecutionDetail(Struct):
    """With each step. `ends_by`: given up then, where it is silent too. `reported`: how many reports it has made."""

    execution: ExecutionReply
    ends_by: float
    reported: int
    cancel_actor: str
    steps: list[StepRun]


class ExecutionList(Struct):
    executions: list[ExecutionReply]


class ReportList(Struct):
    reports: list[KeptReport]


class LogReply(Struct):
    """`text` is what the machine wrote; what a terminal would obey is replaced in it."""

    execution: str
    text: str


class CaptureList(Struct):
    captures: list[Capture]


def reply_of(execution: Execution) -> ExecutionReply:
    """As the API tells it."""
    step = execution.find_step(execution.step) or StepRun("", "", "")
    return ExecutionReply(
        id=execution.id,
        machine=execution.machine,
        computer=execution.computer,
        mac=execution.mac,
        deployment=execution.deployment,
        sequence=execution.sequence,
        version=execution.version,
        state=execution.state,
        is_silent=execution.is_silent,
        started_at=execution.started_at,
        heard_at=execution.heard_at,
        ended_at=execution.ended_at,
        step=execution.step,
        step_name=step.name,
        step_kind=step.kind,
        step_states=[each.state for each in execution.steps],
        done_bytes=step.done_bytes,
        total_bytes=step.total_bytes,
        rate_bit_s=step.rate_bit_s,
        message=execution.message,
        error=execution.error,
        next_step=next_step_of(execution),
        cancel_reason=execution.cancel_reason,
        log_bytes=execution.log_bytes,
    )


def detail_of(execution: Execution) -> ExecutionDetail:
    """With each step."""
    steps = list(execution.steps)
    return ExecutionDetail(reply_of(execution), execution.ends_by, execution.reported, execution.cancel_actor, steps)


def _states(which: Which | None) -> frozenset[ExecutionState]:
    if which is None:
        return frozenset()
    if which is Which.OPEN:
        return OPEN
    return frozenset(ExecutionState) - OPEN if which is Which.ENDED else frozenset({ExecutionState(which.value)})
