# SPDX-License-Identifier: Apache-2.0
"""What to try next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpd.deployment.execution import Execution, ExecutionState, StepName, StepState, lose, plan_steps
from dpd.deployment.next_steps import next_step_of
from dpd.sequence.records import StepKind


def failed(kind: str, error: str) -> Execution:
    steps = plan_steps([StepName("1", "The step", kind)])
    return Execution(
        "e1", "pc-1", "PC-1", "52:54:00:00:00:01", 7, "debian", 3, 0.0, 1.0, ExecutionState.FAILED, step="1", error=error, steps=steps
    )  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in StepKind if kind is not StepKind.SET_VARIABLE])
def test_each_kind_of_step_has_something_to_try_and_where_to_look(kind: StepKind) -> None:
    told = next_step_of(failed(kind, "exit code 7"))
    assert told.endswith("`dpd deploy log e1` shows its log.")
    assert len(told) > len("`dpd deploy log e1` shows its log.")
    assert "{" not in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("write /mnt/root: No space left on device", "Give the volume more room"),
        ("disk sda is too small: 8 GiB, expected 20 GiB", "larger disk"),
        ("LAB00001 version 3 is damaged: slab 7", "`dpd content verify LAB00001`"),
        ("package 'office-x64' is not in the library", "`dpd content distribute office-x64`"),
        ("http://10.0.0.1:8080: connection refused", "`dpd pxe why 52:54:00:00:00:01`"),
        ("http://dp: no byte of the content came for 600 s; is dpd running there?", "`dpd pxe why 52:54:00:00:00:01`"),
        ("took longer than its time_limit_s of 600 s", "Raise the step's time_limit_s"),
        ("the sequence took longer than its 7200 s; where that is too short", "time_limit_s of the sequence itself"),
        ("no disk was found", "controller"),
        ("the image is for arm64, this machine's architecture is x64", "condition"),
        ("LAB00001 version 1: image 1 is for arm64, this machine is x64; deploy one for it", "architecture"),
        ("LAB00001 version 1: image 1 has 40 MiB, volume 'root' has room for 27 MiB", "more room in partition_disk"),
        ("volume 'content': 12 bytes are free, 40 are needed", "more room in partition_disk"),
        ("/dev/vda: has 8 GiB, the partitions need at least 40 GiB: choose smaller ones", "larger disk"),
        (
            "http://dp: LAB00001 is not what its manifest says; it tells where it is damaged",
            "`dpd content verify LAB00001`",
        ),
    ],
)
def test_the_words_of_a_failure_say_more_than_the_kind_of_its_step(error: str, told: str) -> None:
    assert told in next_step_of(failed(StepKind.APPLY_OS_IMAGE, error))


def test_a_step_that_was_allowed_to_fail_is_what_is_told_of_while_another_runs() -> None:
    steps = plan_steps([StepName("1", "One", StepKind.INSTALL_BOOT_LOADER), StepName("2", "Two", StepKind.RESTART)])
    failed_one = replace(steps[0], state=StepState.FAILED, message="exit code 7")
    running = replace(failed("", "exit code 7"), state=ExecutionState.RUNNING, step="2", steps=(failed_one, steps[1]))
    assert "boot partition" in next_step_of(running)


def test_who_says_nothing_is_to_be_looked_at() -> None:
    silent = replace(failed(StepKind.RESTART, ""), state=ExecutionState.RUNNING, is_silent=True)
    assert "screen" in next_step_of(silent)
    assert "screen" in next_step_of(replace(silent, is_silent=False, state=ExecutionState.LOST))


def test_of_one_that_was_interrupted_and_began_anew_the_next_run_is_named() -> None:
    lost = lose(
        replace(failed(StepKind.RESTART, ""), state=ExecutionState.RUNNING), "PC-1 began anew", 2.0, is_final=True
    )
    assert "`dpd deploy history PC-1`" in next_step_of(lost)


def test_where_nothing_is_wrong_there_is_nothing_to_try() -> None:
    assert next_step_of(replace(failed(StepKind.RESTART, ""), state=ExecutionState.DONE)) == ""


def test_a_variable_that_lacks_is_looked_for_where_the_machine_has_its_own_from() -> None:
    lacking = failed(StepKind.RUN_COMMAND_LINE, "%OSDName%: no such variable; set it for the computer")
    assert "`dpd computer variable list PC-1` tells which" in next_step_of(lacking)
    assert "`dpd collection variable list unknown` tells which" in next_step_of(replace(lacking, computer=""))


def test_nothing_is_to_try_where_somebody_wanted_it_so() -> None:
    cancelled = replace(failed(StepKind.RUN_COMMAND_LINE, "wrong machine"), state=ExecutionState.CANCELLED)
    assert next_step_of(cancelled) == ""
