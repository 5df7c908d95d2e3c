# SPDX-License-Identifier: Apache-2.0
"""Reads a group's datagrams many at a time and lays headers and symbols apart, as the receiver machine takes them.

Where trains arrive whole (UDP_GRO), symbols land where they belong: the machine says where the next ones will go if
nothing is lost, and the kernel copies them there. Only what was not expected is copied once more. A row costs 8 us so,
where landing in a block of its own and being copied from there cost 19. Where datagrams come one by one there is little
to win by that: up to 64 are read at once into one block.

Standard library alone: it runs on the machine being deployed.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import Protocol

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.network.mmsg import TRAIN_DATAGRAMS, Headers, Reader, Runway, find_recvmmsg
from dpd.service.network.udp import SO_RXQ_OVFL, UDP_GRO

TRAINS_AT_ONCE = 32  # of one length, read by one system call: 1.4 MB of rows
LONE_AT_ONCE = 64
DROPS_EVERY = 8  # reads between two looks at the kernel's count of drops, 4 us each
SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; not in Python's socket module
MAX_QUEUED_S = 5.0  # more than that is a clock that was set
JUDGED_READS = 256  # of one message each, before the choice between trains and many datagrams at once
# Datagrams in a message, below which they are better read one by one, 64 at once: at 1 Gbit/s, where GRO put 7 together,
# that took a receiver 0.31 s of CPU for each second instead of 0.43.
FEW_DATAGRAMS = 10

Piece = tuple[bytearray, bytes, int, int, float]  # headers, symbols, bytes of both, bytes of each datagram, arrival


class Machine(Protocol):
    """Who takes what is read."""

    def landing(self) -> tuple[memoryview, int] | None:
        """The buffer, and the number of the symbol in it, where the next symbols belong if nothing is lost."""

    def take_landed(self, headers: bytearray, storage: memoryview, first: int, count: int, now: float) -> int:
        """Symbols `first` … `first + count` - 1 of `storage` have landed, with their headers at the same numbers. Returns how
        many of them, from the first on, are what was expected; these are taken."""

    def receive_symbols(self, headers: bytearray, symbols: memoryview, first: int, count: int, now: float) -> None: ...

    def receive_datagram(self, data: bytes, source: tuple[str, int], now: float) -> None: ...


class TrainReader:
    """`socket_drops`: datagrams that the kernel dropped for want of room in this socket, so far."""

    def __init__(self, sock: socket.socket, machine: Machine) -> None:
        self.socket_drops = 0
        self._socket = sock
        self._machine = machine
        self._headers = Headers()
        self._own = Runway(memoryview(bytearray(LONE_AT_ONCE * SYMBOL_BYTES)), self._headers)
        self._runways: dict[int, Runway] = {}  # by the id of their storage, which they keep alive
        self._train = TRAIN_DATAGRAMS  # datagrams in the latest train
        self._at_once = 1  # messages to read: more than one only while all are of one length
        self._reads = 0
        self._judged = self._judged_datagrams = 0
        self._is_lone = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        function = find_recvmmsg()
        self._reader = Reader(function, sock.fileno(), LONE_AT_ONCE, TRAINS_AT_ONCE) if function else None

    def read(self, now: float) -> bool:
        """Hand over what one system call delivers. False: the socket is empty now."""
        if self._reader is None:
            return self._read_plain(now)
        place = self._machine.landing()
        runway, first = (self._own, 0) if place is None else (self._runway(place[0]), place[1])
        train = self._train
        messages = max(min(self._at_once, (runway.symbols - first) // train), 1)
        if messages == 1 and not self._is_lone:
            train = TRAIN_DATAGRAMS  # of any length
        sizes = self._reader.read(runway, first, messages, train)
        if not sizes:
            return False
        whole = _count_whole(sizes, train) if messages > 1 else sizes[0] // DATAGRAM_BYTES
        whole = min(whole, runway.symbols - first)
        taken = 0
        if place is not None and whole:
            taken = self._machine.take_landed(self._headers.bytes, runway.storage, first, whole, now)
        self._reads += 1
        if self._reads % DROPS_EVERY == 1:
            self._read_control(self._reader, len(sizes) - 1, 0, now)  # for its count of drops
        if taken * DATAGRAM_BYTES != sum(sizes) or 0 in sizes:
            self._take_rest(self._reader, runway, first, train, sizes, taken, now)
        self._expect(sizes, train)
        return len(sizes) == messages

    def _runway(self, storage: memoryview) -> Runway:
        runway = self._runways.get(id(storage))
        if runway is None:
            runway = self._runways[id(storage)] = Runway(storage, self._headers)
        return runway

    def _expect(self, sizes: list[int], train: int) -> None:
        """What will be read next, by what was read last."""
        if self._is_lone:
            return
        latest = max(sizes[-1] // DATAGRAM_BYTES, 1)
        is_steady = latest == self._train and sizes.count(sizes[-1]) == len(sizes)
        self._at_once = min(2 * self._at_once, TRAINS_AT_ONCE) if is_steady and latest > 1 else 1
        self._train = min(latest, TRAIN_DATAGRAMS)
        self._judged += len(sizes)
        self._judged_datagrams += sum(sizes) // DATAGRAM_BYTES
        if self._judged >= JUDGED_READS:
            self._is_lone = self._judged_datagrams < self._judged * FEW_DATAGRAMS
            self._judged = self._judged_datagrams = 0
            if self._is_lone:  # GRO off, or a late train would be cut to its first datagram
                self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
                self._train, self._at_once = 1, LONE_AT_ONCE

    def _take_rest(
        self, reader: Reader, runway: Runway, first: int, train: int, sizes: list[int], taken: int, now: float
    ) -> None:
        """Hand over what did not land where it belongs. All of it is copied first: its place may be another's."""
        pieces: list[Piece] = []
        message = taken // train
        done = taken - message * train
        while message < len(sizes):
            span = _span(sizes, message, train) if not done else 1
            at = first + message * train + done
            size = sum(sizes[message : message + span]) - done * DATAGRAM_BYTES
            segment, arrival = self._read_control(reader, message, sizes[message], now)
            if span > 1:
                segment = DATAGRAM_BYTES
            if size or not sizes[message]:
                count = -(-size // DATAGRAM_BYTES)
                landed = min(count, span * train - done)
                headers = self._headers.bytes[at * HEADER_BYTES : (at + landed) * HEADER_BYTES]
                symbols = runway.take(at, landed)
                if landed < count:
                    more = reader.overflow.take(message, train, done + count)
                    headers, symbols = headers + more[0], symbols + more[1]
                pieces.append((headers, symbols, size, segment, arrival))
            message, done = message + span, 0
        for piece in pieces:
            self._hand_over(piece, now)

    def _read_control(self, reader: Reader, message: int, size: int, now: float) -> tuple[int, float]:
        """Bytes of each datagram in a message: its own size, unless GRO put several together. And when it arrived, in the
        clock of `now`: what waited in our socket shall not be taken for a queue in the network."""
        segment, arrival = size, now
        for kind, value in reader.control(message):
            if kind == UDP_GRO:
                segment = value
            elif kind == SO_RXQ_OVFL:
                self.socket_drops = max(self.socket_drops, value)
            elif kind == SO_TIMESTAMPNS:
                arrival = now - min(max(time.time() - value / 1e9, 0.0), MAX_QUEUED_S)
        return segment, arrival

    def _hand_over(self, piece: Piece, now: float) -> None:
        headers, symbols, size, segment, arrival = piece
        count = size // DATAGRAM_BYTES if segment == DATAGRAM_BYTES else 0
        if count:
            self._machine.receive_symbols(headers, memoryview(symbols), 0, count, now)
        rest = size - count * DATAGRAM_BYTES
        if rest or not size:
            joined = _join(headers, symbols, count)[:rest]
            for start in range(0, rest or 1, segment or 1):
                self._machine.receive_datagram(joined[start : start + segment], ("", 0), arrival)

    def _read_plain(self, now: float) -> bool:
        """One system call for each datagram or train, where there is no recvmmsg."""
        try:
            joined, ancillary, _, _ = self._socket.recvmsg(1 << 16, 128)
        except BlockingIOError:
            return False
        segment = len(joined)
        for _, kind, content in ancillary:
            if kind == UDP_GRO:
                segment = int.from_bytes(content[:4], sys.byteorder)
            elif kind == SO_RXQ_OVFL:
                self.socket_drops = int.from_bytes(content[:4], sys.byteorder)
        for start in range(0, len(joined) or 1, segment or 1):
            self._machine.receive_datagram(joined[start : start + segment], ("", 0), now)
        return True


def _count_whole(sizes: list[int], train: int) -> int:
    """How many datagrams came before the first message that is no train of the length expected."""
    expected = train * DATAGRAM_BYTES
    if sizes.count(expected) == len(sizes):
        return len(sizes) * train
    return next(number for number, size in enumerate(sizes) if size != expected) * train


def _span(sizes: list[int], start: int, train: int) -> int:
    """How many messages from `start` on are trains of the length expected, and so lie back to back; at least 1."""
    end = start
    while end < len(sizes) and sizes[end] == train * DATAGRAM_BYTES:
        end += 1
    return max(end - start, 1)


def _join(headers: bytearray, symbols: bytes, first: int) -> bytes:
    """Headers and symbols from number `first` on as they were on the wire."""
    return b"".join(
        bytes(headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES]) + symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES]
        for i in range(first, max(len(headers) // HEADER_BYTES, first + 1))
    )
