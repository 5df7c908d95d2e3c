# SPDX-License-Identifier: Apache-2.0
"""Sends whole rows by sendmmsg(2) through ctypes: headers from one block, symbols from where the file is mapped.

Gathering a row from 64 memoryviews and a `sendmsg` of Python's costs 13 us; this costs 3, and a system call for eight.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from array import array
from typing import Any

from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.network.mmsg import Mmsghdr, Msghdr, address_of, progression
from dpd.service.network.udp import UDP_SEGMENT

MAX_ROWS = 8
_ROW_PAIRS_BYTES = COLUMNS * 32  # of two struct iovec each
_CMSG = struct.Struct("@NiiH6x")  # struct cmsghdr and the segment size, padded


def find_sendmmsg() -> Any:
    """The C library's function; None where it has none, or where its structures are not those of a 64-bit Linux."""
    if ctypes.sizeof(Mmsghdr) != 64:
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).sendmmsg
    except (OSError, AttributeError):
        return None


class RowSender:
    """Rows to one destination, each as a train cut by the kernel. `destination` is a socket address of Python's."""

    def __init__(self, function: Any, sock: socket.socket, destination: tuple[str, int]) -> None:
        self._function, self._descriptor = function, sock.fileno()
        self._headers = bytearray(MAX_ROWS * COLUMNS * HEADER_BYTES)
        self._name = _socket_address(sock, destination)
        self._control = bytearray(_CMSG.pack(_CMSG.size - 6, socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM_BYTES))
        count = MAX_ROWS * COLUMNS
        self._iovecs = array("Q", bytes(count * 32))
        self._iovecs[0::4] = progression(address_of(self._headers), HEADER_BYTES, count)
        self._iovecs[1::4] = array("Q", [HEADER_BYTES]) * count
        self._iovecs[3::4] = array("Q", [SYMBOL_BYTES]) * count
        self._symbols = memoryview(self._iovecs)[2::4]
        self._vector = (Mmsghdr * MAX_ROWS)()
        for row in range(MAX_ROWS):
            self._fill(self._vector[row].hdr, row)

    def _fill(self, header: Msghdr, row: int) -> None:
        header.name, header.namelen = address_of(self._name), len(self._name)
        header.iov = self._iovecs.buffer_info()[0] + row * _ROW_PAIRS_BYTES
        header.iovlen = 2 * COLUMNS
        header.control, header.controllen = address_of(self._control), len(self._control)

    def send(self, headers: bytes, address: int) -> int:
        """Send as many rows as there are headers for; their symbols lie back to back from `address` on. Returns how many rows
        the kernel took, at least one. Raises OSError."""
        rows = len(headers) // (COLUMNS * HEADER_BYTES)
        self._headers[: len(headers)] = headers
        self._symbols[: rows * COLUMNS] = progression(address, SYMBOL_BYTES, rows * COLUMNS)
        while True:
            sent: int = self._function(self._descriptor, self._vector, rows, 0)
            if sent > 0:
                return sent
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))


def _socket_address(sock: socket.socket, destination: tuple[str, int]) -> bytearray:
    """struct sockaddr_in or sockaddr_in6."""
    host, port = destination
    if sock.family == socket.AF_INET:
        return bytearray(struct.pack("@H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host)))
    host, _, interface = host.partition("%")
    scope = int(interface) if interface.isdigit() else socket.if_nametoindex(interface) if interface else 0
    fixed = struct.pack("!HI16s", port, 0, socket.inet_pton(socket.AF_INET6, host))
    return bytearray(struct.pack("@H", socket.AF_INET6) + fixed + struct.pack("@I", scope))


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of_mapping(mapping: Any) -> int:
    """Where a read-only buffer, such as a mapped file, is in memory; it must stay alive as long as the number is used."""
    buffer = _PyBuffer()
    api = ctypes.pythonapi
    if api.PyObject_GetBuffer(ctypes.py_object(mapping), ctypes.byref(buffer), 0):
        raise BufferError("no buffer")
    try:
        return int(buffer.buf)
    finally:
        api.PyBuffer_Release(ctypes.byref(buffer))
