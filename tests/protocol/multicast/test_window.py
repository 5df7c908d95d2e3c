# SPDX-License-Identifier: Apache-2.0
"""The window against networks of a given depth: it finds them, and chance loss does not mislead it."""

from __future__ import annotations

import random

import pytest

from dpd.protocol.multicast.window import FIRST_WINDOW, MIN_WINDOW, SAMPLE, Window


class Network:
    """A path that holds `holds` symbols at once and loses some by chance; the rest of a burst is dropped."""

    def __init__(self, window: Window, holds: int = 1 << 30, chance: float = 0.0) -> None:
        self.holds = holds
        self._window = window
        self._chance = chance
        self._rng = random.Random(1)
        self._arrived = self._lost = 0

    def carry(self, symbols: int) -> float:
        """Send so many, a window at once. Returns the share lost."""
        begin, lost = self._arrived + self._lost, self._lost
        while self._arrived + self._lost < begin + symbols:
            burst = self._window.size
            passed = sum(self._rng.random() >= self._chance for _ in range(min(burst, self.holds)))
            self._arrived, self._lost = self._arrived + passed, self._lost + burst - passed
            self._window.judge(self._arrived, self._lost)
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
    window.judge(0, 60_000)
    assert window.size == FIRST_WINDOW // 2
    window.judge(200_000, 60_000)
    grown = window.size
    for total in range(200_000, 2_000_000, SAMPLE):
        window.judge(total, 60_000)
    assert grown < window.size == 13_000


def test_late_datagrams_that_were_counted_as_lost_do_no_harm() -> None:
    """The count of lost ones goes down again when they come."""
    window = Window(13_000)
    window.judge(SAMPLE, 30)
    window.judge(3 * SAMPLE, -5)
    assert window.size == 4 * FIRST_WINDOW
