# SPDX-License-Identifier: Apache-2.0
"""One sender and its receivers, the real machines, real bytes and the real code, in virtual time."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.sim.clock import Clock
from tests.sim.link import Delay, Element, carry

from dpd.protocol.multicast.fec import Codec, encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import HEADER_BYTES
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.receiver import Receiver, SessionFact, SlabReady
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import ParityNeeded, Sender, Train
from dpd.service.isal import best_codec

SESSION, EPOCH = 0x5E5510, 3
CODEC: Codec = best_codec()


class Content:
    """An object and what a sender's owner does with it: symbols of rows, parity by the real code."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.geometry = Geometry(len(content))
        self.hashes = [hashlib.sha256(self.slab(s)).digest() for s in range(self.geometry.slab_count)]
        self._parity: dict[tuple[int, int], bytearray] = {}

    def slab(self, slab: int) -> bytes:
        start = slab * SLAB_BYTES
        return self.content[start : start + self.geometry.slab_bytes(slab)]

    def padded(self, slab: int) -> bytearray:
        return bytearray(self.slab(slab).ljust(self.geometry.rows(slab) * ROW_BYTES, b"\0"))

    def compute_parity(self, slab: int, first: int, count: int) -> None:
        for i, row in enumerate(encode_parity(CODEC, memoryview(self.padded(slab)), first, count)):
            self._parity[slab, first + i] = row

    def row(self, slab: int, row: int) -> bytes:
        if row >= ROWS:
            return bytes(self._parity[slab, row - ROWS])
        start = slab * SLAB_BYTES + row * ROW_BYTES
        return self.content[start : start + ROW_BYTES].ljust(ROW_BYTES, b"\0")

    def datagrams(self, train: Train) -> list[bytes]:
        headers = [train.headers[i : i + HEADER_BYTES] for i in range(0, len(train.headers), HEADER_BYTES)]
        symbols = train.symbols or [(train.row, column) for column in range(COLUMNS)]
        rows = {row: self.row(train.slab, row) for row in {row for row, _ in symbols}}
        return [h + rows[r][c * SYMBOL_BYTES :][:SYMBOL_BYTES] for h, (r, c) in zip(headers, symbols, strict=True)]


@dataclass(eq=False)
class Node:
    """A receiver, the path to it, the path back, its disk."""

    member: int
    path: Sequence[Element]
    back: Sequence[Element]
    joins_at: float = 0.0
    disk_s: float = 0.001  # to recover, hash and write a slab
    slots: int = 16
    credit: int = 20_000
    verified: int = 0
    machine: Receiver | None = None
    stored: dict[int, bytes] = field(default_factory=dict)
    finished_at: float | None = None
    is_dead: bool = False
    lost_sessions: int = 0


class Group:
    """Runs a session until every living receiver has the object, byte for byte."""

    def __init__(self, content: Content, nodes: Sequence[Node], rng: random.Random, rate_bit_s: float = 1e9) -> None:
        self.clock = Clock()
        self.content = content
        self.nodes = nodes
        self.rng = rng
        self.sender = Sender(
            session=SESSION,
            epoch=EPOCH,
            geometry=content.geometry,
            bucket=TokenBucket(rate_bit_s, ROW_BYTES, 0.0),
            schedule=Schedule(0.05, 2.0),
        )
        self.sent_symbols = 0
        self.rows_sent: Counter[int] = Counter()  # source rows by slab, each time they were sent in their turn
        self._sender_wakes_at = math.inf
        for node in nodes:
            self.clock.at(node.joins_at, lambda node=node: self._join(node))  # type: ignore[misc]

    def run(self, limit_s: float = 600.0) -> None:
        """Raises AssertionError where a receiver does not finish or holds a wrong byte."""
        self.clock.run(lambda: all(n.finished_at is not None or n.is_dead for n in self.nodes), limit_s)
        for node in self.nodes:
            if not node.is_dead:
                for slab, stored in node.stored.items():
                    assert stored == self.content.slab(slab)
                assert node.machine is not None
                assert node.machine.is_finished
                assert node.machine.buffers <= node.slots

    @property
    def sent_ratio(self) -> float:
        """Symbols sent ÷ symbols in the object."""
        return self.sent_symbols / sum(
            self.content.geometry.rows(s) * COLUMNS for s in range(self.content.geometry.slab_count)
        )

    def _join(self, node: Node) -> None:
        now = self.clock.now
        self.sender.add_member(node.member, verified=node.verified, credit=node.credit, free_slabs=node.slots, now=now)
        node.machine = Receiver(
            session=SESSION,
            epoch=EPOCH,
            member=node.member,
            geometry=self.content.geometry,
            verified=node.verified,
            slots=node.slots,
            credit=node.credit,
            rng=self.rng,
            now=now,
        )
        self._drive_receiver(node)
        self._drive_sender()

    def _drive_sender(self) -> None:
        now = self.clock.now
        self.sender.handle_timeout(now)
        while out := self.sender.poll_transmit(now):
            datagrams = self.content.datagrams(out) if isinstance(out, Train) else [out.encode()]
            if isinstance(out, Train):
                self.sent_symbols += out.count
                self.rows_sent[out.slab] += out.symbols is None
            for node in self.nodes:
                if node.machine and not node.is_dead and node.finished_at is None:
                    self._deliver(node, datagrams)
        while event := self.sender.next_event():
            if isinstance(event, ParityNeeded):
                self.content.compute_parity(event.slab, event.first, event.count)
                self.sender.provide_parity(event.slab, event.first + event.count)
                self.clock.at(now, self._drive_sender)
        at = self.sender.next_timeout(now)
        if at is not None and max(at, now + 1e-6) < self._sender_wakes_at:
            self._sender_wakes_at = max(at, now + 1e-6)
            self.clock.at(self._sender_wakes_at, self._wake_sender)

    def _wake_sender(self) -> None:
        if self.clock.now >= self._sender_wakes_at:  # else an earlier wake-up took its place
            self._sender_wakes_at = math.inf
            self._drive_sender()

    def _deliver(self, node: Node, datagrams: list[bytes]) -> None:
        flight = carry(node.path, datagrams, self.clock.now, self.rng)
        runs: list[tuple[float, list[bytes]]] = []
        for time, datagram in flight:  # what arrives together goes in as one train, as GRO would have it
            if runs and runs[-1][0] == time and len(runs[-1][1][0]) == len(datagram):
                runs[-1][1].append(datagram)
            else:
                runs.append((time, [datagram]))
        for time, run in runs:
            self.clock.at(time, lambda run=run: self._receive(node, run))  # type: ignore[misc]

    def _receive(self, node: Node, run: list[bytes]) -> None:
        if node.machine and not node.is_dead:
            train = bytearray(b"".join(run))
            node.machine.receive_train(train, len(train), len(run[0]), self.clock.now)
            self._drive_receiver(node)

    def _drive_receiver(self, node: Node) -> None:
        now, machine = self.clock.now, node.machine
        if machine is None or node.is_dead:
            return
        if machine.next_timeout() <= now:
            machine.handle_timeout(now)
        while feedback := machine.poll_transmit(now):
            for time, datagram in carry(node.back, [feedback.encode()], now, self.rng):
                self.clock.at(time, lambda d=datagram: self._feed_back(d))  # type: ignore[misc]
        while event := machine.next_event():
            if isinstance(event, SlabReady):
                self.clock.at(now + node.disk_s, lambda ready=event: self._store(node, machine, ready))  # type: ignore[misc]
            elif event is SessionFact.FINISHED:
                node.finished_at = now
                self.clock.at(now + 0.01, lambda: self.sender.remove_member(node.member))
            elif isinstance(event, SessionFact):  # the session is lost: what a receiver's owner does is to join again
                node.lost_sessions += 1
                node.verified = machine.verified
                self.clock.at(now + 0.5, lambda: self._join(node))
                return
        if node.finished_at is None:
            self.clock.at(max(machine.next_timeout(), now + 1e-6), lambda: self._wake(node))

    def _wake(self, node: Node) -> None:
        if node.machine and node.finished_at is None and node.machine.next_timeout() <= self.clock.now:
            self._drive_receiver(node)

    def _feed_back(self, datagram: bytes) -> None:
        self.sender.receive_datagram(datagram, ("receiver", 1), self.clock.now)
        self._drive_sender()

    def _store(self, node: Node, machine: Receiver, ready: SlabReady) -> None:
        assembly = ready.assembly
        machine.counters.recovered += assembly.recover(CODEC)
        stored = bytes(assembly.buffer[: self.content.geometry.slab_bytes(assembly.slab)])
        is_good = hashlib.sha256(stored).digest() == self.content.hashes[assembly.slab]
        if is_good:
            node.stored[assembly.slab] = stored
        machine.provide_verified(assembly, is_good, self.clock.now)
        self._drive_receiver(node)


def make_nodes(count: int, *elements: Element, back: Sequence[Element] = (), delay_s: float = 0.0001) -> list[Node]:
    """`count` receivers behind copies of the same path."""
    from copy import deepcopy

    return [
        Node(0x1000_0000_0001 + i, [Delay(delay_s), *deepcopy(list(elements))], [Delay(delay_s), *deepcopy(list(back))])
        for i in range(count)
    ]
