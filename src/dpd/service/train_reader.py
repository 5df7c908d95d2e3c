# SPDX-License-Identifier: Apache-2.0
"""Reads a group's datagrams many at a time and lays headers and symbols apart, as the receiver machine takes them.

Two ways, chosen by what the network delivers:

- whole trains (UDP_GRO): one `recvmsg_into` scatters up to 45 datagrams into the header block and the symbol block.
  Cutting a contiguous train in Python cost 10 us a row; this costs 3.
- lone datagrams (no GRO on the way): one `recvmmsg`, through ctypes since Python has no name for it, takes up to 64.
  A `recvmsg_into` for each, with what Python does around it, cost 4 us a datagram; this costs 0.7.

Standard library alone: it runs on the machine being deployed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.udp import SO_RXQ_OVFL, UDP_GRO

TRAIN_DATAGRAMS = 46  # what GRO puts together: 64 KiB
BATCH_DATAGRAMS = 64
LONE_READS = 64  # in a row without a train, before changing to recvmmsg

TakeSymbols = Callable[[bytearray, memoryview, int, int], None]  # headers, symbols, first, count
TakeMessage = Callable[[bytes], None]

_INT = struct.Struct("@i")
_UINT = struct.Struct("@I")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint))


def _find_recvmmsg() -> Any:
    try:
        return ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):
        return None


class TrainReader:
    """`socket_drops`: datagrams that the kernel dropped for want of room in this socket, so far."""

    def __init__(self, sock: socket.socket, take_symbols: TakeSymbols, take_message: TakeMessage) -> None:
        self.socket_drops = 0
        self._socket = sock
        self._take_symbols = take_symbols
        self._take_message = take_message
        count = BATCH_DATAGRAMS
        self._headers = bytearray(count * HEADER_BYTES)
        self._symbols = memoryview(bytearray(count * SYMBOL_BYTES))
        headers = memoryview(self._headers)
        self._pieces = [
            piece
            for i in range(TRAIN_DATAGRAMS)
            for piece in (
                headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES],
                self._symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES],
            )
        ]
        self._lone_reads = 0
        self._batch: _Batch | None = None

    def read(self) -> bool:
        """Hand over what one system call delivers. False: the socket was empty."""
        return self._read_train() if self._batch is None else self._read_batch(self._batch)

    def _read_train(self) -> bool:
        try:
            size, ancillary, _, _ = self._socket.recvmsg_into(self._pieces, 128)
        except BlockingIOError:
            return False
        segment = size
        for _, kind, content in ancillary:
            if kind == UDP_GRO:
                segment = _INT.unpack(content)[0]
            elif kind == SO_RXQ_OVFL:
                self.socket_drops = _UINT.unpack(content)[0]
        if segment == DATAGRAM_BYTES:
            count = size // DATAGRAM_BYTES
            self._take_symbols(self._headers, self._symbols, 0, count)
            self._judge(count)
            if size > count * DATAGRAM_BYTES:
                self._take_message(b"".join(self._pieces)[count * DATAGRAM_BYTES : size])
        else:
            train = b"".join(self._pieces)[:size]
            for start in range(0, size or 1, segment or 1):
                self._take_message(train[start : start + segment])
        return True

    def _judge(self, count: int) -> None:
        """Change to recvmmsg once it is plain that no trains come."""
        self._lone_reads = 0 if count > 1 else self._lone_reads + 1
        if self._lone_reads >= LONE_READS:
            function = _find_recvmmsg()
            if function is None:
                self._lone_reads = 0
                return
            self._socket.setsockopt(
                socket.IPPROTO_UDP, UDP_GRO, 0
            )  # or a late train would be cut to its first datagram
            self._batch = _Batch(function, self._socket.fileno(), self._headers, self._symbols)

    def _read_batch(self, batch: _Batch) -> bool:
        sizes = batch.read()
        if not sizes:
            return False
        self.socket_drops = max(self.socket_drops, batch.socket_drops())
        if sizes.count(DATAGRAM_BYTES) == len(sizes):
            self._take_symbols(self._headers, self._symbols, 0, len(sizes))
            return True
        for i, size in enumerate(sizes):
            if size == DATAGRAM_BYTES:
                self._take_symbols(self._headers, self._symbols, i, 1)
            else:
                header = self._headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES]
                symbol = self._symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES]
                self._take_message((bytes(header) + bytes(symbol))[:size])
        return True


class _Batch:
    """recvmmsg into the two blocks; its structures are built once and reused."""

    def __init__(self, function: Any, descriptor: int, headers: bytearray, symbols: memoryview) -> None:
        count = BATCH_DATAGRAMS
        self._function = function
        self._descriptor = descriptor
        self._iovecs = (_Iovec * (2 * count))()
        self._control = (ctypes.c_uint32 * 8)()
        self._vector = (_Mmsghdr * count)()
        header_at = ctypes.addressof(ctypes.c_char.from_buffer(headers))
        symbol_at = ctypes.addressof(ctypes.c_char.from_buffer(symbols))
        for i in range(count):
            self._iovecs[2 * i] = _Iovec(header_at + i * HEADER_BYTES, HEADER_BYTES)
            self._iovecs[2 * i + 1] = _Iovec(symbol_at + i * SYMBOL_BYTES, SYMBOL_BYTES)
            header = self._vector[i].hdr
            header.iov = ctypes.cast(ctypes.byref(self._iovecs, 2 * i * ctypes.sizeof(_Iovec)), ctypes.POINTER(_Iovec))
            header.iovlen = 2
        self._first = self._vector[0].hdr
        self._first.control = ctypes.addressof(self._control)
        words = memoryview(self._vector).cast("B").cast("I")
        self._sizes = words[_Mmsghdr.len.offset // 4 :: ctypes.sizeof(_Mmsghdr) // 4]

    def read(self) -> list[int]:
        """The sizes of the datagrams read, empty when none waits."""
        self._first.controllen = ctypes.sizeof(self._control)
        count = self._function(self._descriptor, self._vector, BATCH_DATAGRAMS, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                return []
            raise OSError(number, os.strerror(number))
        return self._sizes[:count].tolist()

    def socket_drops(self) -> int:
        """SO_RXQ_OVFL of the first datagram: struct cmsghdr is a size_t, level and type, then the count."""
        words = ctypes.sizeof(ctypes.c_size_t) // 4
        if self._first.controllen and self._control[words + 1] == SO_RXQ_OVFL:
            return int(self._control[words + 2])
        return 0
