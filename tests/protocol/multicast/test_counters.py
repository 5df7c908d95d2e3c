# SPDX-License-Identifier: Apache-2.0
"""What a receiver has counted, as the sender is told."""

from __future__ import annotations

from dpd.protocol.multicast.counters import ReceiverCounters
from dpd.protocol.multicast.message import Tally


def test_every_count_has_its_place_in_the_tally() -> None:
    counters = ReceiverCounters(
        symbols=1, duplicates=2, reordered=3, lost=14, socket_drops=4, repairs=5, bad_slabs=6, unicast_slabs=7,
        suppressed=8,
    )  # fmt: skip
    assert counters.tally(9) == Tally(
        received=1, lost=10, socket_drops=4, duplicates=2, reordered=3, repairs=5, suppressed=8, bad_slabs=6,
        unicast_slabs=7, drain_kib_s=9,
    )  # fmt: skip


def test_own_drops_told_before_their_gap_shows_are_no_negative_loss() -> None:
    assert ReceiverCounters(lost=3, socket_drops=10).tally(0).lost == 0
