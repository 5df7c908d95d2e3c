# SPDX-License-Identifier: Apache-2.0
"""What a report makes of an execution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.deployment.executions import STEPS, said

from dpd.deployment.execution import (
    Execution,
    ExecutionState,
    StepState,
    cancel_told,
    lose,
    plan_steps,
    take_progress,
    take_report,
)
from dpd.sequence.exchange import Report
from dpd.sequence.exchange import StepState as ReportState


def begun() -> Execution:
    return Execution(
        "e1", "pc-1", "PC-1", "52:54:00:00:00:01", 7, "debian", 3, 1000.0, 8200.0, heard_at=1000.0, steps=plan_steps(STEPS)
    )  # fmt: skip


def after(*reports: Report, heard_at: float = 1100.0) -> Execution:
    execution = begun()
    for each in reports:
        take = take_report if each.number else take_progress
        execution = take(execution, each, heard_at)
    return execution


def test_a_step_that_starts_counts_and_ends_tells_when_and_how_much() -> None:
    execution = after(
        said(1, "2.1", "started", "applies image 1", at=1010.0),
        said(0, "2.1", "progress", "half of it", done_bytes=50, total_bytes=100, rate_bit_s=8_000_000),
    )
    step = execution.find_step("2.1")
    assert step is not None
    assert (step.state, step.started_at, step.attempts) == (StepState.RUNNING, 1010.0, 1)
    assert (step.done_bytes, step.total_bytes, step.rate_bit_s, step.message) == (50, 100, 8_000_000, "half of it")
    done = take_report(execution, said(2, "2.1", "done", at=1040.0, done_bytes=100), 1100.0).find_step("2.1")
    assert done is not None
    assert (done.state, done.ended_at, done.done_bytes, done.rate_bit_s) == (StepState.DONE, 1040.0, 100, 0.0)


def test_a_step_that_is_tried_again_counts_its_attempts_and_begins_anew() -> None:
    execution = after(
        said(1, "1", "started"),
        said(0, "1", "progress", done_bytes=9, total_bytes=10),
        said(2, "1", "failed", "no disk"),
        said(3, "1", "started", at=1050.0),
    )
    step = execution.find_step("1")
    assert step is not None
    assert (step.attempts, step.done_bytes, step.ended_at, step.started_at) == (2, 0, 0.0, 1050.0)


@pytest.mark.parametrize(
    ("state", "end"),
    [("sequence_done", ExecutionState.DONE), ("sequence_failed", ExecutionState.FAILED), ("cancelled", ExecutionState.CANCELLED)],
)  # fmt: skip
def test_its_machine_says_how_it_ends(state: str, end: ExecutionState) -> None:
    execution = after(said(1, "1", "started"), said(2, "", state, "that is all", at=1090.0))
    assert (execution.state, execution.ended_at, execution.message) == (end, 1090.0, "that is all")
    assert not execution.is_open


@pytest.mark.parametrize(
    ("report", "words"), [("cancelled", "cancelled: moved"), ("sequence_failed", "moved"), ("", "PC-1 began anew")]
)
def test_a_step_that_was_cut_off_does_not_run_for_ever(report: str, words: str) -> None:
    execution = after(said(1, "1", "started"), said(2, "1", "done"), said(3, "2.1", "started", at=1050.0))
    if report:
        execution = take_report(execution, said(4, "", report, "moved", at=1060.0), 1100.0)
    else:
        execution = lose(execution, "PC-1 began anew", 1060.0, is_final=True)
    steps = {each.id: (each.state, each.ended_at, each.message) for each in execution.steps}
    assert steps["2.1"] == (StepState.FAILED, 1060.0, words)
    assert steps["1"][0] is StepState.DONE


def test_a_failure_keeps_the_step_and_its_words_until_the_end() -> None:
    execution = after(
        said(1, "2.2", "started"), said(2, "2.2", "failed", "grub-install: no EFI partition"), said(3, "", "sequence_failed")
    )  # fmt: skip
    assert (execution.step, execution.error) == ("2.2", "grub-install: no EFI partition")


def test_a_sequence_that_went_on_after_a_failed_step_and_is_done_has_no_error() -> None:
    assert after(said(1, "1", "failed", "no disk"), said(2, "", "sequence_done")).error == ""


def test_a_restart_is_seen_and_over_with_the_next_report() -> None:
    execution = after(said(1, "2.2", "restarting", "into the new system"))
    assert (execution.state, execution.is_open) == (ExecutionState.RESTARTING, True)
    assert take_report(execution, said(2, "2.2", "done"), 1200.0).state is ExecutionState.RUNNING


@pytest.mark.parametrize(("said_at", "kept_at"), [(0.0, 1000.0), (4e9, 1100.0), (1020.0, 1020.0)])
def test_a_machine_with_a_wrong_clock_does_not_date_anything_before_its_start_or_after_now(
    said_at: float, kept_at: float
) -> None:
    step = after(said(1, "1", "started", at=said_at)).find_step("1")
    assert step is not None
    assert step.started_at == kept_at


def test_what_comes_after_the_end_is_counted_and_changes_nothing() -> None:
    ended = after(said(1, "", "sequence_done"))
    later = take_report(ended, said(2, "1", "failed", "what"), 1200.0)
    assert (later.state, later.error, later.reported) == (ExecutionState.DONE, "", 2)
    assert take_progress(ended, said(0, "1", "progress", done_bytes=1), 1200.0) is ended


def test_a_machine_that_was_given_up_and_is_heard_goes_on() -> None:
    lost = lose(after(said(1, "2.1", "started")), "nothing was heard", 9000.0, is_final=False)
    assert (lost.state, cancel_told(lost)) == (ExecutionState.LOST, "")
    back = take_report(lost, said(2, "2.1", "done"), 9100.0)
    assert (back.state, back.error, back.ended_at) == (ExecutionState.RUNNING, "", 0.0)


def test_a_machine_that_has_begun_anew_is_told_to_stop_what_it_ran_before() -> None:
    lost = lose(after(said(1, "2.1", "started")), "PC-1 began anew", 2000.0, is_final=True)
    assert cancel_told(lost) == "PC-1 began anew"
    assert take_report(lost, said(2, "2.1", "done"), 2100.0).state is ExecutionState.LOST
    assert cancel_told(take_report(lost, said(2, "2.1", "done"), 2100.0)) == "PC-1 began anew"


def test_what_a_terminal_would_obey_does_not_get_into_the_book() -> None:
    execution = after(said(1, "1", "failed", "no\x1b[2J disk\r\nat all"))
    assert execution.error == execution.message == "no [2J disk  at all"


def test_progress_of_a_step_that_does_not_run_changes_no_step() -> None:
    execution = after(said(1, "1", "done"), said(0, "1", "progress", "late", done_bytes=5))
    step = execution.find_step("1")
    assert step is not None
    assert (step.state, step.done_bytes, execution.message) == (StepState.DONE, 0, "")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "2.1", "9.9", ""]), st.sampled_from(sorted(ReportState)), st.floats(-1e12, 1e12)
        )
    )
)
def test_whatever_a_target_says_leaves_an_execution_whose_times_are_in_order(
    reports: list[tuple[str, ReportState, float]],
) -> None:
    execution = begun()
    for number, (step_id, state, at) in enumerate(reports, 1):
        execution = take_report(execution, said(number, step_id, state, at=at), 1000.0 + number)
        assert execution.reported == number
        assert len(execution.steps) == len(STEPS)
        assert execution.is_open == (execution.ended_at == 0.0)
        for step in execution.steps:
            assert 0.0 <= step.started_at <= 1000.0 + number
            assert step.state is StepState.WAITING or step.started_at >= 1000.0
