# SPDX-License-Identifier: Apache-2.0
"""The vector simulator against what is known otherwise: the formula, the published table, the real machines.

The table was computed by the formula and checked by Monte Carlo when the protocol was designed; it stands here in
numbers, so that a mistake in the formula shows, too.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim import peers
from tests.sim.channel import Bursts, Independent, Trains, Upstream
from tests.sim.floor import code_floor, retransmission
from tests.sim.vector import Fixed, reports_per_s, simulate, truncated_exponential

from dpd.protocol.multicast.geometry import COLUMNS, ROWS

SLAB = ROWS * COLUMNS

# loss, receivers: originals, RS k=64, RS k=128
TABLE = {
    (0.0001, 1): (1.0001, 1.0001, 1.0001),
    (0.0001, 10): (1.0010, 1.0010, 1.0009),
    (0.0001, 100): (1.0100, 1.0074, 1.0057),
    (0.0001, 1000): (1.0952, 1.0159, 1.0084),
    (0.001, 1): (1.0010, 1.0010, 1.0010),
    (0.001, 10): (1.0100, 1.0077, 1.0062),
    (0.001, 100): (1.0953, 1.0185, 1.0122),
    (0.001, 1000): (1.6333, 1.0298, 1.0179),
    (0.01, 1): (1.0101, 1.0101, 1.0101),
    (0.01, 10): (1.0966, 1.0325, 1.0255),
    (0.01, 100): (1.6440, 1.0529, 1.0384),
    (0.01, 1000): (2.0961, 1.0707, 1.0495),
    (0.05, 1): (1.0526, 1.0526, 1.0526),
    (0.05, 10): (1.4273, 1.1020, 1.0868),
    (0.05, 100): (2.2286, 1.1403, 1.1120),
    (0.05, 1000): (3.0422, 1.1726, 1.1327),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def channel(loss: float, receivers: int) -> Independent:
    return Independent(receivers, loss, rng())


@pytest.mark.parametrize(("loss", "receivers"), TABLE)
def test_the_formulas_give_the_table(loss: float, receivers: int) -> None:
    found = (retransmission(receivers, loss), code_floor(receivers, loss, 64), code_floor(receivers, loss))
    assert found == pytest.approx(TABLE[loss, receivers], abs=0.00011)


@pytest.mark.parametrize(("loss", "receivers"), TABLE)
def test_what_is_sent_on_demand_is_within_one_percent_of_the_table(loss: float, receivers: int) -> None:
    slabs = 12 if receivers >= 100 else 40
    assert simulate(channel(loss, receivers), slabs, rng()).sent_ratio == pytest.approx(
        TABLE[loss, receivers][2], rel=0.01
    )


# The whole scheme at N = 1000 with the best promise for each loss: sent / size, NACKs per second, rounds.
@pytest.mark.parametrize(
    ("loss", "promised", "sent", "nacks", "rounds"),
    [(0.0001, 1, 1.0085, 59, 0.9), (0.001, 2, 1.0179, 195, 1.0), (0.01, 6, 1.0503, 254, 1.25), (0.05, 16, 1.1338, 513, 1.9)],
)  # fmt: skip
def test_the_whole_scheme_with_a_promise_is_what_it_was_designed_for(
    loss: float, promised: int, sent: float, nacks: float, rounds: float
) -> None:
    outcome = simulate(channel(loss, 1000), 40, rng(), Fixed(promised))
    assert outcome.sent_ratio == pytest.approx(sent, rel=0.002)
    assert outcome.feedback_s - outcome.reports_s == pytest.approx(nacks, rel=0.3)
    assert outcome.rounds / outcome.units == pytest.approx(rounds, rel=0.25)


@pytest.mark.parametrize(("loss", "burst", "sent"), [(0.001, 8, 1.019), (0.01, 8, 1.051), (0.01, 32, 1.090)])
def test_a_burst_costs_each_column_a_thirty_second_of_it(loss: float, burst: int, sent: float) -> None:
    outcome = simulate(Bursts(1000, loss, burst, rng()), 25, rng())
    assert outcome.sent_ratio == pytest.approx(sent, rel=0.01)


def test_a_lost_train_costs_each_column_one_symbol() -> None:
    assert simulate(Trains(1000, 0.01, rng()), 20, rng()).sent_ratio == pytest.approx(1.0495, rel=0.01)


def test_loss_that_all_share_costs_what_one_receiver_costs() -> None:
    assert simulate(Upstream(1000, 0.05, rng()), 20, rng()).sent_ratio == pytest.approx(1 / 0.95, rel=0.01)


@pytest.mark.parametrize(("worst", "sent", "by_originals"), [(0.05, 1.053, 1.143), (0.2, 1.250, 1.326)])
def test_parity_follows_the_worst_receiver_and_originals_the_sum(
    worst: float, sent: float, by_originals: float
) -> None:
    shares = [0.0001] * 999 + [worst]
    assert simulate(Independent(1000, shares, rng()), 40, rng()).sent_ratio == pytest.approx(sent, rel=0.01)
    assert peers.originals(Independent(1000, shares, rng()), 10 * SLAB).sent_ratio == pytest.approx(
        by_originals, rel=0.01
    )


def test_lost_feedback_makes_it_later_and_not_dearer() -> None:
    whole = simulate(channel(0.01, 100), 20, rng())
    lossy = simulate(channel(0.01, 100), 20, rng(), lost_feedback=0.5)
    assert lossy.sent_ratio == pytest.approx(whole.sent_ratio, rel=0.002)
    assert lossy.rounds > 1.2 * whole.rounds


@pytest.mark.parametrize("loss", [0.0001, 0.001, 0.01, 0.05])
@pytest.mark.parametrize("scheme", [peers.originals, peers.udpcast, peers.uftp, peers.wds])
def test_a_scheme_of_originals_sends_what_the_formula_says(scheme: peers.Scheme, loss: float) -> None:
    assert scheme(channel(loss, 100), 10 * SLAB).sent_ratio == pytest.approx(TABLE[loss, 100][0], rel=0.01)


def test_norm_sends_what_the_formula_says_for_its_block() -> None:
    assert peers.norm(channel(0.01, 100), 10 * SLAB).sent_ratio == pytest.approx(TABLE[0.01, 100][1], rel=0.01)


# At 1 Gbit/s and N = 1000, from the programs' sources and specifications.
@pytest.mark.parametrize(
    ("scheme", "loss", "packets_s"),
    [
        (peers.originals, 0.0001, 8.1e3),
        (peers.udpcast, 0.0001, 79e3),
        (peers.uftp, 0.001, 8.6e3 / 1.6),  # of the time, 1 / 1.63 goes to new sections; so it does below
        (peers.originals, 0.001, 76e3 / 1.6),
        (peers.wds, 0.0001, 83e3 + 7.6e3),
        (peers.norm, 0.01, 2.8e3),
    ],
)
def test_the_feedback_of_a_scheme_is_what_its_rules_make_it(
    scheme: peers.Scheme, loss: float, packets_s: float
) -> None:
    assert scheme(channel(loss, 1000), 4 * SLAB).feedback_s == pytest.approx(packets_s, rel=0.2)


def test_reports_are_few_however_large_the_group() -> None:
    """At N = 1000: 8 representatives 20 times a second, the others every 4 seconds."""
    assert reports_per_s(1000) == pytest.approx(8 * 20 + 992 / 4, rel=0.01)
    assert max(reports_per_s(members) for members in range(1, 2000, 7)) < 1000


def test_back_off_lets_few_speak_early() -> None:
    times = truncated_exponential(0.05, 1000, np.random.default_rng(1).random(100_000))
    assert times.min() >= 0
    assert times.max() <= 0.05
    assert (times < 0.025).mean() < 0.03, "e^-4 of them in the first half"


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.floats(0.0002, 0.12))
def test_sent_to_size_is_within_a_tenth_of_the_formula_whatever_the_group_and_the_loss(
    receivers: int, loss: float
) -> None:
    outcome = simulate(channel(loss, receivers), 10, rng())
    expected = code_floor(receivers, loss)
    assert outcome.sent_ratio - 1 == pytest.approx(expected - 1, rel=0.1, abs=0.0005)
