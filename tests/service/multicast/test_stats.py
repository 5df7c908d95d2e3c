# SPDX-License-Identifier: Apache-2.0
"""Streams' counts become those of the service, each of them once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.service.multicast.stats import MulticastStats


def stream() -> Any:
    counters = SimpleNamespace(repair_symbols=1, nacks=2, reports=3, credit_stalls=4)
    return SimpleNamespace(
        machine=SimpleNamespace(counters=counters),
        datagrams=100,
        silent=5,
        send_errors=6,
        has_split_trains=True,
        flushed=(),
        ignored={"too_short": 2},
    )


def test_what_was_taken_over_is_not_taken_again() -> None:
    stats, one, other = MulticastStats(), stream(), stream()
    stats.take_over(one)
    stats.take_over(one)
    assert (stats.datagrams, stats.bytes, stats.repairs) == (100, 100 * SYMBOL_BYTES, 1)
    one.datagrams += 7
    one.ignored["too_short"] = 1
    stats.take_over(one)
    stats.take_over(other)
    assert stats.datagrams == 207
    assert (stats.nacks, stats.reports, stats.credit_stalls) == (4, 6, 8)
    assert (stats.members_silent, stats.send_errors, stats.trains_split) == (10, 12, 2)
    assert stats.ignored == {"too_short": 5}
