# SPDX-License-Identifier: Apache-2.0
"""Headers and symbols laid apart, by both ways of reading, from a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.network.udp import SO_RXQ_OVFL, UDP_GRO, TrainSender
from dpd.service.receiving import train_reader
from dpd.service.receiving.train_reader import FEW_DATAGRAMS, JUDGED_READS, LONE_AT_ONCE, TRAINS_AT_ONCE, TrainReader

BEAT = b"beat" * 10


def datagram(number: int) -> bytes:
    """One of DATAGRAM_BYTES that shows its number in header and symbol."""
    return number.to_bytes(4, "big") * (HEADER_BYTES // 4) + number.to_bytes(4, "little") * (SYMBOL_BYTES // 4)


class Wire:
    """A socket with a reader, and the way to it; the machine that the reader hands everything to.

    `storage` is where symbols are to land, if anywhere: that whose number is `expected` at the place of that number.
    """

    def __init__(self, *, gro: bool = True) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # as much of it as the system allows
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        if gro:
            self.sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.sock.getsockname())
        self.symbols: list[bytes] = []
        self.calls: list[int] = []  # how many symbols each came with
        self.messages: list[bytes] = []
        self.arrivals: list[float] = []
        self.storage: memoryview | None = None
        self.expected = 0
        self.landed: list[int] = []  # how many at each call
        self.reader = TrainReader(self.sock, self)

    def landing(self) -> tuple[memoryview, int] | None:
        return (self.storage, self.expected) if self.storage is not None else None

    def take_landed(self, headers: bytearray, storage: memoryview, first: int, count: int, now: float) -> int:
        assert storage is self.storage
        taken = 0
        while taken < count and (
            headers[(first + taken) * HEADER_BYTES :][:HEADER_BYTES] == datagram(first + taken)[:HEADER_BYTES]
        ):
            taken += 1
        self.landed.append(taken)
        self.expected += taken
        return taken

    def receive_datagram(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self.arrivals.append(now)
        (self.symbols if len(data) == DATAGRAM_BYTES else self.messages).append(data)

    def receive_symbols(self, headers: bytearray, symbols: memoryview, first: int, count: int, now: float) -> None:
        self.calls.append(count)
        for i in range(first, first + count):
            header = headers[i * HEADER_BYTES : (i + 1) * HEADER_BYTES]
            self.symbols.append(bytes(header) + bytes(symbols[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES]))

    def send_train(self, *numbers: int, tail: bytes = b"") -> None:
        pieces = [datagram(number) for number in numbers]
        TrainSender(self.sender).send([*pieces, tail] if tail else pieces, DATAGRAM_BYTES)

    def read_all(self) -> int:
        """Read until the socket is empty. Returns the number of system calls that delivered."""
        reads = 0
        while self.reader.read(0.0):
            reads += 1
        return reads

    def change_to_batches(self) -> None:
        for number in range(JUDGED_READS):
            self.sender.send(datagram(number))
        assert self.read_all() == JUDGED_READS
        self.symbols.clear()
        self.calls.clear()

    def close(self) -> None:
        self.sock.close()
        self.sender.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def test_an_empty_socket_is_no_error(wire: Wire) -> None:
    assert not wire.reader.read(0.0)
    wire.change_to_batches()
    assert not wire.reader.read(0.0)


def test_a_train_comes_whole(wire: Wire) -> None:
    wire.send_train(*range(COLUMNS))
    assert wire.read_all() == 1
    assert wire.calls == [COLUMNS]
    assert wire.symbols == [datagram(number) for number in range(COLUMNS)]


def test_a_shorter_last_datagram_is_a_message(wire: Wire) -> None:
    wire.send_train(1, 2, 3, tail=BEAT)
    wire.read_all()
    assert wire.symbols == [datagram(number) for number in (1, 2, 3)]
    assert wire.messages == [BEAT]


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("message", [b"", b"x", BEAT, datagram(1)[:-1]], ids=len)
def test_what_is_no_symbol_is_a_message(wire: Wire, message: bytes, batches: bool) -> None:
    if batches:
        wire.change_to_batches()
    for payload in (datagram(7), message, datagram(8)):
        wire.sender.send(payload)
    wire.read_all()
    assert wire.messages == [message]
    assert wire.symbols == [datagram(7), datagram(8)]


def test_small_datagrams_in_a_train_are_messages_each(wire: Wire) -> None:
    TrainSender(wire.sender).send([b"one.", b"two.", b"3"], 4)
    wire.read_all()
    assert wire.messages == [b"one.", b"two.", b"3"]


def test_lone_datagrams_are_soon_read_many_at_a_time(wire: Wire) -> None:
    wire.change_to_batches()
    numbers = range(LONE_AT_ONCE + 30)
    for number in numbers:
        wire.sender.send(datagram(number))
    assert wire.read_all() == 1  # and a second one, which found less than it could take: nothing waits any more
    assert wire.symbols == [datagram(number) for number in numbers]


def test_a_train_that_comes_after_all_is_not_cut(wire: Wire) -> None:
    """The kernel parts it again for a socket without GRO."""
    wire.change_to_batches()
    wire.send_train(*range(COLUMNS))
    wire.read_all()
    assert wire.symbols == [datagram(number) for number in range(COLUMNS)]


def test_trains_that_are_long_enough_on_average_keep_the_reader_with_trains(wire: Wire) -> None:
    """Every second message is a lone datagram; the others make up for it."""
    for _ in range(JUDGED_READS):
        wire.sender.send(datagram(1))
        wire.send_train(*range(2 * FEW_DATAGRAMS))
        wire.read_all()
    assert wire.calls[-2:] == [1, 2 * FEW_DATAGRAMS]


def test_short_trains_are_given_up_for_many_datagrams_at_once(wire: Wire) -> None:
    for _ in range(JUDGED_READS):
        wire.send_train(1, 2)
        wire.read_all()
    wire.calls.clear()
    wire.send_train(1, 2)
    wire.send_train(3, 4)
    wire.read_all()
    assert wire.calls == [4]
    assert wire.symbols[-4:] == [datagram(number) for number in (1, 2, 3, 4)]


def test_without_recvmmsg_lone_datagrams_are_read_one_by_one(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_reader, "find_recvmmsg", lambda: None)
    wire.reader = TrainReader(wire.sock, wire)
    assert not wire.reader.read(0.0)
    for number in range(JUDGED_READS + 5):
        wire.sender.send(datagram(number))
    wire.send_train(1, 2, 3, tail=BEAT)
    assert wire.read_all() == JUDGED_READS + 6
    assert wire.symbols == [datagram(number) for number in [*range(JUDGED_READS + 5), 1, 2, 3]]
    assert wire.messages == [BEAT]


def test_a_message_has_the_time_of_its_arrival_and_not_of_its_reading(wire: Wire) -> None:
    for _ in range(2):
        wire.sender.send(BEAT)
        time.sleep(0.05)
    while wire.reader.read(100.0):
        pass
    first, second = wire.arrivals
    assert 99.0 < first < 100.0 - 0.09
    assert first + 0.04 < second <= 100.0 - 0.04


def land(wire: Wire, symbols: int) -> memoryview:
    wire.storage = memoryview(bytearray(symbols * SYMBOL_BYTES))
    return wire.storage


def content(*numbers: int) -> bytes:
    return b"".join(datagram(number)[HEADER_BYTES:] for number in numbers)


def test_what_is_expected_lands_where_it_belongs_many_trains_at_once(wire: Wire) -> None:
    trains = 3 * TRAINS_AT_ONCE
    storage = land(wire, trains * 2)
    for train in range(trains):
        wire.send_train(2 * train, 2 * train + 1)
    assert wire.read_all() < trains // 4
    assert wire.symbols == []
    assert sum(wire.landed) == trains * 2
    assert storage == content(*range(trains * 2))


def test_trains_of_any_length_land_one_at_a_time(wire: Wire) -> None:
    storage = land(wire, 80)
    at = 0
    for count in (20, 3, 7, 20, 1, 1, 8, 8, 8, 4):
        wire.send_train(*range(at, at + count))
        at += count
    wire.read_all()
    assert wire.symbols == []
    assert storage == content(*range(80))


@pytest.mark.parametrize("batches", [False, True])
def test_what_was_not_expected_is_handed_over_and_damages_nothing(wire: Wire, batches: bool) -> None:
    if batches:
        wire.change_to_batches()
    storage = land(wire, 120)
    sent: list[int] = []
    for train in range(20):
        numbers = range(train * 4, (train + 1) * 4)
        if train not in (9, 15):  # lost
            wire.send_train(*numbers)
            sent.extend(numbers)
        if train in (3, 18):
            wire.sender.send(BEAT)
    wire.read_all()
    landed = sum(wire.landed)
    assert landed in (16, 36)  # what follows the message landed one place too far if it was read with it
    assert storage[: landed * SYMBOL_BYTES] == content(*range(landed))
    assert wire.symbols == [datagram(number) for number in sent[landed:]]
    assert wire.messages == [BEAT, BEAT]


def test_a_train_that_goes_beyond_the_buffer_is_handed_over_from_there_on(wire: Wire) -> None:
    storage = land(wire, 20)
    wire.send_train(*range(COLUMNS))
    wire.read_all()
    assert storage == content(*range(20))
    assert wire.symbols == [datagram(number) for number in range(20, COLUMNS)]


@pytest.mark.parametrize("batches", [False, True])
def test_what_the_socket_had_no_room_for_is_counted(batches: bool) -> None:
    wire = Wire()
    if batches:
        wire.change_to_batches()
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    for number in range(100):
        wire.sender.send(datagram(number))
    wire.read_all()
    wire.sender.send(datagram(100))  # the kernel tells of drops with the next datagram that has room
    wire.read_all()
    assert wire.reader.socket_drops == 101 - len(wire.symbols)
    assert wire.reader.socket_drops > 50
    wire.close()


def test_an_error_of_the_socket_is_raised(wire: Wire) -> None:
    wire.change_to_batches()
    wire.sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        wire.reader.read(0.0)


def test_a_train_longer_than_those_before_is_not_cut_when_many_are_read_at_once(wire: Wire) -> None:
    storage = land(wire, 100)
    lengths = [2] * 8 + [7, 2, 2, 5, 2, 2, 2, 2]
    at = 0
    for _ in range(8):  # so that the reader expects pairs, and many of them
        wire.send_train(at, at + 1)
        at += 2
    wire.read_all()
    for length in lengths:
        wire.send_train(*range(at, at + length))
        at += length
    wire.read_all()
    landed = sum(wire.landed)
    assert landed >= 16 + 16
    assert storage[: landed * SYMBOL_BYTES] == content(*range(landed))
    assert wire.symbols == [datagram(number) for number in range(landed, at)]
