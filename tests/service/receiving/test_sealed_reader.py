# SPDX-License-Identifier: Apache-2.0
"""What comes out of an encrypted group: symbols in clear, messages as they are, and nothing that was not sealed."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES
from dpd.protocol.multicast.message import Beat, Flag, Header, MessageType
from dpd.service.network.udp import UDP_GRO, TrainSender
from dpd.service.receiving.sealed_reader import SEALED_BYTES, SealedReader
from dpd.service.sealing import Opener, Sealer

KEY, SALT = bytes(range(16)), b"salt"
ROW = random.Random(8).randbytes(COLUMNS * SYMBOL_BYTES)


class Machine:
    """Keeps what it is given, symbol by symbol."""

    def __init__(self) -> None:
        self.symbols: list[tuple[bytes, bytes]] = []
        self.messages: list[bytes] = []
        self.arrivals: list[float] = []

    def receive_symbols(self, headers: bytearray, symbols: memoryview, first: int, count: int, now: float) -> None:
        for i in range(first, first + count):
            symbol = bytes(symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES])
            self.symbols.append((bytes(headers[i * 28 : i * 28 + 28]), symbol))

    def receive_datagram(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self.messages.append(data)
        self.arrivals.append(now)


class Stage:
    def __init__(self) -> None:
        self.machine = Machine()
        self.refused: list[str] = []
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind(("127.0.0.1", 0))
        self.receiver.setblocking(False)
        self.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname())
        self.reader = SealedReader(self.receiver, self.machine, Opener(KEY, SALT), self.refused.append)

    def read_all(self) -> None:
        while self.reader.read(0.0):
            pass


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.receiver.close()
    stage.sender.close()


def row(flags: int = Flag.SEALED, first_seq: int = 1) -> list[bytes | memoryview]:
    """Header, symbol, header, symbol, … of one row."""
    pieces: list[bytes | memoryview] = []
    for column in range(COLUMNS):
        header = Header(MessageType.DATA, 7, 5, flags, column=column, tx_seq=first_seq + column)
        pieces += [header.encode(), memoryview(ROW)[column * SYMBOL_BYTES : (column + 1) * SYMBOL_BYTES]]
    return pieces


def clear(pieces: list[bytes | memoryview]) -> list[tuple[bytes, bytes]]:
    return [(bytes(pieces[i]), bytes(pieces[i + 1])) for i in range(0, len(pieces), 2)]


def datagrams(sealed: list[bytes]) -> list[bytes]:
    return [sealed[i] + sealed[i + 1] for i in range(0, len(sealed), 2)]


def seal(pieces: list[bytes | memoryview]) -> list[bytes]:
    return [bytes(piece) for piece in Sealer(KEY, SALT).seal(pieces)]


def test_a_train_is_opened_whole(stage: Stage) -> None:
    TrainSender(stage.sender).send(seal(row()), SEALED_BYTES)
    assert stage.reader.read(0.0)
    stage.read_all()
    assert stage.machine.symbols == clear(row())
    assert stage.refused == []


def test_lone_datagrams_are_opened_too(stage: Stage) -> None:
    stage.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
    for datagram in datagrams(seal(row()))[:5]:
        stage.sender.send(datagram)
    stage.read_all()
    assert stage.machine.symbols == clear(row())[:5]


@pytest.mark.parametrize("at", [0, 3, 17, 28, 700, SEALED_BYTES - 1], ids="byte {}".format)
def test_a_changed_byte_costs_that_symbol_alone(stage: Stage, at: int) -> None:
    sealed = datagrams(seal(row()))
    damaged = bytearray(sealed[2])
    damaged[at] ^= 0x40
    for datagram in (sealed[1], bytes(damaged), sealed[3]):
        stage.sender.send(datagram)
    stage.read_all()
    assert stage.machine.symbols == [clear(row())[1], clear(row())[3]]
    assert stage.refused == ["not_opened"]


def test_symbols_in_clear_are_refused(stage: Stage) -> None:
    for flags in (Flag(0), Flag.SEALED):
        header, symbol = clear(row(flags))[0]
        stage.sender.send(header + symbol)
    header, symbol = clear(row(Flag(0)))[0]
    stage.sender.send(header + symbol + bytes(16))
    stage.read_all()
    assert stage.machine.symbols == []
    assert stage.machine.messages == []
    assert stage.refused == ["not_sealed", "not_sealed", "not_opened"]


def test_messages_pass_as_they_are(stage: Stage) -> None:
    beat = Beat(Header(MessageType.BEAT, 7, 5), 0, 1, 1).encode()
    stage.sender.send(beat)
    stage.sender.send(b"")
    stage.read_all()
    assert stage.machine.messages == [beat, b""]


def test_an_empty_socket_is_told(stage: Stage) -> None:
    assert not stage.reader.read(0.0)


def test_what_waited_in_the_socket_is_told_as_of_its_arrival(stage: Stage) -> None:
    stage.sender.send(b"early")
    time.sleep(0.2)
    assert stage.reader.read(1000.0)
    (arrival,) = stage.machine.arrivals
    assert 990.0 < arrival <= 999.85
