# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about an idle thread, and how long a pace rests."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from dpd.distribution.validation.idle import REST_LIMIT_S, STRETCH_BYTES, Pace, become_idle, run_idle

IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
IDLE = 3 << 13


def priorities() -> tuple[int, int]:
    """I/O priority and nice value of the calling thread, as the kernel has them."""
    number = IOPRIO_GET.get(os.uname().machine)
    if number is None:
        pytest.skip(f"no number of ioprio_get for {os.uname().machine}")
    return ctypes.CDLL(None).syscall(number, 1, 0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_the_work_is_idle_on_the_disk_alone_and_the_caller_is_not() -> None:
    """Not on the processor: a thread that hardly gets it would hold the interpreter's lock for long."""
    before = priorities()
    assert run_idle(priorities) == (IDLE, nice())
    assert priorities() == before != (IDLE, nice())


def test_threads_that_the_work_starts_are_idle_too() -> None:
    def inherited() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: seen.append(priorities()))
        thread.start()
        thread.join()
        return seen

    assert run_idle(inherited) == [(IDLE, nice())]


def test_an_exception_comes_out_as_it_was_raised() -> None:
    error = ValueError("as it was")

    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="as it was") as caught:
        run_idle(fail)
    assert caught.value is error


def test_where_the_kernel_refuses_the_work_runs_all_the_same() -> None:
    """As under a system call filter without @resources: here by a limit that a child of its own gets."""
    script = (
        "import errno\n"
        "from dpd.distribution.validation import idle\n"
        "idle._SET = {}\n"
        "print(idle.run_idle(lambda: 'done'), idle.become_idle())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "done ioprio_set: Function not implemented\n"


def test_to_become_idle_twice_is_no_mistake() -> None:
    assert run_idle(lambda: become_idle() + become_idle()) == ""


class Time:
    """A clock that the test moves; sleeping moves it too."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))
        self.now += seconds


def test_a_pace_rests_as_long_as_it_works() -> None:
    time = Time()
    pace = Pace(clock=lambda: time.now, sleep=time.sleep)
    for piece in range(1, 4):
        time.now += 0.01
        pace.rest(piece * STRETCH_BYTES)
    assert time.rests == [0.01, 0.01, 0.01]


def test_a_pace_rests_longer_where_others_use_the_disk_and_never_too_long() -> None:
    time = Time()
    pace = Pace(clock=lambda: time.now, sleep=time.sleep)
    for took_s in (0.01, 0.05, 30.0, 0.01):
        pace.start()
        time.now += took_s
        pace.rest(STRETCH_BYTES)
    assert time.rests == [0.01, 0.2, REST_LIMIT_S, 0.01]


def test_small_files_rest_together_and_no_longer_than_they_took() -> None:
    """A large file has shown what a byte takes; a thousand small ones take a hundred times that, and nobody is in the way."""
    time = Time()
    pace = Pace(clock=lambda: time.now, sleep=time.sleep)
    time.now += 0.01
    pace.rest(STRETCH_BYTES)
    for number in range(1, 1001):
        time.now += 0.001
        pace.rest(STRETCH_BYTES + number * 1000)
    assert sum(time.rests) == pytest.approx(1.0, abs=0.1)
    assert len(time.rests) <= 22
