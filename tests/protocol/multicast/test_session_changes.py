# SPDX-License-Identifier: Apache-2.0
"""What changes while a session runs: receivers come late; either side is killed and comes back; an
order moves a receiver to a slower class; clocks are wrong."""

from __future__ import annotations

import pytest
from tests.sim.clock import seeded
from tests.sim.group import Group
from tests.sim.link import Loss
from tests.sim.node import Node, make_nodes
from tests.sim.sessions import SLAB_S, content, finished, session

from dpd.protocol.multicast.geometry import ROWS
from dpd.protocol.multicast.message import ControlCode, ControlReason
from dpd.protocol.multicast.receiver import SessionFact

START_S = 0.05  # the session's quiet time

# ---- late


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_who_joins_late_costs_what_it_missed(part: float) -> None:
    """The bound is 1 + the part that was sent before. A slab that had begun must come again as well: here one of six."""
    slabs = 6
    nodes = make_nodes(3)
    nodes[2].joins_at = START_S + part * slabs * SLAB_S
    group = session(nodes, slabs=slabs, tail_bytes=0)
    begun = int(part * slabs) + 1
    assert group.sent_ratio <= (1 + begun / slabs) * 1.02
    assert finished(group, 0, 1) <= START_S + slabs * SLAB_S * 1.03
    assert finished(group, 2) <= nodes[2].joins_at + (slabs + 1) * SLAB_S * 1.05


def test_four_who_join_one_after_the_other_share_the_second_pass() -> None:
    nodes = make_nodes(5, Loss(0.002))
    for i, node in enumerate(nodes):
        node.joins_at = i * 0.8 * SLAB_S
    group = session(nodes, slabs=6, tail_bytes=0)
    assert group.sent_ratio <= 1 + 4 / 6 + 0.04


# ---- killed, and back


def test_a_killed_sender_is_back_and_sends_nothing_that_its_receivers_have() -> None:
    nodes = make_nodes(3, Loss(0.005))
    group = Group(content(slabs=4), nodes, seeded(1))
    group.clock.at(START_S + 2.6 * SLAB_S, group.restart_sender)
    group.run(limit_s=30.0)
    assert all(node.lost_sessions == 1 for node in nodes)
    assert group.rows_sent[0] == group.rows_sent[1] == ROWS, "both were verified before"
    assert group.sent_ratio <= 1.0 + 1.1 / 4 + 0.05
    assert finished(group) <= START_S + 2.6 * SLAB_S + 3.0 + 0.5 + START_S + 0.05 + 2.5 * SLAB_S


def test_a_killed_receiver_goes_on_from_what_is_on_its_disk() -> None:
    nodes = make_nodes(3, Loss(0.005))
    group = Group(content(slabs=4), nodes, seeded(1))
    group.clock.at(START_S + 2.6 * SLAB_S, lambda: group.restart_receiver(nodes[0], 0.03))
    group.run(limit_s=30.0)
    assert group.rows_sent[0] == group.rows_sent[1] == ROWS
    assert group.sent_ratio <= 1 + 3 / 4 + 0.05
    assert finished(group, 1, 2) <= START_S + 4.2 * SLAB_S + 0.06


def test_both_are_killed_more_than_once() -> None:
    nodes = make_nodes(2, Loss(0.01))
    group = Group(content(slabs=4), nodes, seeded(1))
    group.clock.at(0.12, lambda: group.restart_receiver(nodes[0], 0.05))
    group.clock.at(0.2, group.restart_sender)
    group.clock.at(3.9, lambda: group.restart_receiver(nodes[1], 1.0))
    group.clock.at(5.2, group.restart_sender)
    group.run(limit_s=30.0)


# ---- clocks


@pytest.mark.parametrize(("offset_s", "drift"), [(1e6, 0.0), (-50.0, 0.0), (4294.9, 1e-4), (0.0, -1e-3), (0.0, 1e-3)])
def test_a_receivers_clock_may_be_wrong_and_run_fast_or_slow(offset_s: float, drift: float) -> None:
    """One part in a thousand is ten times worse than a bad crystal."""
    nodes = make_nodes(3, Loss(0.01))
    nodes[0].clock_offset_s, nodes[0].clock_drift = offset_s, drift
    group = session(nodes, slabs=4)
    assert group.sent_ratio <= 1.04
    assert finished(group) <= 0.15 + 4.1 * SLAB_S


# ---- orders


def order_at(group: Group, time: float, code: ControlCode, node: Node) -> None:
    group.clock.at(time, lambda: group.sender.order(code, [node.member], ControlReason.SLOW, group.clock.now))


def test_a_receiver_moved_to_a_slower_class_loses_nothing_and_holds_nobody_back() -> None:
    nodes = make_nodes(3, Loss(0.005))
    group = Group(content(slabs=4), nodes, seeded(1), 1e9, slower_bit_s=[2e8])
    order_at(group, START_S + 2.5 * SLAB_S, ControlCode.MOVE, nodes[0])
    group.run(limit_s=30.0)
    assert nodes[0].orders == [SessionFact.MOVED]
    assert nodes[0].speed_class == 1
    assert not {0, 1} & set(group.streams[1].rows_sent), "what it had is not sent again"
    assert finished(group, 1, 2) <= START_S + 4.2 * SLAB_S + 0.06
    assert finished(group, 0) <= START_S + 3 * SLAB_S + 0.2 + 3 * SLAB_S * 5


def test_an_order_is_repeated_until_it_is_heard() -> None:
    nodes = make_nodes(3, Loss(0.6))
    group = Group(content(slabs=1), nodes, seeded(1), 1e9, slower_bit_s=[1e9])
    order_at(group, 0.07, ControlCode.MOVE, nodes[0])
    group.run(limit_s=60.0)
    assert nodes[0].orders == [SessionFact.MOVED]


@pytest.mark.parametrize(
    ("code", "fact"), [(ControlCode.KICK, SessionFact.KICKED), (ControlCode.FALL_BACK, SessionFact.FALL_BACK)]
)
def test_who_is_sent_away_goes_and_the_others_finish(code: ControlCode, fact: SessionFact) -> None:
    nodes = make_nodes(3, Loss(0.01))
    group = Group(content(slabs=3), nodes, seeded(1))
    order_at(group, 0.1, code, nodes[0])
    group.run(limit_s=30.0)
    assert nodes[0].orders == [fact]
    assert nodes[0].finished_at is None
    assert finished(group, 1, 2) <= START_S + 3.2 * SLAB_S + 0.06
    assert list(group.sender.members) in ([n.member for n in nodes[1:]], [nodes[1].member], [nodes[2].member], [])
