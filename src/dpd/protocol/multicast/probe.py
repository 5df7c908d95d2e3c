# SPDX-License-Identifier: Apache-2.0
"""The datagrams by which `dpd mc-test` measures a network: their format, what is sent when, and what arrived.

     0              4        5        6        7       8             16          20             28
    | "dpdT"        | version| stream | TTL    |  0    | test        | number    | time sent    | padding …

Network byte order; time in microseconds of the sender's monotonic clock. A test has one stream of small datagrams, four
a second from its beginning to its end, which shows for how long the network passes the group on; and, when the receiver
asks, one run of three streams: packets of several sizes that may not be fragmented, a paced part, and bursts. ECHO goes
from the receiver to the sender and comes back as it was, to measure unicast beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.message import DATAGRAM_BYTES, TAG_BYTES

MAGIC = b"dpdT"
VERSION = 1
IP_UDP_BYTES = {4: 28, 6: 48}
BEAT_INTERVAL_S = 0.25
PACKET_BYTES = (128, 576, 1280, 1380, 1420, 1464, 1480, 1484, 1500, 4096, 9000)  # with IP and UDP headers
NEEDED_BYTES = DATAGRAM_BYTES, DATAGRAM_BYTES + TAG_BYTES  # payload of dpd's own datagrams, plain and encrypted
SIZE_COPIES = 4
SIZE_INTERVAL_S = 0.004
PACED_DATAGRAMS, PACED_INTERVAL_S = 2000, 0.00075
BURSTS, BURST_DATAGRAMS, BURST_INTERVAL_S = 4, 512, 0.15
LOAD_BYTES = 1200  # payload of the paced and burst parts: passes where dpd's own datagrams are too large
SMALL_BYTES = 64

_PROBE = struct.Struct("!4sBBBxQIQ")
PROBE_BYTES = _PROBE.size


class Stream(IntEnum):
    """Which part of a test a datagram belongs to."""

    BEAT = 0
    SIZE = 1
    PACED = 2
    BURST = 3
    ECHO = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """One datagram of a test. `sent_us` is of the clock of who sent it."""

    stream: Stream
    test: int
    number: int
    sent_us: int
    ttl: int = 0

    def encode(self, size_bytes: int = PROBE_BYTES) -> bytes:
        """Padded with zeros to this payload; at least the header."""
        head = _PROBE.pack(MAGIC, VERSION, self.stream, self.ttl, self.test, self.number, self.sent_us)
        return head + bytes(max(0, size_bytes - PROBE_BYTES))


def decode(data: Buffer) -> Probe:
    """Raises MalformedMessage."""
    if len(data) < PROBE_BYTES:
        raise MalformedMessage("length", f"{len(data)} bytes, expected at least {PROBE_BYTES}")
    magic, version, stream, ttl, test, number, sent_us = _PROBE.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise MalformedMessage("magic")
    if stream not in Stream.__members__.values():
        raise MalformedMessage("stream", str(stream))
    return Probe(Stream(stream), test, number, sent_us, ttl)


@dataclass(frozen=True, slots=True)
class Shot:
    """One datagram of a run: when, counted from the run's start, and its payload in bytes."""

    at_s: float
    stream: Stream
    number: int
    size_bytes: int


def plan_run(ip_version: int) -> Iterator[Shot]:
    """One run in the order of its sending: sizes, paced, bursts."""
    overhead = IP_UDP_BYTES[ip_version]
    at_s = 0.0
    for number in range(len(PACKET_BYTES) * SIZE_COPIES):  # a copy of each in turn, so that one gap hits no size alone
        yield Shot(at_s, Stream.SIZE, number, PACKET_BYTES[number % len(PACKET_BYTES)] - overhead)
        at_s += SIZE_INTERVAL_S
    for number in range(PACED_DATAGRAMS):
        yield Shot(at_s, Stream.PACED, number, LOAD_BYTES)
        at_s += PACED_INTERVAL_S
    for number in range(BURSTS * BURST_DATAGRAMS):
        at_s += 0 if number % BURST_DATAGRAMS else BURST_INTERVAL_S
        yield Shot(at_s, Stream.BURST, number, LOAD_BYTES)


def packet_bytes(number: int) -> int:
    """The size, with headers, that a datagram of the SIZE stream has by its number."""
    return PACKET_BYTES[number % len(PACKET_BYTES)]


@dataclass(slots=True)
class StreamTally:
    """What arrived of one stream. `jitter_s` is RFC 3550's, 6.4.1."""

    received: int = 0  # each number once
    duplicates: int = 0
    reordered: int = 0
    highest: int = -1
    jitter_s: float = 0.0
    numbers: set[int] = field(default_factory=set)
    _transit_s: float | None = None

    def note(self, number: int, sent_us: int, now: float) -> None:
        """Count one datagram; `now` in seconds, of any clock that runs evenly."""
        if number in self.numbers:
            self.duplicates += 1
            return
        self.numbers.add(number)
        self.received += 1
        self.reordered += number < self.highest
        self.highest = max(self.highest, number)
        transit_s = now - sent_us / 1e6
        if self._transit_s is not None:
            self.jitter_s += (abs(transit_s - self._transit_s) - self.jitter_s) / 16
        self._transit_s = transit_s


@dataclass(slots=True)
class ProbeTally:
    """What arrived of one test. Times are those that `note` was given."""

    streams: dict[Stream, StreamTally] = field(default_factory=lambda: {stream: StreamTally() for stream in Stream})
    sizes: dict[int, int] = field(default_factory=dict)  # packet bytes: how many arrived
    ttls: dict[int, int] = field(default_factory=dict)  # on arrival: how many datagrams had it
    beat_times: list[float] = field(default_factory=list)
    sent_ttl: int = 0

    def note(self, probe: Probe, now: float, ttl: int) -> None:
        """One datagram that the group's socket gave, with the TTL that it arrived with (0: not told)."""
        self.streams[probe.stream].note(probe.number, probe.sent_us, now)
        self.ttls[ttl] = self.ttls.get(ttl, 0) + 1
        self.sent_ttl = probe.ttl
        if probe.stream is Stream.BEAT:
            self.beat_times.append(now)
        elif probe.stream is Stream.SIZE:
            size = packet_bytes(probe.number)
            self.sizes[size] = self.sizes.get(size, 0) + 1

    @property
    def received(self) -> int:
        return sum(tally.received for tally in self.streams.values())

    def passes_at(self, at: float, window_s: float = 8 * BEAT_INTERVAL_S) -> bool:
        """Whether the group was being passed on then: a beat came in the time before."""
        return any(at - window_s <= beat <= at for beat in self.beat_times)
