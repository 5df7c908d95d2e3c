# SPDX-License-Identifier: Apache-2.0
"""What a receiver counts."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.multicast.message import Tally


@dataclass(slots=True)
class ReceiverCounters:
    """Plain counts for progress, reports and statistics."""

    symbols: int = 0
    duplicates: int = 0
    reordered: int = 0
    lost: int = 0
    socket_drops: int = 0
    repairs: int = 0
    recovered: int = 0
    without_buffer: int = 0
    abandoned: int = 0
    bad_slabs: int = 0
    unicast_slabs: int = 0
    nacks: int = 0
    suppressed: int = 0
    reports: int = 0

    def tally(self, drain_kib_s: int) -> Tally:
        """What the sender is told."""
        return Tally(
            received=self.symbols,
            lost=max(self.lost - self.socket_drops, 0),
            socket_drops=self.socket_drops,
            duplicates=self.duplicates,
            reordered=self.reordered,
            repairs=self.repairs,
            suppressed=self.suppressed,
            bad_slabs=self.bad_slabs,
            unicast_slabs=self.unicast_slabs,
            drain_kib_s=drain_kib_s,
        )
