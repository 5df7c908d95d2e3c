# SPDX-License-Identifier: Apache-2.0
"""Hostile datagrams, each one new, and a sender that feeds a socket as fast as its owner reads and no faster."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MAX_BYTES = 1472  # an Ethernet frame over IPv4
BURST = 32
# So full may the socket be before the sender waits. Queued datagrams count with the kernel's overhead, 768 bytes for a
# small one: about 80 of them, so that what a client asks meanwhile is not behind a second's worth of work.
QUEUE_BYTES = 64 << 10


def hostile(seeds: Sequence[bytes], source: random.Random) -> Iterator[bytes]:
    """Endless: noise, and valid or nearly valid messages with bytes changed, cut, lengthened or crossed."""
    mutations = (_noise, _noise, _noise, _changed, _changed, _cut, _lengthened, _crossed)
    while True:
        yield source.choice(mutations)(seeds, source)[:MAX_BYTES]


def _noise(seeds: Sequence[bytes], source: random.Random) -> bytes:
    return source.randbytes(source.randrange(MAX_BYTES) if source.random() < 0.5 else source.randrange(64))


def _changed(seeds: Sequence[bytes], source: random.Random) -> bytes:
    message = bytearray(source.choice(seeds))
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        message[source.randrange(len(message))] = source.choice((0, 1, 127, 128, 255, source.randrange(256)))
    return bytes(message)


def _cut(seeds: Sequence[bytes], source: random.Random) -> bytes:
    message = source.choice(seeds)
    return message[: source.randrange(len(message))]


def _lengthened(seeds: Sequence[bytes], source: random.Random) -> bytes:
    return source.choice(seeds) + source.randbytes(source.randrange(512))


def _crossed(seeds: Sequence[bytes], source: random.Random) -> bytes:
    one, other = source.choice(seeds), source.choice(seeds)
    at = source.randrange(min(len(one), len(other)))
    return one[:at] + other[at:]


@dataclass(frozen=True, slots=True)
class SocketState:
    """A listening UDP socket as the kernel tells of it."""

    queued_bytes: int
    dropped: int


def socket_state(pid: int, port: int) -> SocketState:
    """The UDP socket of `port` in the network namespace of process `pid`, from its /proc/net/udp."""
    for line in Path(f"/proc/{pid}/net/udp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{port:04X}"):
            return SocketState(int(words[4].partition(":")[2], 16), int(words[-1]))
    raise AssertionError(f"no UDP socket on port {port}")


def send_all(sock: socket.socket, datagrams: Iterator[bytes], count: int, pid: int, port: int) -> None:
    """Send `count` datagrams by a connected socket, waiting while the reader is behind. Leaves some in its queue."""
    for start in range(0, count, BURST):
        for datagram in islice(datagrams, min(BURST, count - start)):
            sock.send(datagram)
        wait_until_read(pid, port, QUEUE_BYTES)


def wait_until_read(pid: int, port: int, queued_bytes: int = 0) -> None:
    """Wait until no more than `queued_bytes` are left for the reader."""
    while socket_state(pid, port).queued_bytes > queued_bytes:
        time.sleep(0.0005)
