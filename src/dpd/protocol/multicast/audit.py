# SPDX-License-Identifier: Apache-2.0
"""Losses held against what the sender signed: numbers of symbols may be forged, those of BEATs may not.

Between two BEATs so many symbols were sent; those that did not come were lost, and no more than those, whatever gaps the
numbers of symbols seem to show. Symbols that cross a BEAT make it wrong by a few, which is why a few are allowed.
"""

from __future__ import annotations

ALLOWANCE = 128
_MASK = 0xFFFFFFFF


class Audit:
    """Remembers the latest BEAT."""

    def __init__(self) -> None:
        self._latest: tuple[int, int, int] | None = None

    def excess(self, tx_seq: int, received: int, lost: int) -> int:
        """How many of the losses counted since the BEAT before were none. `tx_seq`: as this BEAT says; `received`, `lost`:
        totals, without duplicates."""
        before, self._latest = self._latest, (tx_seq, received, lost)
        if before is None:
            return 0
        sent = (tx_seq - before[0]) & _MASK
        really = max(sent - (received - before[1]), 0)
        counted = lost - before[2]
        if sent > _MASK >> 1 or counted <= really + ALLOWANCE:
            return 0
        self._latest = (tx_seq, received, before[2] + really)
        return counted - really
