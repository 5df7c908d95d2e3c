# SPDX-License-Identifier: Apache-2.0
"""When HTTP begins and when it ends, in virtual time."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.target.receiving.fall_back import DEAF_S, FLOWS_S, SLOW_S, FallBack

JOINED_AT = 1000.0
LOOK_S = 0.2


class Group:
    """What a group brings, looked at five times a second as a session does."""

    def __init__(self, floor_kib_s: int = 256, starts_in_s: float | None = None) -> None:
        self.fall_back = FallBack(floor_kib_s, starts_in_s, JOINED_AT)
        self.now = JOINED_AT
        self.symbols = 0.0
        self.has_heard = False

    def bring(self, kib_s: float, seconds: float) -> float | None:
        """How many seconds into it HTTP begins or ends; None: it does not."""
        was, begin = self.fall_back.is_wanted, self.now
        self.has_heard |= kib_s > 0
        while self.now < begin + seconds - 1e-9:
            self.now += LOOK_S
            self.symbols += kib_s * 1024 / SYMBOL_BYTES * LOOK_S
            if self.fall_back.judge(self.has_heard, int(self.symbols), self.now) != was:
                return self.now - begin
        return None


def test_http_begins_when_nothing_is_heard() -> None:
    group = Group()
    assert group.bring(0, 60) == pytest.approx(DEAF_S, abs=2 * LOOK_S)
    assert group.fall_back.reason == "no multicast arrived for 3 s"


def test_a_beat_is_enough_to_go_on_listening() -> None:
    group = Group(floor_kib_s=0)
    group.has_heard = True
    assert group.bring(0, 600) is None


def test_before_a_scheduled_start_nothing_is_expected() -> None:
    group = Group(starts_in_s=100.0)
    assert group.bring(0, 600) == pytest.approx(100.0, abs=2 * LOOK_S)


def test_a_group_below_its_floor_is_given_time() -> None:
    group = Group(starts_in_s=10.0)
    group.has_heard = True
    assert group.bring(0, 10) is None
    assert group.bring(1000, 20) is None
    assert group.bring(200, 60) == pytest.approx(SLOW_S, abs=3.0)  # the mean of 30 s
    assert group.fall_back.reason == "multicast brought less than 256 KiB/s for 30 s"


def test_a_group_that_pauses_and_goes_on_is_no_slow_one() -> None:
    group = Group()
    for _ in range(10):
        assert group.bring(2000, 10) is None
        assert group.bring(0, 15) is None


def test_without_a_floor_no_group_is_too_slow() -> None:
    assert Group(floor_kib_s=0).bring(1, 600) is None


@pytest.mark.parametrize("floor_kib_s", [0, 256])
def test_http_ends_when_the_group_flows_again(floor_kib_s: int) -> None:
    group = Group(floor_kib_s)
    group.bring(0, 60)
    assert group.bring(30, 60) is None
    assert group.bring(0, 60) is None
    assert group.bring(4000, 60) == pytest.approx(FLOWS_S, abs=5.0)
    assert not group.fall_back.is_wanted


def test_a_burst_is_no_flow() -> None:
    group = Group()
    group.bring(0, 60)
    assert group.bring(1000, 1) is None
    assert group.bring(0, 30) is None
