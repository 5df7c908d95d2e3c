# SPDX-License-Identifier: Apache-2.0
"""A receiver of the simulation: the real machine, its disk, its clock, the path to it and the path back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from tests.sim.content import CODEC, Content
from tests.sim.link import Delay, Element

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.receiver import Receiver, SessionFact

FIRST_MEMBER = 0x1000_0000_0001


@dataclass(eq=False)
class Node:
    """Times are of the simulation's clock; the machine is told those of its own, which may be set wrong and run fast."""

    member: int
    path: Sequence[Element]
    back: Sequence[Element]
    joins_at: float = 0.0
    disk_s: float = 0.001  # to recover, hash and write a slab
    leaves_s: float | None = None  # to fetch and use the leaves of a damaged slab; None: it does without
    clock_offset_s: float = 0.0
    clock_drift: float = 0.0
    slots: int = 16
    credit: int = 20_000
    verified: int = 0
    speed_class: int = 0
    machine: Receiver | None = None
    stored: dict[int, bytes] = field(default_factory=dict)
    finished_at: float | None = None
    is_dead: bool = False
    lost_sessions: int = 0
    orders: list[SessionFact] = field(default_factory=list)

    @property
    def is_listening(self) -> bool:
        return self.machine is not None and not self.is_dead and self.finished_at is None

    @property
    def running(self) -> Receiver:
        """The machine of a receiver that has joined."""
        assert self.machine is not None
        return self.machine

    def local(self, time: float) -> float:
        """What its own clock shows then."""
        return time * (1 + self.clock_drift) + self.clock_offset_s

    def due(self, now: float) -> float:
        """When its machine has something to do; later than `now`."""
        return max((self.running.next_timeout() - self.clock_offset_s) / (1 + self.clock_drift), now + 1e-6)

    def store(self, content: Content, assembly: SlabAssembly) -> bool:
        """Recover, compare with the manifest and write: a worker's part. False: the slab is damaged."""
        self.running.counters.recovered += assembly.recover(CODEC)
        slab = assembly.slab
        if not content.is_good(slab, assembly.buffer):
            return False
        self.stored[slab] = content.slabs[slab]  # compared byte for byte, so one copy does for all
        return True


def make_nodes(count: int, *elements: Element, back: Sequence[Element] = (), delay_s: float = 0.0001) -> list[Node]:
    """`count` receivers behind copies of the same path."""
    return [
        Node(FIRST_MEMBER + i, [Delay(delay_s), *deepcopy(list(elements))], [Delay(delay_s), *deepcopy(list(back))])
        for i in range(count)
    ]
