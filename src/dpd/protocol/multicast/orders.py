# SPDX-License-Identifier: Apache-2.0
"""Orders to single members: move, fall back, go. Said to the group again and again, since nobody acknowledges them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from dpd.protocol.multicast.message import MAX_CONTROL_MEMBERS, ControlCode

ORDER_GAP_S = 0.1
ORDER_S = 3.0  # as long as a receiver listens to a silent sender before it joins anew and is told in the answer


@dataclass(slots=True)
class Order:
    """What one member is told until when."""

    code: ControlCode
    reason: int
    until: float


class Orders:
    """The latest order to each member. One is repeated until it is withdrawn or ORDER_S have passed."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}
        self._out: deque[tuple[ControlCode, int, tuple[int, ...]]] = deque()
        self._due_at = math.inf

    def give(self, code: ControlCode, reason: int, members: Iterable[int], now: float) -> None:
        """Tell these members from now on."""
        for member in members:
            self._orders[member] = Order(code, reason, now + ORDER_S)
            self._due_at = now

    def withdraw(self, member: int) -> None:
        """It has done what it was told, or is gone."""
        self._orders.pop(member, None)

    def remind(self, member: int, now: float) -> None:
        """It was heard, so it has not followed: it is told for ORDER_S again."""
        order = self._orders.get(member)
        if order is not None and order.until <= now:
            self.give(order.code, order.reason, [member], now)

    def take(self, now: float) -> tuple[ControlCode, int, tuple[int, ...]] | None:
        """The next to say: code, reason, members; None: nothing until `due_at`."""
        if now >= self._due_at:
            self._repeat(now)
        return self._out.popleft() if self._out else None

    def due_at(self) -> float:
        """When `take` has something to say; infinity: never."""
        return -math.inf if self._out else self._due_at

    def _repeat(self, now: float) -> None:
        told: dict[tuple[ControlCode, int], list[int]] = {}
        for member, order in self._orders.items():
            if order.until > now:
                told.setdefault((order.code, order.reason), []).append(member)
        for (code, reason), members in told.items():
            for at in range(0, len(members), MAX_CONTROL_MEMBERS):
                self._out.append((code, reason, tuple(members[at : at + MAX_CONTROL_MEMBERS])))
        self._due_at = now + ORDER_GAP_S if told else math.inf
