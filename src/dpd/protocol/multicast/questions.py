# SPDX-License-Identifier: Apache-2.0
"""What a receiver asks for and when: the gaps of its slabs, the size of its group, and what others have asked for."""

from __future__ import annotations

import random

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.gaps import Gaps, random_backoff
from dpd.protocol.multicast.message import MAX_NACK_SLABS, Ncf, SlabDeficits
from dpd.protocol.multicast.slabs import Slabs

REORDER_GRACE_S = 0.002
DEFAULT_GROUP = 10  # members, before a BEAT has told
DEFAULT_NACK_S = 0.002
MAX_NACK_S = 0.05


class Questions:
    """`group_size` and `nack_s`, the width of the back-off, come with each BEAT."""

    def __init__(self, slabs: Slabs, counters: ReceiverCounters, rng: random.Random) -> None:
        self.group_size = DEFAULT_GROUP
        self.nack_s = DEFAULT_NACK_S
        self._slabs = slabs
        self._counters = counters
        self._rng = rng
        self._gaps = Gaps()

    def note_group(self, members: int, nack_ms: int) -> None:
        """As a BEAT says."""
        self.group_size, self.nack_s = max(members, 1), min(nack_ms / 1000, MAX_NACK_S)

    def ask(self, assembly: SlabAssembly, now: float, promised_rows: int = 0) -> None:
        """The stream, or a burst of repairs, has left a slab with gaps: see to it that what it lacks is asked for, unless
        it comes with the parity rows that are promised and still to come."""
        is_promised = promised_rows > 0 and max(assembly.deficits()) <= promised_rows
        self._counters.suppressed += is_promised
        patience_s = self._gaps.patience_s(self.nack_s)
        self._gaps.ask(assembly.slab, now, self._backoff_s(), patience_s, assembly.lacking, is_promised)

    def leave(self, slab: int, now: float, promised_rows: int) -> None:
        """The stream has gone on to another slab. An end that was seen has set the time already."""
        if slab not in self._gaps and (assembly := self._slabs.assemblies.get(slab)):
            self.ask(assembly, now, promised_rows)

    def drop(self, slab: int) -> None:
        """It is complete, or being sent: nothing is to be asked."""
        self._gaps.drop(slab)

    def take_ncf(self, ncf: Ncf, now: float) -> None:
        """Repairs are announced: where they cover all that a slab lacks, it need not ask."""
        for announced in ncf.slabs:
            assembly = self._slabs.assemblies.get(announced.slab)
            if assembly is None or announced.slab not in self._gaps:
                continue
            if all(ours <= theirs for ours, theirs in zip(assembly.deficits(), announced.deficits, strict=True)):
                patience_s = self._gaps.patience_s(self.nack_s)
                self._counters.suppressed += self._gaps.put_off(announced.slab, now, patience_s)

    def take_due(self, current: int, now: float) -> tuple[SlabDeficits, ...]:
        """What to ask for now. `current`: the slab being sent; it is let come. One of which hardly anything came is left
        for its next turn."""
        if self._gaps.next_due() > now:
            return ()
        assemblies = self._slabs.assemblies
        if assembly := assemblies.get(current):
            self._gaps.let_come(current, now, self._backoff_s(), assembly.lacking)
        wanted = []
        for slab in self._gaps.take_due(now, 2 * self.nack_s, MAX_NACK_SLABS):
            if (assembly := assemblies.get(slab)) and assembly.has_little and slab != current:
                self._slabs.give_up(slab)
            if slab in assemblies:
                wanted.append(SlabDeficits(slab, assemblies[slab].deficits()))
                self._gaps.note_asked(slab, now, assemblies[slab].lacking)
            else:  # given up, here or for the sake of its buffer
                self._gaps.drop(slab)
        return tuple(wanted)

    def next_due(self) -> float:
        return self._gaps.next_due()

    def _backoff_s(self) -> float:
        return REORDER_GRACE_S + random_backoff(self._rng, self.nack_s, self.group_size)
