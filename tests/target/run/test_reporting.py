# SPDX-License-Identifier: Apache-2.0
"""Reports reach the site in order, each once, however long it is away; and its word to stop reaches the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.target.stage import PATIENCE_S, PlayedDesk, state_of

from dpd.errors import ContentNotFound, SessionError
from dpd.sequence.exchange import Report, StepState, encode
from dpd.target.distribution_point.connection import Refused, Unreachable
from dpd.target.run import reporting
from dpd.target.run.reporting import Reporter
from dpd.target.work.state import State


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PROGRESS_S", 0.05), ("SIGN_OF_LIFE_S", 0.1), ("FIRST_RETRY_S", 0.05), ("MAX_RETRY_S", 0.1)):
        monkeypatch.setattr(reporting, name, value)


@contextmanager
def reporter(
    desk: PlayedDesk,
    state: State,
    mask: Callable[[str], str] = lambda text: text,
    keep: Callable[[], None] = lambda: None,
) -> Iterator[Reporter]:
    made = Reporter(desk.report, state, keep, mask)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def wait_for(met: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_reports_are_numbered_from_one_and_arrive_in_order() -> None:
    desk, state = PlayedDesk(), state_of()
    with reporter(desk, state) as made:
        made.tell("1", StepState.STARTED)
        made.tell("1", StepState.DONE, "well")
        made.tell("", StepState.SEQUENCE_DONE)
        assert made.flush(PATIENCE_S)
    assert [(each.number, each.step, each.state, each.message) for each in desk.reports] == [
        (1, "1", "started", ""),
        (2, "1", "done", "well"),
        (3, "", "sequence_done", ""),
    ]
    assert state.reports == []


def test_while_the_site_is_away_they_are_kept_and_told_when_it_is_back() -> None:
    desk, state = PlayedDesk(failing=Unreachable("gone")), state_of()
    with reporter(desk, state) as made:
        for number in range(300):
            made.tell(str(number + 1), StepState.DONE)
        wait_for(lambda: desk.asked > 2)
        assert len(state.reports) == 300
        assert not made.flush(0.0)
        desk.failing = None
        assert made.flush(PATIENCE_S)
    assert [each.number for each in desk.reports] == list(range(1, 301))


def test_what_was_not_told_before_a_restart_is_told_after_it() -> None:
    state = state_of()
    with reporter(PlayedDesk(failing=Unreachable("gone")), state) as made:
        made.tell("1", StepState.RESTARTING)
    desk = PlayedDesk()
    with reporter(desk, state) as made:
        made.tell("1", StepState.DONE)
        assert made.flush(PATIENCE_S)
    assert desk.states() == [("1", "restarting"), ("1", "done")]


def test_each_report_is_kept_before_anything_follows() -> None:
    state, kept = state_of(), list[int]()
    with reporter(PlayedDesk(failing=Unreachable("gone")), state, keep=lambda: kept.append(len(state.reports))) as made:
        made.tell("1", StepState.STARTED)
        made.tell("1", StepState.DONE)
    assert kept == [1, 2]


def test_of_progress_the_latest_is_told() -> None:
    desk = PlayedDesk()
    with reporter(desk, state_of()) as made:
        for done in range(1000):
            made.progress("2", done, 999, 5, "by multicast")
        wait_for(lambda: desk.progress and desk.progress[-1].done_bytes == 999)
    assert len(desk.progress) < 1000
    assert desk.progress[-1].message == "by multicast"


def test_a_run_that_is_cancelled_hears_of_it_without_telling_anything() -> None:
    desk = PlayedDesk(cancel="by order")
    with reporter(desk, state_of()) as made:
        wait_for(lambda: made.cancelled)
        assert made.cancelled == "by order"
    assert desk.reports == []


@pytest.mark.parametrize("error", [Refused("no", 403, "x"), ContentNotFound("no"), SessionError("no")])
def test_a_site_that_takes_none_any_more_is_left_alone(error: Exception) -> None:
    desk, state = PlayedDesk(failing=error), state_of()  # type: ignore[arg-type]
    with reporter(desk, state) as made:
        made.tell("1", StepState.DONE)
        assert not made.flush(PATIENCE_S)
        assert made.refused == "no"
    assert desk.asked == 1


def test_secrets_are_in_no_message() -> None:
    desk = PlayedDesk()
    with reporter(desk, state_of(), mask=lambda text: text.replace("hunter2", "••••")) as made:
        made.tell("1", StepState.FAILED, "login with hunter2 failed")
        made.progress("1", 1, 2, 3, "hunter2")
        assert made.flush(PATIENCE_S)
        wait_for(lambda: desk.progress)
    assert desk.reports[0].message == "login with •••• failed"
    assert desk.progress[0].message == "••••"


def test_long_messages_keep_both_ends_and_many_of_them_fit_a_body() -> None:
    state, bodies = state_of(), list[int]()
    desk = PlayedDesk()

    def post(execution: str, reports: tuple[Report, ...]):  # type: ignore[no-untyped-def]
        bodies.append(sum(len(encode(each)) + 1 for each in reports))
        return desk.report(execution, reports)

    made = Reporter(post, state, lambda: None, lambda text: text)
    for _ in range(200):
        made.tell("1", StepState.FAILED, "begin" + "ü" * 5000 + "end")
    made.start()
    assert made.flush(PATIENCE_S)
    made.stop()
    assert len(desk.reports) == 200
    assert max(bodies) < 64 << 10
    assert desk.reports[0].message.startswith("begin")
    assert desk.reports[0].message.endswith("end")
    assert len(desk.reports[0].message) <= 1000


def test_to_stop_twice_is_no_error() -> None:
    made = Reporter(PlayedDesk().report, state_of(), lambda: None, lambda text: text)
    made.start()
    made.stop()
    made.stop()
