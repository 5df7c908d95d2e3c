# SPDX-License-Identifier: Apache-2.0
"""recvmmsg(2) through ctypes, since Python has no name for it: many datagrams or trains with one system call.

A `Runway` is memory that datagrams land in, header and symbol apart: built once for each slab buffer and then only pointed
at. A `Reader` is the vector of messages of one socket. Standard library alone: it runs on the machine being deployed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterator
from typing import Any

from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES

TRAIN_DATAGRAMS = 46  # what GRO puts together: 64 KiB
_CONTROL_BYTES = 96  # the segment size, the count of drops and the time of arrival, each behind its cmsghdr
_CMSG = struct.Struct("@Nii")  # struct cmsghdr: length, level, type
_INT = struct.Struct("@i")
_TIMESPEC = struct.Struct("@qq")  # seconds, nanoseconds
_PAIR_WORDS = 4  # of two struct iovec: address and length of a header, address and length of a symbol
_PAIR_BYTES = _PAIR_WORDS * 8
_WORD = ctypes.sizeof(ctypes.c_size_t)


class Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", Msghdr), ("len", ctypes.c_uint))


def find_recvmmsg() -> Any:
    """The C library's function; None where it has none, or where its structures are not those of a 64-bit Linux."""
    if ctypes.sizeof(Mmsghdr) != 64:
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):
        return None


def address_of(buffer: bytearray | memoryview) -> int:
    """Where a writable buffer is in memory. The number is good as long as somebody keeps the buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Headers:
    """Room for the headers of as many datagrams as a slab and a train have: header i belongs to symbol i of the runway."""

    def __init__(self, count: int = ROWS * COLUMNS + TRAIN_DATAGRAMS) -> None:
        self.bytes = bytearray(count * HEADER_BYTES)
        self.address = address_of(self.bytes)


class Runway:
    """Where symbols land: number i at i · SYMBOL_BYTES of `storage`, those behind its end in `spare`."""

    def __init__(self, storage: memoryview, headers: Headers) -> None:
        self.storage = storage
        self.symbols = len(storage) // SYMBOL_BYTES
        self._spare = memoryview(bytearray(TRAIN_DATAGRAMS * SYMBOL_BYTES))
        count = self.symbols + TRAIN_DATAGRAMS
        words = array("Q", bytes(count * _PAIR_BYTES))
        words[0::4] = progression(headers.address, HEADER_BYTES, count)
        words[1::4] = array("Q", [HEADER_BYTES]) * count
        words[2::4] = progression(address_of(storage), SYMBOL_BYTES, self.symbols) + progression(
            address_of(self._spare), SYMBOL_BYTES, TRAIN_DATAGRAMS
        )
        words[3::4] = array("Q", [SYMBOL_BYTES]) * count
        self.iovecs = words  # _PAIR_WORDS for each symbol
        self.address = words.buffer_info()[0]

    def take(self, first: int, count: int) -> bytes:
        """A copy of what landed at these symbols."""
        inside = max(0, min(count, self.symbols - first))
        landed = bytes(self.storage[first * SYMBOL_BYTES : (first + inside) * SYMBOL_BYTES])
        beyond = max(0, first - self.symbols)
        return landed + self._spare[beyond * SYMBOL_BYTES : (beyond + count - inside) * SYMBOL_BYTES]


def progression(start: int, step: int, count: int) -> array[int]:
    return array("Q", range(start, start + step * count, step))


class Overflow:
    """Where the rest of a train goes that is longer than expected, when several are read at once: else it would land where
    the next train does, or be cut off."""

    def __init__(self, messages: int) -> None:
        count = messages * TRAIN_DATAGRAMS
        self._headers = Headers(count + TRAIN_DATAGRAMS)
        self._runway = Runway(memoryview(bytearray(count * SYMBOL_BYTES)), self._headers)
        self._iovecs = self._runway.iovecs[: count * _PAIR_WORDS]
        self._aimed = self._iovecs[:]
        self._expected = 0
        self.address = self._aimed.buffer_info()[0]

    def aim(self, runway: Runway, first: int, messages: int, expected: int) -> None:
        """Have the first `expected` datagrams of each message land on the runway, one message behind the other."""
        if expected != self._expected:
            self._aimed[:] = self._iovecs
            self._expected = expected
        words = expected * _PAIR_WORDS
        at, aimed, iovecs = first * _PAIR_WORDS, self._aimed, runway.iovecs
        for start in range(0, messages * TRAIN_DATAGRAMS * _PAIR_WORDS, TRAIN_DATAGRAMS * _PAIR_WORDS):
            aimed[start : start + words] = iovecs[at : at + words]
            at += words

    def take(self, message: int, expected: int, count: int) -> tuple[bytes, bytes]:
        """Headers and symbols of a message of `count` datagrams, those behind the first `expected`."""
        at, more = message * TRAIN_DATAGRAMS + expected, max(count - expected, 0)
        return bytes(self._headers.bytes[at * HEADER_BYTES : (at + more) * HEADER_BYTES]), self._runway.take(at, more)


class Reader:
    """Up to `messages` messages from one socket at once; `trains` of them, if they may be longer than expected."""

    def __init__(self, function: Any, descriptor: int, messages: int, trains: int = 1) -> None:
        self._function, self._descriptor = function, descriptor
        self.overflow = Overflow(trains)
        self._vector = (Mmsghdr * messages)()
        self._controls = bytearray(messages * _CONTROL_BYTES)
        words = memoryview(self._vector).cast("B").cast("Q")
        stride = ctypes.sizeof(Mmsghdr) // _WORD
        self._iovs = words[Msghdr.iov.offset // _WORD :: stride]
        self._iov_counts = words[Msghdr.iovlen.offset // _WORD :: stride]
        self._control_sizes = words[Msghdr.controllen.offset // _WORD :: stride]
        self._sizes = memoryview(self._vector).cast("B").cast("I")[Mmsghdr.len.offset // 4 :: stride * 2]
        words[Msghdr.control.offset // _WORD :: stride] = progression(
            address_of(self._controls), _CONTROL_BYTES, messages
        )
        self._full = array("Q", [_CONTROL_BYTES]) * messages
        self._shape = (0, 0)

    def read(self, runway: Runway, first: int, messages: int, datagrams: int) -> list[int]:
        """Read up to `messages` of `datagrams` each, the first at symbol `first` of the runway, each next one `datagrams` behind
        it; what is longer goes on in `overflow`, but for single datagrams. Returns the size in bytes of each; empty when
        none waits. Raises OSError."""
        room = datagrams
        if messages > 1 and datagrams > 1:
            room = TRAIN_DATAGRAMS
            self.overflow.aim(runway, first, messages, datagrams)
            self._iovs[:messages] = progression(self.overflow.address, room * _PAIR_BYTES, messages)
        else:
            self._iovs[:messages] = progression(runway.address + first * _PAIR_BYTES, room * _PAIR_BYTES, messages)
        if self._shape != (messages, room):
            self._shape = messages, room
            self._iov_counts[:messages] = array("Q", [2 * room]) * messages
        self._control_sizes[:messages] = self._full[:messages]
        count = self._function(self._descriptor, self._vector, messages, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                return []
            raise OSError(number, os.strerror(number))
        return self._sizes[:count].tolist()

    def control(self, message: int) -> Iterator[tuple[int, int]]:
        """(type, value) of each control message that came with a message: an int, or a time in nanoseconds."""
        at = message * _CONTROL_BYTES
        end = at + self._control_sizes[message]
        while at + _CMSG.size + _INT.size <= end:
            length, _, kind = _CMSG.unpack_from(self._controls, at)
            if length >= _CMSG.size + _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(self._controls, at + _CMSG.size)
                yield kind, seconds * 1_000_000_000 + nanoseconds
            else:
                yield kind, _INT.unpack_from(self._controls, at + _CMSG.size)[0]
            at += -(-max(length, 1) // _WORD) * _WORD


def datagrams_in(size: int) -> int:
    """How many datagrams a message of this size may be, if they are symbols; 0: it is something else."""
    return 0 if size % DATAGRAM_BYTES else size // DATAGRAM_BYTES
