# SPDX-License-Identifier: Apache-2.0
"""What Prometheus sees of all sessions together. What each receiver counts is told by the API and the events alone."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.service.multicast.stream import Stream
from dpd.telemetry.stats import bump, counter, counts, gauge


@dataclass(slots=True)
class MulticastStats:
    """What Prometheus sees of all sessions together."""

    sessions: int = gauge("Sessions that exist now")
    members: int = gauge("Receivers by multicast in all sessions now")
    members_waiting: int = gauge("Those of them whose session waits for its plan: for more receivers, or for its time")
    members_unicast: int = gauge("Receivers that get their slabs by HTTP now")
    joins: int = counter("Receivers that joined a session")
    joins_by_mode: dict[str, int] = counts("Receivers that joined, by where their bytes come from", "mode")
    joins_refused: int = counter("Joins refused: session stopped or full, or the daemon is draining")
    completions: int = counter("Receivers that reported every slab verified")
    datagrams: int = counter("Symbols sent to groups, repairs included")
    bytes: int = counter("Payload bytes sent to groups, repairs included")
    repairs: int = counter("Symbols sent because a receiver asked for repair")
    nacks: int = counter("NACKs taken in")
    reports: int = counter("REPORTs taken in")
    credit_stalls: int = counter("Times a sender waited for its slowest representative receiver")
    members_silent: int = counter("Receivers given up after silence")
    send_errors: int = counter("Trains the kernel refused")
    trains_split: int = counter("Sessions whose trains left datagram by datagram for want of segmentation offload")
    ignored: dict[str, int] = counts("Feedback datagrams that changed nothing, by reason", "reason")

    def take_over(self, stream: Stream) -> None:
        """Add what a stream counted since it was last asked. For one thread at a time."""
        counters = stream.machine.counters
        now = (
            stream.datagrams,
            counters.repair_symbols,
            counters.nacks,
            counters.reports,
            counters.credit_stalls,
            stream.silent,
            stream.send_errors,
            int(stream.has_split_trains),
        )
        before = stream.flushed or (0,) * len(now)
        stream.flushed = now
        sent, repairs, nacks, reports, stalls, silent, errors, split = (a - b for a, b in zip(now, before, strict=True))
        self.datagrams += sent
        self.bytes += sent * SYMBOL_BYTES
        self.repairs += repairs
        self.nacks += nacks
        self.reports += reports
        self.credit_stalls += stalls
        self.members_silent += silent
        self.send_errors += errors
        self.trains_split += split
        for reason, count in stream.ignored.items():
            bump(self.ignored, reason, count)
        stream.ignored.clear()
