# SPDX-License-Identifier: Apache-2.0
"""A queue on the way shows in the BEATs' times, whatever the clocks say and however they drift."""

from __future__ import annotations

import pytest

from dpd.protocol.multicast.delay import BUCKET_S, Extreme, QueueDelay

BEAT_S = 0.1


class Path:
    """A sender whose clock is `offset_s` ahead and runs `skew` faster, and the delay of the network."""

    def __init__(self, offset_s: float = 0.0, skew: float = 0.0) -> None:
        self.delay = QueueDelay()
        self.now = 100.0
        self._offset_s = offset_s
        self._skew = skew

    def beats(self, seconds: float, delay_s: float) -> None:
        for _ in range(round(seconds / BEAT_S)):
            self.now += BEAT_S
            sent_at = (self.now - delay_s) * (1 + self._skew) + self._offset_s
            self.delay.note(int(sent_at * 1e6) & 0xFFFFFFFF, self.now)

    @property
    def is_standing(self) -> bool:
        return self.delay.is_standing(self.now)


@pytest.mark.parametrize("offset_s", [0.0, -50.0, 4194.9, 1e6])
def test_a_queue_that_stands_is_seen_and_its_end_too(offset_s: float) -> None:
    """4194.9 s: the clock wraps within the test."""
    path = Path(offset_s)
    path.beats(1.0, 0.0002)
    assert not path.delay.is_high
    path.beats(0.1, 0.012)
    assert path.delay.is_high
    assert not path.is_standing
    path.beats(0.3, 0.012)
    assert path.is_standing
    path.beats(0.1, 0.001)
    assert not path.delay.is_high
    assert not path.is_standing


def test_a_queue_that_comes_and_goes_does_not_stand() -> None:
    path = Path()
    path.beats(1.0, 0.0002)
    for _ in range(20):
        path.beats(0.2, 0.02)
        assert not path.is_standing
        path.beats(0.1, 0.0002)


def test_a_little_more_delay_is_no_queue() -> None:
    path = Path()
    path.beats(1.0, 0.0002)
    path.beats(2.0, 0.004)
    assert not path.is_standing


@pytest.mark.parametrize("skew", [1e-4, -1e-4])
def test_clocks_that_drift_apart_look_like_no_queue(skew: float) -> None:
    path = Path(skew=skew)
    for _ in range(120):
        path.beats(1.0, 0.0002)
        assert not path.is_standing


def test_the_greatest_value_is_forgotten_after_a_while() -> None:
    extreme = Extreme()
    assert extreme.note(5.0, 0.0) == 5.0
    assert extreme.note(3.0, BUCKET_S) == 5.0
    assert extreme.note(2.0, 2 * BUCKET_S) == 3.0
    assert extreme.note(1.0, 9 * BUCKET_S) == 1.0
