# SPDX-License-Identifier: Apache-2.0
"""What is told of executions."""

from __future__ import annotations

from dataclasses import replace

from tests.deployment.executions import STEPS, said

from dpd.deployment.execution import Execution, ExecutionState, lose, plan_steps, take_report
from dpd.deployment.execution_events import told_of_change, told_of_report
from dpd.sequence.exchange import Report
from dpd.telemetry.status_messages import CATALOGUE, sentence_of

BEGUN = Execution(
    "e1", "pc-1", "PC-1", "52:54:00:00:00:01", 7, "debian", 3, 1000.0, 8200.0, heard_at=1000.0, steps=plan_steps(STEPS)
)


def sentences(before: Execution, report: Report) -> list[str]:
    told = told_of_report(before, take_report(before, report, 1100.0), report)
    assert all(event in CATALOGUE for event, _ in told)
    return [sentence_of(event, fields) for event, fields in told]


def test_a_step_that_failed_is_told_with_what_where_and_why() -> None:
    (sentence,) = sentences(BEGUN, said(1, "2.2", "failed", "no EFI partition"))
    assert sentence.startswith("52:54:00:00:00:01 (PC-1): step 2.2 (Boot loader) of debian failed: no EFI partition.")


def test_what_failed_is_told_with_what_to_try() -> None:
    (sentence,) = sentences(BEGUN, said(1, "2.2", "failed", "no EFI partition"))
    assert sentence.endswith(" `dpd deploy log e1` shows its log.")


def test_a_sequence_that_failed_is_told_once_with_its_step() -> None:
    failed = take_report(BEGUN, said(1, "2.2", "failed", "no EFI partition"), 1100.0)
    (sentence,) = sentences(failed, said(2, "", "sequence_failed"))
    assert "debian version 3 failed at step 2.2 (Boot loader): no EFI partition" in sentence


def test_a_step_that_went_well_is_not_told() -> None:
    assert sentences(BEGUN, said(1, "1", "started")) == []
    assert sentences(BEGUN, said(1, "1", "done")) == []


def test_an_end_is_told_with_how_long_it_took() -> None:
    assert sentences(BEGUN, said(1, "", "sequence_done", at=1090.0)) == [
        "52:54:00:00:00:01 (PC-1) is deployed: task sequence debian version 3 is done after 90 s."
    ]


def test_a_cancelled_one_is_told_with_why_it_was() -> None:
    (sentence,) = sentences(replace(BEGUN, cancel_reason="wrong room"), said(1, "", "cancelled"))
    assert sentence.endswith("has stopped its task sequence debian: wrong room.")


def test_silence_the_end_of_waiting_and_its_return_are_told() -> None:
    silent = replace(BEGUN, is_silent=True, step="2.1")
    assert [event for event, _ in told_of_change(BEGUN, silent)] == ["deployment.silent"]
    assert told_of_change(silent, silent) == []
    lost = lose(silent, "nothing was heard", 9000.0, is_final=False)
    assert [event for event, _ in told_of_change(silent, lost)] == ["deployment.lost"]
    back = replace(lost, state=ExecutionState.RUNNING)
    assert [event for event, _ in told_of_change(lost, back)] == ["deployment.heard_again"]


def test_a_machine_without_a_name_is_told_by_its_mac() -> None:
    unnamed = replace(BEGUN, computer="")
    assert sentences(unnamed, said(1, "", "sequence_done"))[0].startswith("52:54:00:00:00:01 is deployed")
