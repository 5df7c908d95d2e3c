# SPDX-License-Identifier: Apache-2.0
"""What goes over the API about deployments under way."""

from __future__ import annotations

import msgspec
import pytest
from tests.deployment.executions import STEPS

from dpd.control.api.messages.execution import ExecutionsParameters, Which, detail_of, reply_of
from dpd.deployment.execution import OPEN, Execution, ExecutionState, plan_steps


def test_each_word_for_a_state_is_one_and_open_and_ended_are_all_of_them() -> None:
    wanted = {which: ExecutionsParameters(state=which).wanted().states for which in Which}
    assert wanted[Which.OPEN] | wanted[Which.ENDED] == frozenset(ExecutionState)
    assert wanted[Which.OPEN] == OPEN
    assert {each for which, states in wanted.items() if len(states) == 1 for each in states} == set(ExecutionState)
    assert ExecutionsParameters().wanted().states == frozenset()


@pytest.mark.parametrize("execution", ["", "xyz", "A" * 16, "a" * 15, "a" * 16 + "\n"])
def test_what_is_no_execution_is_refused(execution: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"before": execution}, ExecutionsParameters)


def test_an_execution_that_has_not_begun_a_step_is_at_none() -> None:
    execution = Execution(
        "e1", "pc-1", "PC-1", "52:54:00:00:00:01", 7, "debian", 3, 1000.0, 8200.0, heard_at=1000.0, steps=plan_steps(STEPS)
    )  # fmt: skip
    reply = reply_of(execution)
    assert (reply.step, reply.step_name, reply.total_bytes, reply.next_step) == ("", "", 0, "")
    assert len(reply.step_states) == len(STEPS)
    assert detail_of(execution).ends_by == 8200.0
