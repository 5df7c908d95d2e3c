# SPDX-License-Identifier: Apache-2.0
"""Whole sessions in virtual time: the real machines, bytes and code over paths that lose, delay, repeat and damage.

`Group.run` holds every receiver's bytes against the original and its memory against its slots. Ratios are symbols sent
to symbols in the object; the floor beside each bound is what the fullest column of all receivers needs on average.
"""

from __future__ import annotations

import pytest
from tests.sim.attack import Asleep
from tests.sim.clock import seeded
from tests.sim.group import Group
from tests.sim.link import (
    BitFlip,
    BurstLoss,
    Delay,
    Duplicate,
    Element,
    Loss,
    Outage,
    Rate,
    Reorder,
    TrainLoss,
    Upstream,
)
from tests.sim.node import make_nodes
from tests.sim.sessions import SLAB_S, content, finished, session

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS
from dpd.protocol.multicast.pacing import STALL_S

# ---- the price of loss


def test_without_loss_every_symbol_is_sent_once() -> None:
    group = session(make_nodes(4))
    assert group.sent_ratio == 1.0
    assert group.sender.counters.nacks == 0
    assert all(node.machine and node.machine.counters.lost == 0 for node in group.nodes)
    assert finished(group) < 0.1 + 2.1 * SLAB_S


@pytest.mark.parametrize(
    ("path", "receivers", "bound"),
    [
        pytest.param([Loss(0.01)], 4, 1.05, id="1 % (floor 1.02)"),
        pytest.param([Loss(0.05)], 4, 1.13, id="5 % (floor 1.08)"),
        pytest.param([Loss(0.01)], 12, 1.06, id="1 %, 12 receivers (floor 1.03)"),
        pytest.param([BurstLoss(0.01, 8)], 4, 1.06, id="1 % in bursts of 8 (floor 1.02)"),
        pytest.param([BurstLoss(0.01, 32)], 4, 1.08, id="1 % in bursts of 32 (floor 1.03)"),
        pytest.param([TrainLoss(0.02)], 4, 1.09, id="2 % of whole trains (floor 1.04)"),
    ],
)
def test_loss_costs_little_more_than_the_fullest_column(path: list[Element], receivers: int, bound: float) -> None:
    group = session(make_nodes(receivers, *path))
    assert 1.0 < group.sent_ratio <= bound
    assert max(group.rows_sent.values()) == ROWS, "no slab was sent twice"


def test_loss_that_all_share_costs_what_one_receiver_would() -> None:
    group = session(make_nodes(8, Upstream(0.05)))
    assert group.sent_ratio <= 1 / 0.95 + 0.03


def test_parity_follows_the_worst_receiver() -> None:
    nodes = make_nodes(8, Loss(0.0001))
    nodes[0].path = [*nodes[0].path, Loss(0.05)]
    group = session(nodes)
    assert group.sent_ratio <= 1.09, "5 % alone needs 1.053, and its fullest column somewhat more"
    assert finished(group) <= 0.1 + 2.3 * SLAB_S


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_reordered_datagrams_are_not_taken_for_lost(share: float) -> None:
    group = session(make_nodes(3, Reorder(share, 0.0015)))
    assert group.sent_ratio <= 1.001


@pytest.mark.parametrize(("asleep_s", "behind_s"), [(0.03, 0.02), (0.5, 0.2), (5.0, 0.6)])
def test_a_receiver_that_does_not_read_for_a_while_catches_up(asleep_s: float, behind_s: float) -> None:
    """Its socket's buffer holds a third of a slab; what it missed comes again when it reads."""
    nodes = make_nodes(3)
    nodes[0].credit = 1300
    nodes[0].path = [*nodes[0].path, Asleep(0.08, 0.08 + asleep_s, 1300)]
    group = session(nodes, slabs=4)
    assert finished(group, 1, 2) <= 0.05 + 4.1 * SLAB_S + 1.05
    assert finished(group, 0) <= max(0.08 + asleep_s, 0.05 + 4.1 * SLAB_S) + behind_s + 3.1 * SLAB_S


def test_half_of_the_feedback_may_be_lost() -> None:
    """Late, but not dearer: what is missing is asked for again, and never sent whole."""
    group = session(make_nodes(3, Loss(0.02), back=[Loss(0.5)]))
    assert group.sent_ratio <= 1.07
    assert max(group.rows_sent.values()) == ROWS
    assert finished(group) < 2.5


def test_reorder_and_duplicates_cost_nothing_on_the_wire() -> None:
    group = session(make_nodes(3, Reorder(0.02, 0.0015), Duplicate(0.02), back=[Reorder(0.2, 0.01), Duplicate(0.2)]))
    assert group.sent_ratio <= 1.001


def test_all_of_it_at_once() -> None:
    path: list[Element] = [BurstLoss(0.02, 8), Reorder(0.03, 0.004), Duplicate(0.02)]
    group = session(make_nodes(3, *path, back=[Loss(0.5), Reorder(0.2, 0.02), Duplicate(0.2)]))
    assert group.sent_ratio <= 1.25


@pytest.mark.parametrize("rows_bytes", [1, 1408, 2 * ROW_BYTES + 1])
def test_an_object_smaller_than_a_slab_arrives_whatever_is_lost(rows_bytes: int) -> None:
    group = session(make_nodes(3, Loss(0.3), back=[Loss(0.3)]), slabs=0, tail_bytes=rows_bytes)
    assert finished(group) < 5.0


def test_an_object_whose_only_slab_was_sent_before_the_network_opened() -> None:
    """A snooping switch takes its time to open a port; the image is 1 MB and gone by then."""
    group = session(make_nodes(2, Outage(0.0, 1.2)), slabs=0, tail_bytes=20 * ROW_BYTES)
    assert finished(group) < 2.0
    assert group.rows_sent[0] <= 3 * 20


# ---- coming and going


def test_who_joins_at_60_percent_gets_the_rest_and_then_what_it_missed() -> None:
    nodes = make_nodes(3)
    nodes[2].joins_at = 0.05 + 0.6 * 2.1 * SLAB_S
    group = session(nodes)
    assert finished(group, 0, 1) < 0.1 + 2.1 * SLAB_S, "it does not slow the others"
    assert group.sent_ratio <= 2.0
    assert finished(group, 2) < nodes[2].joins_at + 3.3 * SLAB_S


def test_who_joins_at_99_percent_gets_a_pass_of_its_own() -> None:
    nodes = make_nodes(2, Loss(0.01))
    nodes[1].joins_at = 0.05 + 0.99 * 2.03 * SLAB_S
    group = session(nodes)
    assert finished(group, 0) < 0.15 + 2.1 * SLAB_S
    assert group.sent_ratio <= 2.1


def test_a_receiver_that_died_costs_the_others_a_second_at_most() -> None:
    nodes = make_nodes(3, Loss(0.01))
    group = Group(content(), nodes, seeded(1))
    group.clock.at(0.08, lambda: setattr(nodes[0], "is_dead", True))
    for node in nodes:
        node.credit = 1000
    group.run(limit_s=30.0)
    assert finished(group, 1, 2) < 0.1 + 2.2 * SLAB_S + 1.1
    assert max(group.rows_sent.values()) == ROWS


def test_the_sender_falls_silent_when_only_the_dead_are_left() -> None:
    nodes = make_nodes(2)
    group = Group(content(slabs=1), nodes, seeded(1))
    group.clock.at(0.06, lambda: setattr(nodes[0], "is_dead", True))
    group.run(limit_s=30.0)
    group.clock.run(lambda: not group.sender.members[nodes[0].member].is_live, limit_s=30.0)
    assert group.sender.poll_transmit(group.clock.now) is None
    assert group.sent_ratio == 1.0


def test_a_slow_disk_keeps_nobody_else() -> None:
    """0.6 s for each slab beside 49 ms, and one slab buffer: it shows progress all the time."""
    nodes = make_nodes(3)
    nodes[0].disk_s, nodes[0].slots = 0.6, 1
    group = session(nodes, slabs=3)
    alone = 0.1 + 3.1 * SLAB_S
    assert finished(group, 1, 2) < alone * 1.25 + 1.05
    assert finished(group, 0) < 6 * 0.7 + 1.0, "and the slow one goes at its own pace afterwards"


def test_where_every_disk_is_slow_the_session_goes_at_their_pace() -> None:
    """20 MB/s: nothing is thrown away for want of a buffer, so that nothing is sent twice."""
    nodes = make_nodes(3)
    for node in nodes:
        node.disk_s, node.slots = 0.29, 1
    group = session(nodes, slabs=3)
    assert group.sent_ratio == 1.0
    assert finished(group) < 0.1 + 4 * (0.29 + SLAB_S)


def test_an_outage_of_two_seconds_is_made_good() -> None:
    nodes = make_nodes(3)
    nodes[0].path = [*nodes[0].path, Outage(0.09, 2.09)]
    nodes[0].back = [*nodes[0].back, Outage(0.09, 2.09)]
    group = session(nodes)
    assert finished(group, 1, 2) < 0.15 + 2.1 * SLAB_S + STALL_S
    assert nodes[0].lost_sessions == 0
    assert finished(group, 0) < 2.09 + 3.5 * SLAB_S


def test_an_outage_too_long_to_wait_for_ends_in_a_new_join_that_keeps_what_is_verified() -> None:
    nodes = make_nodes(1)
    nodes[0].path = [*nodes[0].path, Outage(0.05 + 1.2 * SLAB_S, 5.0)]
    group = session(nodes)
    assert nodes[0].lost_sessions >= 1
    assert group.rows_sent[0] == ROWS, "slab 0 was verified before the outage"
    assert finished(group) < 7.0


# ---- damage


def test_flipped_bits_never_reach_the_object() -> None:
    group = session(make_nodes(2, BitFlip(0.0005), back=[BitFlip(0.05)]), seed=4)
    bad = sum(node.machine.counters.bad_slabs for node in group.nodes if node.machine)
    assert bad >= 1, "or the test shows nothing"


def test_a_slab_with_a_wrong_hash_comes_again_from_the_carousel() -> None:
    nodes = make_nodes(2)
    group = Group(content(), nodes, seeded(1))
    good, spoilt = group.content.hashes[1], []

    def heal() -> None:
        group.content.hashes[1] = good

    group.content.hashes[1] = b"not the hash of it"
    group.clock.at(0.1 + 2.1 * SLAB_S, heal)
    group.run(limit_s=30.0)
    spoilt = [node.machine.counters.bad_slabs for node in nodes if node.machine]
    assert min(spoilt) >= 1
    assert group.rows_sent[1] >= 2 * ROWS
    assert group.rows_sent[0] == ROWS


# ---- going on


def test_a_restarted_receiver_is_sent_nothing_that_it_has() -> None:
    nodes = make_nodes(1, Loss(0.02))
    nodes[0].verified = 0b101
    group = session(nodes, slabs=3)
    assert set(group.rows_sent) == {1, 3}
    assert set(nodes[0].stored) == {1, 3}


def test_beside_a_fresh_one_the_restarted_receiver_takes_no_buffer_for_what_it_has() -> None:
    nodes = make_nodes(2)
    nodes[0].verified = 0b001
    group = session(nodes)
    assert set(nodes[0].stored) == {1, 2}
    assert nodes[0].machine is not None
    assert nodes[0].machine.counters.nacks == 0
    assert group.sent_ratio == 1.0


def test_the_wrap_of_tx_seq_in_the_middle_of_a_lossy_session() -> None:
    nodes = make_nodes(2, Loss(0.03), Reorder(0.01, 0.001))
    group = Group(content(), nodes, seeded(1))
    group.sender._trains.seq = 2**32 - 100 * COLUMNS  # 6 TB into the session
    group.run(limit_s=30.0)
    assert group.sent_ratio <= 1.1


# ---- pace


def test_a_port_slower_than_the_ceiling_does_not_break_the_session() -> None:
    """900 Mbit/s behind a ceiling of 1 Gbit/s, with a queue of 256 KB: a tenth is dropped all the time."""
    group = session(make_nodes(2, Rate(0.9e9, 256 << 10)))
    assert group.sent_ratio <= 1.25
    assert finished(group) < 4 * SLAB_S


@pytest.mark.parametrize("queue_kib", [256, 1024, 4096])
def test_a_fast_sender_before_slow_ports_finds_their_pace(queue_kib: int) -> None:
    """10 Gbit/s and no ceiling, clients at 1 Gbit/s, and what their switch can hold: the usual case. Without windows it was
    sent seven times."""
    nodes = make_nodes(3)
    for node in nodes:
        node.credit, node.path = 13_000, [Rate(1e9, queue_kib << 10), Delay(0.0001)]
    group = session(nodes, slabs=3, rate_bit_s=1e10)
    assert group.sent_ratio <= 1.35
    assert finished(group) < 0.1 + 1.35 * 3.1 * SLAB_S


@pytest.mark.parametrize(
    "path", [[Loss(0.02)], [TrainLoss(0.01)], [BurstLoss(0.01, 32)]], ids=["lone", "trains", "bursts"]
)
def test_chance_loss_does_not_bring_the_rate_down(path: list[Element]) -> None:
    nodes = make_nodes(2, *path)
    for node in nodes:
        node.credit, node.path, node.back = 13_000, [*node.path, Delay(0.003)], [Delay(0.001)]
    group = session(nodes, slabs=3, rate_bit_s=1e10)
    assert min(node.machine._window.size for node in nodes if node.machine) >= 1024
    assert finished(group) < 0.15 + 3.1 * SLAB_S / 2


def test_a_small_socket_buffer_holds_the_sender_back_and_loses_nothing() -> None:
    """160 symbols: what an unprivileged process gets; 10 Gbit/s over 1 ms would need 800."""
    nodes = make_nodes(2)
    for node in nodes:
        node.credit, node.path, node.back = 160, [Delay(0.0005)], [Delay(0.0005)]
    group = session(nodes, slabs=1, rate_bit_s=1e10)
    assert group.sent_ratio == 1.0
    assert group.sender.counters.credit_stalls > 10


def test_sixteen_report_fast_and_the_rest_still_finish() -> None:
    group = session(make_nodes(24, Loss(0.01)), slabs=0, tail_bytes=40 * ROW_BYTES)
    assert group.sent_ratio <= 1.12
    assert finished(group) < 3.0
