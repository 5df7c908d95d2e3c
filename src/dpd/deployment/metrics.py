# SPDX-License-Identifier: Apache-2.0
"""What Prometheus hears of deployments under way: dpd_deployment_*. Sums over all machines; which one it is, `dpd deploy` tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dpd.deployment.capture_table import Capture
from dpd.deployment.execution import OPEN, Execution, ExecutionState, StepState
from dpd.deployment.execution_events import Tell
from dpd.sequence.records import StepKind
from dpd.telemetry.events import Value
from dpd.telemetry.metrics import MetricsRegistry
from dpd.telemetry.stats import bump, counter, counts, gauge, levels

OTHER = "other"  # kinds of a newer dpd
KINDS: Final = (*(kind.value for kind in StepKind), OTHER)
_ENDED: Final = tuple(state.value for state in ExecutionState if state not in OPEN)
_END_PREFIX = "deployment."


@dataclass(slots=True)
class DeploymentStats:
    """What happened since the start; every outcome and kind is there from the beginning, so that its first rise is seen."""

    started: int = counter("Executions of task sequences that began")
    ended: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(_ENDED, 0),
        metadata=counts("Executions of task sequences that ended, by how", "outcome").metadata,
    )
    done_seconds: int = counter("Seconds that the executions which are done took, together")
    steps_failed: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(KINDS, 0),
        metadata=counts("Steps that failed, by what they do", "kind").metadata,
    )
    captures: int = counter("Images that were captured and published")
    captured_bytes: int = counter("Bytes of the images that were captured and published")


@dataclass(slots=True)
class DeploymentLevels:
    """Deployments under way as they are; every state and kind is there, also with 0."""

    executions: dict[str, float] = levels(
        "Executions that have not ended, by state; silent ones are in no other", "state"
    )
    steps: dict[str, float] = levels("Executions that have not ended, by what their step does", "kind")
    rate_bytes_per_second: float = gauge("What all machines say that they receive or write, together")
    oldest_seconds: float = gauge("Age of the oldest execution that has not ended")
    captures_open: int = gauge("Captured images on their way in")
    capture_bytes_kept: int = gauge("Bytes that are here of captured images on their way in")
    write_failures: int = counter("Times that the disk did not take what machines said; they say it again")


def counting(tell: Tell, stats: DeploymentStats) -> Tell:
    """The same, with each event counted."""

    def tell_and_count(event: str, fields: Mapping[str, Value]) -> None:
        _count(stats, event, fields)
        tell(event, fields)

    return tell_and_count


def _count(stats: DeploymentStats, event: str, fields: Mapping[str, Value]) -> None:
    outcome = event.removeprefix(_END_PREFIX)
    if event == "deployment.started":
        stats.started += 1
    elif event == "deployment.step_failed":
        bump(stats.steps_failed, _kind(str(fields.get("step_kind", ""))))
    elif event == "deployment.captured":
        stats.captures += 1
        stats.captured_bytes += int(fields["size_bytes"])
    elif outcome in stats.ended:
        bump(stats.ended, outcome)
        if event == "deployment.done":
            stats.done_seconds += int(fields["seconds"])


def read_deployments(
    open_executions: Sequence[Execution], open_captures: Sequence[Capture], now: float, *, write_failures: int = 0
) -> DeploymentLevels:
    """Sums over what is open."""
    states = dict.fromkeys((*sorted(OPEN), "silent"), 0.0)
    kinds = dict.fromkeys(KINDS, 0.0)
    rate = 0
    for execution in open_executions:
        states["silent" if execution.is_silent else execution.state.value] += 1
        if (step := execution.find_step(execution.step)) is not None:
            kinds[_kind(step.kind)] += 1
        rate += sum(int(step.rate_bit_s) for step in execution.steps if step.state is StepState.RUNNING)
    return DeploymentLevels(
        executions=states,
        steps=kinds,
        rate_bytes_per_second=rate / 8,
        oldest_seconds=max((now - each.started_at for each in open_executions), default=0.0),
        captures_open=len(open_captures),
        capture_bytes_kept=sum(each.kept_bytes for each in open_captures),
        write_failures=write_failures,
    )


def add_deployments(registry: MetricsRegistry, stats: DeploymentStats, read: Callable[[], DeploymentLevels]) -> None:
    """dpd_deployment_*."""
    registry.add("deployment", stats)
    registry.add_read("deployment", read)


def _kind(kind: str) -> str:
    return kind if kind in KINDS else OTHER
