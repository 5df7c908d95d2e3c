# SPDX-License-Identifier: Apache-2.0
"""Whole sessions to run in a test, and what to ask of them afterwards."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.sim.clock import seeded
from tests.sim.content import Content
from tests.sim.footprint import entries
from tests.sim.group import Group
from tests.sim.node import Node

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES

SLAB_S = ROWS * COLUMNS * (1436 + 66) * 8 / 1e9  # on a wire of 1 Gbit/s
IMAGE = random.Random(2).randbytes(9 * SLAB_BYTES)
TAIL_BYTES = 4 * ROW_BYTES - 777


def content(slabs: int = 2, tail_bytes: int = TAIL_BYTES) -> Content:
    """So many whole slabs and a short one."""
    return Content(IMAGE[-(slabs * SLAB_BYTES + tail_bytes) :])


def session(
    nodes: list[Node], *, seed: int = 1, slabs: int = 2, tail_bytes: int = TAIL_BYTES, rate_bit_s: float = 1e9
) -> Group:
    """Run one to its end."""
    group = Group(content(slabs, tail_bytes), nodes, seeded(seed), rate_bit_s)
    group.run(limit_s=60.0)
    return group


def finished(group: Group, *nodes: int) -> float:
    """When the last of these had everything."""
    return max(group.nodes[n].finished_at or 0.0 for n in nodes or range(len(group.nodes)))


@dataclass
class Footprints:
    """The most that the machines of a session kept at any time, looked at each `every_s` from now on."""

    group: Group
    every_s: float = 0.02
    sender: int = 0
    receiver: int = 0

    def __post_init__(self) -> None:
        self._look()

    def _look(self) -> None:
        self.sender = max(self.sender, *(entries(stream.sender) for stream in self.group.streams))
        kept = (entries(node.machine) for node in self.group.nodes if node.machine)
        self.receiver = max(self.receiver, max(kept, default=0))
        self.group.clock.at(self.group.clock.now + self.every_s, self._look)
