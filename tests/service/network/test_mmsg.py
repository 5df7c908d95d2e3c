# SPDX-License-Identifier: Apache-2.0
"""recvmmsg by ctypes: where datagrams land, and what the kernel tells of each."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.network.mmsg import TRAIN_DATAGRAMS, Headers, Reader, Runway, find_recvmmsg
from dpd.service.network.udp import UDP_GRO, TrainSender

FUNCTION = find_recvmmsg()
pytestmark = pytest.mark.skipif(FUNCTION is None, reason="the C library has no recvmmsg")


def datagram(number: int) -> bytes:
    return bytes([number]) * HEADER_BYTES + bytes([255 - number]) * SYMBOL_BYTES


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        theirs.connect(ours.getsockname())
        yield ours, theirs


def test_headers_and_symbols_land_at_the_same_numbers(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    for number in (1, 2, 3):
        theirs.send(datagram(number))
    headers, storage = Headers(), memoryview(bytearray(10 * SYMBOL_BYTES))
    reader = Reader(FUNCTION, ours.fileno(), 8)
    assert reader.read(Runway(storage, headers), 4, 8, 1) == [DATAGRAM_BYTES] * 3
    for number in (1, 2, 3):
        at = 3 + number
        assert headers.bytes[at * HEADER_BYTES : (at + 1) * HEADER_BYTES] == datagram(number)[:HEADER_BYTES]
        assert storage[at * SYMBOL_BYTES : (at + 1) * SYMBOL_BYTES] == datagram(number)[HEADER_BYTES:]
    assert not any(storage[: 4 * SYMBOL_BYTES])
    assert reader.read(Runway(storage, headers), 0, 8, 1) == []


def test_what_is_beyond_the_storage_can_be_taken_all_the_same(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    TrainSender(theirs).send([datagram(number) for number in range(8)], DATAGRAM_BYTES)
    runway = Runway(memoryview(bytearray(10 * SYMBOL_BYTES)), Headers())
    reader = Reader(FUNCTION, ours.fileno(), 1)
    assert reader.read(runway, 6, 1, TRAIN_DATAGRAMS) == [8 * DATAGRAM_BYTES]
    assert dict(reader.control(0)) == {UDP_GRO: DATAGRAM_BYTES}
    symbols = [datagram(number)[HEADER_BYTES:] for number in range(8)]
    assert runway.take(6, 8) == b"".join(symbols)
    assert runway.take(11, 3) == b"".join(symbols[5:])
    assert runway.take(7, 2) == b"".join(symbols[1:3])


def test_the_errors_of_the_kernel_are_raised() -> None:
    reader = Reader(FUNCTION, 1 << 20, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.read(Runway(memoryview(bytearray(SYMBOL_BYTES)), Headers()), 0, 1, 1)
