# SPDX-License-Identifier: Apache-2.0
"""The window against networks of a given depth: it finds them, and chance loss does not mislead it."""

from __future__ import annotations

import random

import pytest

from dpd.protocol.multicast.window import FIRST_WINDOW, MIN_FRIENDLY_WINDOW, MIN_WINDOW, SAMPLE, Window

RTT_S = 0.001


class Network:
    """A path that holds `holds` symbols at once and loses some by chance; the rest of a burst is dropped, there or, where
    `is_socket`, in the own socket. A window takes RTT_S."""

    def __init__(self, window: Window, holds: int = 1 << 30, chance: float = 0.0, is_socket: bool = False) -> None:
        self.holds = holds
        self.now = 0.0
        self.sizes: list[int] = []
        self._window = window
        self._chance = chance
        self._is_socket = is_socket
        self._rng = random.Random(1)
        self._arrived = self._lost = self._drops = 0

    def carry(self, symbols: int) -> float:
        """Send so many, a window at once. Returns the share lost."""
        begin, lost = self._arrived + self._lost, self._lost
        while self._arrived + self._lost < begin + symbols:
            burst = self._window.size
            passed = sum(self._rng.random() >= self._chance for _ in range(min(burst, self.holds)))
            self._drops += max(burst - self.holds, 0) if self._is_socket else 0
            self._arrived, self._lost = self._arrived + passed, self._lost + burst - passed
            self.now += RTT_S
            self._window.judge(self._arrived, self._lost, self._drops, self.now)
            self.sizes.append(self._window.size)
        return (self._lost - lost) / symbols


def test_without_loss_it_soon_is_all_that_the_socket_holds() -> None:
    window = Window(13_000)
    assert window.size == FIRST_WINDOW
    Network(window).carry(40_000)
    assert window.size == 13_000


@pytest.mark.parametrize("limit", [1, 32, 64, 100, 1000])
def test_it_never_is_more_than_the_socket_holds(limit: int) -> None:
    window = Window(limit)
    network = Network(window)
    network.carry(20_000)
    assert window.size == limit
    network.holds = limit // 2
    network.carry(20_000)
    assert 0 < window.size <= limit


@pytest.mark.parametrize("holds", [180, 700, 3000])
def test_it_settles_at_what_the_network_holds(holds: int) -> None:
    window = Window(13_000)
    network = Network(window, holds)
    network.carry(100_000)
    assert holds / 2.2 <= window.size <= holds * 1.2
    assert network.carry(200_000) < 0.04


def test_it_never_is_too_small_to_go_on() -> None:
    window = Window(13_000)
    Network(window, holds=10).carry(100_000)
    assert window.size == MIN_WINDOW


@pytest.mark.parametrize("chance", [0.001, 0.01, 0.05])
def test_chance_loss_is_left_to_repair(chance: float) -> None:
    window = Window(13_000)
    Network(window, chance=chance).carry(500_000)
    assert window.size == 13_000


def test_it_recovers_from_an_outage() -> None:
    window = Window(13_000)
    window.judge(0, 60_000, 0, 1.0)
    assert window.size == FIRST_WINDOW // 2
    window.judge(200_000, 60_000, 0, 2.0)
    grown = window.size
    for turn, total in enumerate(range(200_000, 2_000_000, SAMPLE)):
        window.judge(total, 60_000, 0, 2.0 + turn * RTT_S)
    assert grown < window.size == 13_000


def test_late_datagrams_that_were_counted_as_lost_do_no_harm() -> None:
    """The count of lost ones goes down again when they come."""
    window = Window(13_000)
    window.judge(SAMPLE, 30, 0, 0.1)
    window.judge(3 * SAMPLE, -5, 0, 0.2)
    assert window.size == 4 * FIRST_WINDOW


# ---- the own socket


def test_a_socket_that_holds_less_than_thought_is_flow_control_and_no_congestion() -> None:
    """It shrinks to what was drained, at once and no further: half would be too little where three quarters fit."""
    window = Window(13_000)
    network = Network(window, holds=3000, is_socket=True)
    network.carry(60_000)
    at_first_drop = next(i for i, size in enumerate(network.sizes) if i and size < network.sizes[i - 1])
    assert network.sizes[at_first_drop] == pytest.approx(3000, rel=0.05)
    assert network.carry(200_000) < 0.04
    assert min(network.sizes[at_first_drop:]) >= 2700


def test_own_drops_are_not_counted_as_the_networks_loss_too() -> None:
    window = Window(13_000)
    window.judge(3000, 1000, 1000, 0.1)
    assert window.size == FIRST_WINDOW * 3 // 4


# ---- queues


def beats(window: Window, begin: float, seconds: float, delay_s: float, rate: int = 0) -> None:
    """BEATs over a path of this delay, and `rate` symbols/s judged with each."""
    for turn in range(1, round(seconds * 10) + 1):
        now = begin + turn / 10
        window.note_beat(int((now - delay_s) * 1e6), now)
        window.judge(int(now * rate), 0, 0, now)


def test_a_queue_that_stands_makes_the_window_smaller_step_by_step() -> None:
    window = Window(13_000)
    beats(window, 0.0, 11.0, 0.0001, rate=20_000)
    beats(window, 11.0, 0.2, 0.02)
    assert window.size == 13_000
    beats(window, 11.2, 0.2, 0.02)
    assert window.size == int(13_000 * 0.85)
    beats(window, 11.4, 1.0, 0.02)
    assert 13_000 * 0.85**6 - 6 <= window.size <= 13_000 * 0.85**4


def test_a_window_is_never_less_than_what_passes_in_10_ms_for_the_sake_of_a_queue() -> None:
    """1 Gbit/s: 83,000 symbols/s. With less the line would run empty, whatever the queue is made of."""
    window = Window(13_000)
    beats(window, 0.0, 1.0, 0.0001, rate=83_000)
    assert window.size == 13_000
    beats(window, 1.0, 6.0, 0.05, rate=83_000)
    assert window.size == pytest.approx(830, abs=10)


def test_it_does_not_grow_while_a_queue_stands_and_does_afterwards() -> None:
    window = Window(13_000)
    beats(window, 0.0, 0.5, 0.0001, rate=1000)
    beats(window, 0.5, 3.0, 0.05, rate=83_000)
    at_the_end = window.size
    assert at_the_end < FIRST_WINDOW
    beats(window, 3.5, 3.0, 0.0001, rate=83_000)
    assert window.size > at_the_end


def test_the_first_queue_ends_the_doubling_before_anything_is_lost() -> None:
    """100 Mbit/s behind a queue of 1000 symbols, 120 ms deep."""
    window = Window(13_000)
    beats(window, 0.0, 0.3, 0.0001, rate=8000)
    begun = window.size
    beats(window, 0.3, 0.2, 0.05, rate=80_000)
    assert window.size == begun


def test_losses_that_were_none_are_made_good() -> None:
    window = Window(13_000)
    Network(window).carry(40_000)
    window.note_beat(1_000_000, 1.0)
    window.judge(60_000, 30_000, 0, 1.01)
    assert window.size == 6500
    window.restore()
    assert window.size == 13_000


# ---- friendly


def test_where_the_network_is_shared_any_loss_halves_it_and_it_grows_by_one() -> None:
    window = Window(13_000, is_friendly=True)
    window.judge(FIRST_WINDOW - 1, 1, 0, 0.1)
    assert window.size == FIRST_WINDOW // 2
    for turn in range(1, 11):
        window.judge(FIRST_WINDOW - 1 + turn * FIRST_WINDOW, 1, 0, 0.1 + turn)
    assert window.size == FIRST_WINDOW // 2 + 10


def test_the_window_of_a_shared_network_is_that_of_tcp_at_the_same_loss() -> None:
    """The mean window of TCP is about 1.22 / sqrt(p) (RFC 5348's simple form): 122 at 1 in 10,000."""
    window = Window(13_000, is_friendly=True)
    network = Network(window, chance=0.0001)
    network.carry(200_000)
    network.sizes.clear()
    network.carry(1_500_000)
    assert sum(network.sizes) / len(network.sizes) == pytest.approx(122, rel=0.25)


def test_a_friendly_window_still_holds_two_trains() -> None:
    window = Window(13_000, is_friendly=True)
    Network(window, chance=0.3).carry(20_000)
    assert window.size == MIN_FRIENDLY_WINDOW
