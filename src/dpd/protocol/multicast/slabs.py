# SPDX-License-Identifier: Apache-2.0
"""The slabs of one receiver: which are verified, which are being assembled or verified, and the buffers for them."""

from __future__ import annotations

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS, SLAB_BYTES, SYMBOL_BYTES, Geometry

START_ROWS = 16  # a slab first seen beyond this row is left for its next turn
MAX_DAMAGES = 5  # a slab that is damaged so often is given up: it comes again, whole, or by unicast


class Slabs:
    """At most `slots` buffers, made when they are needed and used again. `assemblies` by slab; `verified` is a slab set."""

    def __init__(self, geometry: Geometry, verified: int, slots: int, counters: ReceiverCounters) -> None:
        self.assemblies: dict[int, SlabAssembly] = {}
        self.verifying: set[int] = set()
        self.verified = verified
        self.free: list[memoryview] = []
        self.buffers = 0
        self._geometry = geometry
        self._slots = slots
        self._counters = counters

    @property
    def free_slots(self) -> int:
        return self._slots - len(self.assemblies) - len(self.verifying)

    @property
    def held(self) -> tuple[int, ...]:
        """Slabs being verified or assembled."""
        return (*self.verifying, *self.assemblies)

    def is_verified(self, slab: int) -> bool:
        return bool(self.verified >> slab & 1)

    def candidates(self) -> int:
        """Slab set: neither verified nor held."""
        return self._geometry.every_slab & ~self.verified & ~sum(1 << slab for slab in self.held)

    def begin(self, slab: int, row: int, current: int) -> SlabAssembly | None:
        """Start assembling a slab that is not in assembly, unless it is verified, was joined in the middle, or no buffer
        is free. `current`: the slab being sent."""
        if slab >= self._geometry.slab_count or self.is_verified(slab) or slab in self.verifying:
            self._counters.duplicates += 1
            return None
        if row > START_ROWS:
            return None
        if not self.has_buffer() and not self._give_up_least(current):
            self._counters.without_buffer += 1
            return None
        assembly = self.assemblies[slab] = SlabAssembly(slab, self._geometry.rows(slab), self.free.pop())
        return assembly

    def has_buffer(self) -> bool:
        """Whether a slab buffer is free; makes one while there are fewer than `slots`."""
        if not self.free and self.buffers < self._slots:
            self.buffers += 1
            self.free.append(memoryview(bytearray(min(SLAB_BYTES, self._geometry.rows(0) * COLUMNS * SYMBOL_BYTES))))
        return bool(self.free)

    def _give_up_least(self, current: int) -> bool:
        """Give up a slab of which hardly anything came, perhaps only a forged symbol. True: its buffer is free."""
        others = (assembly for slab, assembly in self.assemblies.items() if slab != current)
        least = min(others, key=lambda assembly: assembly.arrived, default=None)
        if least is None or least.arrived > COLUMNS:
            return False
        self.give_up(least.slab)
        return True

    def give_up(self, slab: int) -> None:
        """Leave a slab in assembly for its next turn in the carousel."""
        self.free.append(self.assemblies.pop(slab).storage)
        self._counters.abandoned += 1

    def complete(self, assembly: SlabAssembly) -> None:
        """It goes to be verified."""
        self.verifying.add(self.assemblies.pop(assembly.slab).slab)

    def release(self, assembly: SlabAssembly) -> None:
        """It was verified, with whatever result: its buffer is free."""
        self.verifying.discard(assembly.slab)
        self.free.append(assembly.storage)

    def take_back(self, assembly: SlabAssembly) -> bool:
        """Its hash was wrong: go on with what is good of it. False: that was tried often enough, or it is not needed."""
        assembly.damages += 1
        if assembly.damages >= MAX_DAMAGES or self.is_verified(assembly.slab):
            return False
        self.verifying.discard(assembly.slab)
        self.assemblies[assembly.slab] = assembly
        return True

    def add_verified(self, slab: int) -> bool:
        """The slab is stored. What was assembled of it, where it came otherwise, goes. False: it was there before."""
        if assembly := self.assemblies.pop(slab, None):
            self.free.append(assembly.storage)
        if self.is_verified(slab):
            return False
        self.verified |= 1 << slab
        return True
