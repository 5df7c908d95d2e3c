# SPDX-License-Identifier: Apache-2.0
"""The two simulators say the same of the same group: the real machines with every byte, and arrays of what is lacking."""

from __future__ import annotations

import numpy as np
import pytest
from tests.sim.channel import Bursts, Channel, Independent
from tests.sim.floor import code_floor
from tests.sim.link import BurstLoss, Element, Loss
from tests.sim.node import make_nodes
from tests.sim.sessions import session
from tests.sim.vector import simulate

from dpd.protocol.multicast.promise import Promise

SLABS = 3


def by_arrays(channel: Channel) -> float:
    """Many times the exact one's slabs, so that one of the two is free of chance; from the start each time, since the
    sender has to learn its promise."""
    rng = np.random.default_rng(3)
    return float(np.mean([simulate(channel, SLABS, rng, Promise()).sent_ratio for _ in range(8)]))


@pytest.mark.parametrize(
    ("receivers", "loss"), [(10, 0.001), (10, 0.01), (10, 0.05), (25, 0.01), (50, 0.001), (50, 0.01)]
)
def test_they_agree_within_one_percent(receivers: int, loss: float) -> None:
    exact = session(make_nodes(receivers, Loss(loss)), slabs=SLABS, tail_bytes=0).sent_ratio
    arrays = by_arrays(Independent(receivers, loss, np.random.default_rng(1)))
    assert exact == pytest.approx(arrays, rel=0.01)
    assert exact == pytest.approx(code_floor(receivers, loss), rel=0.01)


def test_they_agree_within_one_percent_on_bursts() -> None:
    path: list[Element] = [BurstLoss(0.01, 32)]
    exact = session(make_nodes(20, *path), slabs=SLABS, tail_bytes=0).sent_ratio
    assert exact == pytest.approx(by_arrays(Bursts(20, 0.01, 32, np.random.default_rng(1))), rel=0.01)
