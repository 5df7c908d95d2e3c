# SPDX-License-Identifier: Apache-2.0
"""The channels of the vector simulator lose what they say, in runs as long as they say, like the exact simulator's."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.sim.channel import Bursts, Channel, Independent, Losses, Trains, Upstream
from tests.sim.link import BurstLoss

N, SYMBOLS = 200, 4096


def lost(channel: Channel, count: int = SYMBOLS, times: int = 20) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Asked for in pieces: bool[receivers, count · times]."""
    return np.concatenate([_as_array(channel.lose(count), count) for _ in range(times)], axis=1)


def _as_array(losses: Losses, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    array = np.zeros((N, count), bool)
    assert not array[losses].any()
    array[losses] = True
    assert array.sum() == len(losses[0]), "each loss is named once"
    return array


def mean_run(array: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> float:
    begins = array[:, 1:] & ~array[:, :-1]
    return float(array.sum() / begins.sum())


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3])
def test_independent_loss_has_its_share_and_no_runs(share: float) -> None:
    array = lost(Independent(N, share, np.random.default_rng(1)))
    assert array.mean() == pytest.approx(share, rel=0.05)
    assert mean_run(array) == pytest.approx(1 / (1 - share), rel=0.02)


def test_each_receiver_may_have_a_share_of_its_own() -> None:
    shares = [0.0] * 100 + [0.01] * 99 + [0.2]
    array = lost(Independent(N, shares, np.random.default_rng(1))).mean(axis=1)
    assert array[:100].max() == 0
    assert array[100:199].mean() == pytest.approx(0.01, rel=0.05)
    assert array[199] == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("burst", [8, 32])
def test_bursts_are_as_long_and_as_frequent_as_those_of_the_exact_simulator(burst: int) -> None:
    array = lost(Bursts(N, 0.01, burst, np.random.default_rng(1)), times=40)
    assert array.mean() == pytest.approx(0.01, rel=0.05)
    assert mean_run(array) == pytest.approx(burst, rel=0.05)
    element, rng = BurstLoss(0.01, burst), random.Random(1)
    kept = {time for time, _ in element.carry([(float(i), b"") for i in range(2_000_000)], rng)}
    exact = np.array([[i not in kept for i in range(2_000_000)]])
    assert mean_run(exact) == pytest.approx(mean_run(array), rel=0.12)


def test_a_burst_goes_on_where_the_question_ended_and_passes_while_nobody_asks() -> None:
    whole = lost(Bursts(N, 0.05, 64, np.random.default_rng(1)), count=8, times=2000)
    assert mean_run(whole) == pytest.approx(64, rel=0.1), "also when asked for 8 symbols at a time"
    channel = Bursts(N, 0.05, 64, np.random.default_rng(1))
    before = _as_array(channel.lose(1), 1)[:, 0]
    channel.skip(10_000)
    after = _as_array(channel.lose(1), 1)[:, 0]
    assert (before & after).sum() < before.sum() / 2 + 2


def test_a_train_is_lost_whole() -> None:
    array = lost(Trains(N, 0.02, np.random.default_rng(1)))
    assert array.mean() == pytest.approx(0.02, rel=0.1)
    rows = array.reshape(N, -1, 32).sum(axis=2)
    assert set(np.unique(rows)) == {0, 32}
    assert len(Trains(N, 0.5, np.random.default_rng(1)).lose(40)[0]) > 0, "a train may be cut short"


def test_loss_before_the_network_branches_is_the_same_for_all() -> None:
    array = lost(Upstream(N, 0.05, np.random.default_rng(1)))
    assert (array == array[0]).all()
    assert array.mean() == pytest.approx(0.05, rel=0.2)
