# SPDX-License-Identifier: Apache-2.0
"""Orders to members: who is told what, how often and until when."""

from __future__ import annotations

import math

import pytest

from dpd.protocol.multicast.message import MAX_CONTROL_MEMBERS, ControlCode, ControlReason
from dpd.protocol.multicast.orders import ORDER_GAP_S, ORDER_S, Orders


@pytest.fixture
def orders() -> Orders:
    return Orders()


def said(orders: Orders, now: float) -> list[tuple[ControlCode, int, tuple[int, ...]]]:
    out = []
    while order := orders.take(now):
        out.append(order)
    return out


def test_without_orders_nothing_is_due(orders: Orders) -> None:
    assert orders.due_at() == math.inf
    assert said(orders, 100.0) == []


def test_an_order_is_said_at_once_and_ten_times_a_second_for_three_seconds(orders: Orders) -> None:
    orders.give(ControlCode.KICK, ControlReason.OPERATOR, [7], 1.0)
    times = []
    while (now := max(orders.due_at(), 1.0)) < math.inf:
        times += [now] * len(said(orders, now))
    assert times[0] == 1.0
    assert len(times) == pytest.approx(ORDER_S / ORDER_GAP_S, abs=1)
    assert times[-1] < 1.0 + ORDER_S


def test_members_with_the_same_order_share_a_message(orders: Orders) -> None:
    orders.give(ControlCode.MOVE, ControlReason.SLOW, [1, 2], 1.0)
    orders.give(ControlCode.MOVE, ControlReason.BLAME, [3], 1.0)
    orders.give(ControlCode.MOVE, ControlReason.SLOW, [4], 1.0)
    assert said(orders, 1.0) == [
        (ControlCode.MOVE, ControlReason.SLOW, (1, 2, 4)),
        (ControlCode.MOVE, ControlReason.BLAME, (3,)),
    ]


def test_a_message_names_no_more_than_it_holds(orders: Orders) -> None:
    everybody = list(range(2 * MAX_CONTROL_MEMBERS + 1))
    orders.give(ControlCode.FALL_BACK, ControlReason.ENDGAME, everybody, 1.0)
    sizes = [len(members) for _, _, members in said(orders, 1.0)]
    assert sizes == [MAX_CONTROL_MEMBERS, MAX_CONTROL_MEMBERS, 1]


def test_who_has_followed_is_not_told_again(orders: Orders) -> None:
    orders.give(ControlCode.KICK, ControlReason.SLOW, [1, 2], 1.0)
    orders.withdraw(1)
    assert said(orders, 1.0) == [(ControlCode.KICK, ControlReason.SLOW, (2,))]
    orders.withdraw(2)
    assert said(orders, 2.0) == []
    assert orders.due_at() == math.inf


def test_the_latest_order_counts(orders: Orders) -> None:
    orders.give(ControlCode.MOVE, ControlReason.SLOW, [1], 1.0)
    orders.give(ControlCode.KICK, ControlReason.OPERATOR, [1], 1.5)
    assert said(orders, 1.5) == [(ControlCode.KICK, ControlReason.OPERATOR, (1,))]


def test_who_is_heard_after_three_seconds_is_told_again(orders: Orders) -> None:
    orders.give(ControlCode.KICK, ControlReason.OPERATOR, [1], 1.0)
    said(orders, 1.0)
    orders.remind(1, 2.0)
    assert orders.due_at() == 1.0 + ORDER_GAP_S, "it is being told"
    assert said(orders, 10.0) == []
    orders.remind(1, 10.0)
    assert len(said(orders, 10.0)) == 1
    orders.remind(2, 10.0)
    assert said(orders, 10.0) == []
