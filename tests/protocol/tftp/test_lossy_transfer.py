# SPDX-License-Identifier: Apache-2.0
"""Whole reads over a bad link in virtual time: loss, reorder and duplicates from one seed, clients of both habits.

DPD_SIM_SEED repeats a run; the seed is part of the test's id.
"""

from __future__ import annotations

import heapq
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest
from tests.protocol.tftp.extents import extent_of

from dpd.protocol.machine import Transmit
from dpd.protocol.tftp.events import ExtentNeeded, Finished, Verdict
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.packet import Ack, Data, OptionAck, ReadRequest, decode, encode
from dpd.protocol.tftp.transfer import ReadTransfer

CLIENT = ("192.0.2.9", 2070)
SEED = int(os.environ.get("DPD_SIM_SEED", "20241"))


@dataclass(frozen=True)
class Weather:
    """What the link does to one datagram in each direction."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.001
    dead: bool = False


class Link:
    """An event heap with a virtual clock; delivers datagrams late, twice, out of order or never."""

    def __init__(self, weather: Weather, dice: random.Random) -> None:
        self.weather, self.dice = weather, dice
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (moment, next(self._order), action))

    def carry(self, datagram: bytes, deliver: Callable[[bytes], None]) -> None:
        copies = 2 if self.dice.random() < self.weather.duplicate else 1
        for _ in range(copies):
            if self.weather.dead or self.dice.random() < self.weather.loss:
                continue
            late = self.weather.delay_s * (3 if self.dice.random() < self.weather.reorder else 1)
            self.at(self.now + late, lambda: deliver(datagram))

    def run(self, until: Callable[[], bool], limit_s: float = 3600.0) -> None:
        while not until() and self._heap and self.now < limit_s:
            self.now, _, action = heapq.heappop(self._heap)
            action()


class Client:
    """An RFC 7440 receiver. `chatty` as EDK2: an ACK for every datagram out of order; else one for each gap."""

    def __init__(self, link: Link, windowsize: int, *, chatty: bool, timeout_s: float = 1.0) -> None:
        self.link, self.windowsize, self.chatty, self.timeout_s = link, windowsize, chatty, timeout_s
        self.received = bytearray()
        self.blksize = 512
        self.block = 0
        self.since_ack = 0
        self.gap_told_at = -1
        self.complete = False
        self.heard = 0
        self.send: Callable[[bytes], None]

    def receive(self, wire: bytes) -> None:
        self.heard += 1
        match decode(wire):
            case OptionAck(options):
                self.blksize = int(dict(options).get("blksize", 512))
                self.windowsize = int(dict(options).get("windowsize", 1))
                if self.block == 0:
                    self.acknowledge()
            case Data(number, payload) if number == (self.block + 1) & 0xFFFF and not self.complete:
                self.accept(payload)
            case Data(number, _):
                self.receive_out_of_order(number)

    def accept(self, payload: bytes) -> None:
        self.received += payload
        self.block += 1
        self.since_ack += 1
        self.complete = len(payload) < self.blksize
        if self.complete or self.since_ack >= self.windowsize:
            self.acknowledge()

    def receive_out_of_order(self, number: int) -> None:
        own_ack_lost = number == self.block & 0xFFFF and self.since_ack == 0
        behind = (self.block - number) & 0xFFFF < 32768
        if self.chatty or own_ack_lost or (not behind and self.gap_told_at != self.block):
            self.gap_told_at = self.block
            self.acknowledge()

    def acknowledge(self) -> None:
        self.since_ack = 0
        self.send(encode(Ack(self.block & 0xFFFF)))
        self.watch()

    def watch(self) -> None:
        block = self.block
        self.link.at(self.link.now + self.timeout_s, lambda: self.expire(block))

    def expire(self, block: int) -> None:
        if self.complete:
            return
        if block == self.block:  # nothing useful came since: say it again
            self.acknowledge()
        else:
            self.watch()


class Server:
    """The machine, pumped as service/driver.py does it."""

    def __init__(self, link: Link, content: bytes, transfer: ReadTransfer, to_client: Callable[[bytes], None]) -> None:
        self.link, self.content, self.transfer, self.to_client = link, content, transfer, to_client
        self.finished: Finished | None = None
        self.pump()

    def receive(self, wire: bytes) -> None:
        self.transfer.receive_datagram(wire, CLIENT, self.link.now)
        self.pump()

    def expire(self) -> None:
        self.transfer.handle_timeout(self.link.now)
        self.pump()

    def pump(self) -> None:
        busy = True
        while busy:
            busy = False
            while transmit := self.transfer.poll_transmit(self.link.now):
                self.put(transmit)
            while event := self.transfer.next_event():
                busy = True
                if isinstance(event, ExtentNeeded):
                    self.transfer.provide_extent(*extent_of(self.content, event))
                elif isinstance(event, Finished):
                    self.finished = event
        deadline = self.transfer.next_timeout()
        if deadline is not None:
            self.link.at(deadline, self.expire)

    def put(self, transmit: Transmit) -> None:
        gathered = b"".join(transmit.pieces)
        size = transmit.segment_size or len(gathered)
        for start in range(0, len(gathered), size):
            self.link.carry(gathered[start : start + size], self.to_client)


def run_read(
    weather: Weather, windowsize: int, *, chatty: bool, seed: int = SEED, blocks: int = 400
) -> tuple[Client, Server]:
    dice = random.Random(seed)
    content = dice.randbytes(blocks * 512 + dice.randrange(512))
    link = Link(weather, dice)
    client = Client(link, windowsize, chatty=chatty)
    options = (("windowsize", str(windowsize)),) if windowsize > 1 else ()
    transfer = ReadTransfer(ReadRequest("f", "octet", options), CLIENT, len(content), Limits(timeout_s=0.5, attempts=8))
    server = Server(link, content, transfer, client.receive)
    client.send = lambda wire: link.carry(wire, server.receive)
    link.run(lambda: transfer.finished)
    if server.finished and server.finished.verdict is Verdict.COMPLETED:
        assert client.received == content
    return client, server


WEATHERS = {
    "calm": Weather(),
    "loss": Weather(loss=0.05),
    "reorder": Weather(reorder=0.05),
    "duplicate": Weather(duplicate=0.1),
    "storm": Weather(loss=0.1, reorder=0.1, duplicate=0.1),
}


@pytest.mark.parametrize("chatty", [False, True], ids=["rfc7440", "edk2"])
@pytest.mark.parametrize("windowsize", [1, 4, 16, 64])
@pytest.mark.parametrize("name", WEATHERS)
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
def test_the_file_arrives_whole_through_any_weather(name: str, windowsize: int, chatty: bool, seed: int) -> None:
    client, server = run_read(WEATHERS[name], windowsize, chatty=chatty, seed=seed)
    assert server.finished == Finished(Verdict.COMPLETED)
    assert client.complete
    if name == "calm":
        assert server.transfer.retransmits == 0


@pytest.mark.parametrize("windowsize", [4, 16, 64])
@pytest.mark.parametrize("name", ["loss", "reorder", "duplicate"])
def test_a_chatty_client_does_not_multiply_the_traffic(name: str, windowsize: int) -> None:
    """Each disturbance costs a window at most, not one for each of EDK2's ACKs."""
    _, quiet = run_read(WEATHERS[name], windowsize, chatty=False)
    _, chatty = run_read(WEATHERS[name], windowsize, chatty=True)
    assert chatty.transfer.datagrams_sent < 2 * quiet.transfer.datagrams_sent + windowsize
    disturbances = 400 * 0.1 * 2
    assert chatty.transfer.retransmits < disturbances * windowsize


@pytest.mark.parametrize(("windowsize", "chatty", "factor"), [(1, True, 1.0), (16, False, 1.2), (16, True, 2.0)])
def test_duplicated_acks_are_not_answered_with_ever_more_data(windowsize: int, chatty: bool, factor: float) -> None:
    """The Sorcerer's Apprentice, on a link that doubles every datagram. A client that also acknowledges each copy inside
    a window looks like one that loses a block in each: at most one restart for each window, and it does not grow."""
    _, server = run_read(Weather(duplicate=1.0), windowsize, chatty=chatty)
    assert server.transfer.datagrams_sent <= factor * server.transfer.last_block + windowsize


def test_a_dead_link_ends_in_a_timeout() -> None:
    client, server = run_read(Weather(dead=True), 16, chatty=False)
    assert server.finished is not None
    assert server.finished.verdict is Verdict.TIMEOUT
    assert client.heard == 0
