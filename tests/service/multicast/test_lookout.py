# SPDX-License-Identifier: Apache-2.0
"""The lookout's thread: awake while there is something to see to, and not otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dpd.service.multicast.lookout import Lookout
from dpd.service.multicast.uplink import Uplink


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def session() -> Any:
    return SimpleNamespace(rate_bit_s=0.0, live_streams=(), streams={}, is_busy=True)


def test_it_sleeps_where_there_is_no_session_and_wakes_when_told() -> None:
    looks: list[float] = []
    lookout = Lookout(Uplink(0), list, lambda: looks.append(time.monotonic()))
    lookout.wake()
    until(lambda: len(looks) == 1)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1
    lookout.stop()
    lookout.stop()
    assert not [t for t in threading.enumerate() if t.name == "multicast-lookout"]


def test_rates_are_shared_ten_times_a_second_while_there_is_a_ceiling() -> None:
    shared: list[float] = []

    class Counting(Uplink):
        def share_out(self, sessions: Any, now: float) -> None:
            shared.append(now)

    lookout = Lookout(Counting(1e6), lambda: [session()], lambda: None)
    lookout.wake()
    until(lambda: len(shared) >= 4)
    assert shared[3] - shared[0] < 2.0
    lookout.stop()


def test_a_fault_in_a_look_is_logged_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise ZeroDivisionError

    lookout = Lookout(Uplink(0), lambda: [session()], look)
    with caplog.at_level(logging.ERROR):
        lookout.wake()
        until(lambda: len(looks) == 2)
    assert "multicast sessions could not be looked after" in caplog.text
    lookout.stop()


def test_nothing_starts_behind_its_end() -> None:
    lookout = Lookout(Uplink(0), list, lambda: None)
    lookout.stop()
    lookout.wake()
    assert not [t for t in threading.enumerate() if t.name == "multicast-lookout"]
