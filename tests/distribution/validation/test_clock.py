# SPDX-License-Identifier: Apache-2.0
"""Validation is ordered when it is due, over restarts and clocks that are set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from dpd.distribution.validation.clock import ValidationClock
from dpd.distribution.validation.schedule import ValidationSchedule
from dpd.distribution.validation.store import ValidationStore
from dpd.errors import JobError

DAILY = ValidationSchedule(("daily 02:00",), "UTC")


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


class Daemon:
    """What a restart makes anew, and the file that stays. `now` is the wall clock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = at("2026-11-18 12:00")
        self.orders: list[float] = []
        self.start()

    def start(self) -> None:
        self.store = ValidationStore(self._path, clock=lambda: self.now)
        self.clock = ValidationClock(DAILY, self.store, self.order, clock=lambda: self.now)

    def restart(self) -> None:
        self.store.close()
        self.start()

    def order(self) -> None:
        self.orders.append(self.now)

    def look_at(self, text: str) -> bool:
        self.now = at(text)
        return self.clock.look()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "validation.db")
    yield daemon
    daemon.store.close()


def test_the_first_start_has_missed_nothing(daemon: Daemon) -> None:
    assert not daemon.clock.look()
    assert daemon.clock.next_due() == at("2026-11-19 02:00")


def test_each_due_time_is_ordered_once(daemon: Daemon) -> None:
    looks = ["2026-11-19 01:59", "2026-11-19 02:00", "2026-11-19 02:01", "2026-11-20 01:00", "2026-11-20 02:30"]
    assert [daemon.look_at(text) for text in looks] == [False, True, False, False, True]


def test_what_was_missed_while_it_was_down_is_made_up_once(daemon: Daemon) -> None:
    assert daemon.look_at("2026-11-19 02:00")
    daemon.now = at("2026-11-25 09:00")
    daemon.restart()
    assert daemon.clock.look()
    assert not daemon.clock.look()
    daemon.restart()
    assert not daemon.clock.look()
    assert daemon.orders == [at("2026-11-19 02:00"), at("2026-11-25 09:00")]


def test_a_clock_that_is_set_back_orders_nothing_twice(daemon: Daemon) -> None:
    assert daemon.look_at("2026-11-19 02:00")
    assert not daemon.look_at("2026-11-17 23:00")
    assert not daemon.look_at("2026-11-18 02:30")
    assert not daemon.look_at("2026-11-19 02:30")
    assert daemon.look_at("2026-11-20 02:30")


def test_other_times_begin_from_now_on(daemon: Daemon) -> None:
    daemon.now = at("2026-11-18 12:00")
    daemon.clock.apply(ValidationSchedule(("daily 11:00", "daily 13:00"), "UTC"))
    assert not daemon.clock.look()
    assert daemon.look_at("2026-11-18 13:00")
    daemon.clock.apply(ValidationSchedule((), "UTC"))
    assert not daemon.look_at("2026-12-18 13:00")
    assert daemon.clock.next_due() is None


def test_what_is_refused_is_still_due(daemon: Daemon) -> None:
    def refuse() -> None:
        raise JobError("the queue is closed")

    daemon.now = at("2026-11-19 02:00")
    with pytest.raises(JobError):
        ValidationClock(DAILY, daemon.store, refuse, clock=lambda: daemon.now).look()
    assert daemon.clock.look()


def test_the_thread_looks_goes_on_after_a_refusal_and_ends(daemon: Daemon) -> None:
    daemon.now = at("2026-11-19 02:00")
    ordered = threading.Event()

    def order() -> None:
        if not daemon.orders:
            daemon.order()
            raise JobError("the queue is closed")
        ordered.set()

    clock = ValidationClock(DAILY, daemon.store, order, clock=lambda: daemon.now, look_interval_s=0.01)
    clock.start()
    assert ordered.wait(10)
    clock.stop()
    clock.stop()
    assert not any(thread.name == "validation clock" for thread in threading.enumerate())


def test_the_thread_goes_on_after_a_fault(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    daemon.now = at("2026-11-19 02:00")
    ordered = threading.Event()

    def order() -> None:
        if not daemon.orders:
            daemon.order()
            raise OverflowError("a fault inside dpd")
        ordered.set()

    clock = ValidationClock(DAILY, daemon.store, order, clock=lambda: daemon.now, look_interval_s=0.01)
    clock.start()
    assert ordered.wait(30)
    clock.stop()
    assert "fault in the clock of validation" in caplog.text
