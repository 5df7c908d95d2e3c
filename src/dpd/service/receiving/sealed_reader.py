# SPDX-License-Identifier: Apache-2.0
"""Reads the group of an encrypted session: opens each symbol and hands it over as if it had come in clear.

A symbol that does not open is another's, forged or damaged; one that comes in clear is forged, since the sender seals all
of them. Neither gets any further. A train costs one read and 3 us for each symbol, most of it AES-GCM's.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Protocol

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES, TAG_BYTES, MessageType
from dpd.service.network.udp import RECEIVE_BYTES, SO_RXQ_OVFL, UDP_GRO
from dpd.service.receiving.train_reader import MAX_QUEUED_S, SO_TIMESTAMPNS
from dpd.service.sealing import Opener

SEALED_BYTES = DATAGRAM_BYTES + TAG_BYTES
_TIMESPEC = struct.Struct("@ll")
TRAIN_DATAGRAMS = RECEIVE_BYTES // SEALED_BYTES


class Machine(Protocol):
    """Who takes what is read."""

    def receive_symbols(self, headers: bytearray, symbols: memoryview, first: int, count: int, now: float) -> None: ...

    def receive_datagram(self, data: bytes, source: tuple[str, int], now: float) -> None: ...


class SealedReader:
    """`socket_drops` as a TrainReader has it; `refuse` is told why a datagram went no further."""

    def __init__(self, sock: socket.socket, machine: Machine, opener: Opener, refuse: Callable[[str], None]) -> None:
        self.socket_drops = 0
        self._socket = sock
        self._machine = machine
        self._opener = opener
        self._refuse = refuse
        with contextlib.suppress(OSError):  # a system that tells no arrival times
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._train = memoryview(bytearray(RECEIVE_BYTES))
        self._headers = bytearray(TRAIN_DATAGRAMS * HEADER_BYTES)
        self._symbols = memoryview(bytearray(TRAIN_DATAGRAMS * SYMBOL_BYTES))

    def read(self, now: float) -> bool:
        """Hand over what one system call delivers. False: the socket was empty."""
        try:
            size, ancillary, _, _ = self._socket.recvmsg_into([self._train], 128)
        except (BlockingIOError, InterruptedError):
            return False
        segment, arrival = self._read_control(ancillary, size, now)
        opened = 0
        for at in range(0, size or 1, segment or 1):
            opened += self._take(self._train[at : min(at + segment, size)], opened, arrival)
        if opened:
            self._machine.receive_symbols(self._headers, self._symbols, 0, opened, now)
        return True

    def _read_control(self, ancillary: list[tuple[int, int, bytes]], size: int, now: float) -> tuple[int, float]:
        """Bytes of each datagram, and when the train arrived, in the clock of `now`: as TrainReader has them."""
        segment, arrival = size, now
        for _, kind, content in ancillary:
            if kind == UDP_GRO:
                segment = int.from_bytes(content[:4], sys.byteorder)
            elif kind == SO_RXQ_OVFL:
                self.socket_drops = int.from_bytes(content[:4], sys.byteorder)
            elif kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(content)
                arrival = now - min(max(time.time() - seconds - nanoseconds / 1e9, 0.0), MAX_QUEUED_S)
        return segment, arrival

    def _take(self, datagram: memoryview, place: int, arrival: float) -> bool:
        """Open a symbol into its place in the block; hand over anything else. True: a symbol was opened."""
        if len(datagram) != SEALED_BYTES:
            self._take_message(bytes(datagram), arrival)
            return False
        header = datagram[:HEADER_BYTES]
        symbol = self._opener.open(header, datagram[HEADER_BYTES:])
        if symbol is None:
            self._refuse("not_opened")
            return False
        self._headers[place * HEADER_BYTES : (place + 1) * HEADER_BYTES] = header
        self._symbols[place * SYMBOL_BYTES : (place + 1) * SYMBOL_BYTES] = symbol
        return True

    def _take_message(self, datagram: bytes, arrival: float) -> None:
        if datagram and datagram[0] & 15 in (MessageType.DATA, MessageType.PARITY):
            self._refuse("not_sealed")
        else:
            self._machine.receive_datagram(datagram, ("", 0), arrival)
