# SPDX-License-Identifier: Apache-2.0
"""One sender and its receivers, the real machines, real bytes and the real code, in virtual time."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence

from tests.sim.clock import Clock
from tests.sim.content import Content
from tests.sim.link import carry
from tests.sim.node import Node

from dpd.protocol.multicast.geometry import ROW_BYTES
from dpd.protocol.multicast.message import HEADER_BYTES, Beat, Control, Flag, MessageType, Ncf, decode_header
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.receiver import Receiver, SessionFact, SlabReady
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import ParityNeeded, Sender, SlabSettled, Train

SESSION, EPOCH = 0x5E5510, 3
REJOIN_S = 0.5  # from a lost session to the next join
MOVE_S = 0.02  # from an order to the next join
LEAVE_S = 0.01  # from the last slab to the completion's arrival


def sign(body: bytes) -> bytes:
    """Stands for Ed25519: 64 bytes that a forger without the key cannot make. Quick, and real enough for a simulation."""
    return hashlib.sha512(b"the sender's key" + body).digest()


def verify(body: bytes, signature: bytes) -> bool:
    return sign(bytes(body)) == bytes(signature)


class Stream:
    """One speed class: a sender, its content, and what it sent."""

    def __init__(self, content: Content, clock: Clock, epoch: int, speed_class: int, rate_bit_s: float) -> None:
        self.content = content
        self.speed_class = speed_class
        self.sent_symbols = 0
        self.rows_sent: Counter[int] = Counter()  # source rows by slab, each time they were sent in their turn
        self.wakes_at = math.inf
        self.sender = Sender(
            session=SESSION,
            epoch=epoch,
            geometry=content.geometry,
            bucket=TokenBucket(rate_bit_s, ROW_BYTES, clock.now),
            schedule=Schedule(0.05, 2.0),
            speed_class=speed_class,
        )

    def note(self, train: Train) -> None:
        self.sent_symbols += train.count
        for at in range(0, len(train.headers), HEADER_BYTES):
            header = decode_header(train.headers[at : at + HEADER_BYTES])
            if header.type is MessageType.DATA and header.column == 0 and not header.flags & Flag.REPAIR:
                self.rows_sent[train.slab] += 1


class Group:
    """Runs a session until every living receiver has the object, byte for byte. `slower_bit_s`: further speed classes."""

    def __init__(
        self,
        content: Content,
        nodes: Sequence[Node],
        rng: random.Random,
        rate_bit_s: float = 1e9,
        slower_bit_s: Sequence[float] = (),
    ) -> None:
        self.clock = Clock()
        self.content = content
        self.nodes = nodes
        self.rng = rng
        self.epoch = EPOCH
        self._rates = (rate_bit_s, *slower_bit_s)
        self.streams = self._make_streams()
        for node in nodes:
            self.clock.at(node.joins_at, lambda node=node: self._join(node))  # type: ignore[misc]

    def _make_streams(self) -> list[Stream]:
        return [Stream(self.content, self.clock, self.epoch, i, rate) for i, rate in enumerate(self._rates)]

    def run(self, limit_s: float = 600.0) -> None:
        """Raises AssertionError where a receiver does not finish or holds a wrong byte."""
        self.clock.run(lambda: all(n.finished_at is not None or n.is_dead for n in self.nodes), limit_s)
        for node in self.nodes:
            if not node.is_dead:
                assert all(stored == self.content.slabs[slab] for slab, stored in node.stored.items())
                assert node.running.is_finished
                assert node.running.buffers <= node.slots

    @property
    def sender(self) -> Sender:
        """That of the first speed class."""
        return self.streams[0].sender

    @property
    def rows_sent(self) -> Counter[int]:
        return self.streams[0].rows_sent

    @property
    def sent_ratio(self) -> float:
        """Symbols sent ÷ symbols in the object."""
        return sum(s.sent_symbols for s in self.streams) / self.content.symbols

    # ---- what happens to them

    def restart_sender(self) -> None:
        """The daemon was killed and is back: another epoch, and nobody is a member."""
        before = self.streams
        self.epoch += 1
        self.streams = self._make_streams()
        for stream, gone in zip(self.streams, before, strict=True):
            stream.sent_symbols, stream.rows_sent = gone.sent_symbols, gone.rows_sent

    def restart_receiver(self, node: Node, away_s: float) -> None:
        """It was killed: what it had verified is on its disk, and it joins again."""
        assert node.machine is not None
        node.verified, node.machine = node.machine.verified, None
        self.clock.at(self.clock.now + away_s, lambda: self._join(node))

    def _join(self, node: Node) -> None:
        if node.is_dead:
            return
        now, stream = self.clock.now, self.streams[node.speed_class]
        stream.sender.add_member(
            node.member, verified=node.verified, credit=node.credit, free_slabs=node.slots, now=now
        )
        node.machine = Receiver(
            session=SESSION,
            epoch=self.epoch,
            member=node.member,
            geometry=self.content.geometry,
            verified=node.verified,
            slots=node.slots,
            credit=node.credit,
            rng=self.rng,
            now=node.local(now),
            verify=verify,
        )
        self._drive_receiver(node)
        self._drive_sender(stream)

    # ---- the sender's side

    def _drive_sender(self, stream: Stream) -> None:
        now, sender = self.clock.now, stream.sender
        if stream not in self.streams:  # it was killed
            return
        sender.handle_timeout(now)
        while out := sender.poll_transmit(now):
            self._multicast(stream, self._datagrams(stream, out))
        while event := sender.next_event():
            if isinstance(event, ParityNeeded):
                self.content.compute_parity(event.slab, event.first, event.count)
                sender.provide_parity(event.slab, event.first + event.count)
                self.clock.at(now, lambda: self._drive_sender(stream))
            elif isinstance(event, SlabSettled) and len(self.streams) == 1:
                self.content.drop_parity(event.slab)
        at = sender.next_timeout(now)
        if at is not None and max(at, now + 1e-6) < stream.wakes_at:
            stream.wakes_at = max(at, now + 1e-6)
            self.clock.at(stream.wakes_at, lambda: self._wake_sender(stream))

    def _datagrams(self, stream: Stream, out: Train | Beat | Ncf | Control) -> list[bytes]:
        if isinstance(out, Train):
            stream.note(out)
            return self.content.datagrams(out)
        return [out.encode() if isinstance(out, Ncf) else out.encode(sign)]

    def _wake_sender(self, stream: Stream) -> None:
        if self.clock.now >= stream.wakes_at:  # else an earlier wake-up took its place
            stream.wakes_at = math.inf
            self._drive_sender(stream)

    def _multicast(self, stream: Stream, datagrams: list[bytes]) -> None:
        for node in self.nodes:
            if node.is_listening and node.speed_class == stream.speed_class:
                self._deliver(node, datagrams)

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

    def feed_back(self, datagram: bytes) -> None:
        """Whatever comes to the sender's feedback port; every class looks whether it is for it."""
        for stream in self.streams:
            stream.sender.receive_datagram(datagram, ("receiver", 1), self.clock.now)
            self._drive_sender(stream)

    # ---- a receiver's side

    def _receive(self, node: Node, run: list[bytes]) -> None:
        if node.machine and not node.is_dead:
            train = bytearray(b"".join(run))
            node.machine.receive_train(train, len(train), max(len(run[0]), 1), node.local(self.clock.now))
            self._drive_receiver(node)

    def _drive_receiver(self, node: Node) -> None:
        now, machine = self.clock.now, node.machine
        if machine is None or node.is_dead:
            return
        if machine.next_timeout() <= node.local(now):
            machine.handle_timeout(node.local(now))
        while feedback := machine.poll_transmit(node.local(now)):
            for time, datagram in carry(node.back, [feedback.encode()], now, self.rng):
                self.clock.at(time, lambda d=datagram: self.feed_back(d))  # type: ignore[misc]
        while event := machine.next_event():
            if isinstance(event, SlabReady):
                self.clock.at(now + node.disk_s, lambda ready=event: self._store(node, machine, ready))  # type: ignore[misc]
            elif isinstance(event, SessionFact) and not self._take_fact(node, event):
                return
        if node.finished_at is None:
            self.clock.at(node.due(now), lambda: self._wake(node))

    def _take_fact(self, node: Node, fact: SessionFact) -> bool:
        """What a receiver's owner does when its work here has ended. False: its machine is one of the past."""
        now, sender = self.clock.now, self.streams[node.speed_class].sender
        if fact is SessionFact.FINISHED:
            if node.finished_at is None:
                node.finished_at = now
                self.clock.at(now + LEAVE_S, lambda: sender.remove_member(node.member))
            return True
        node.verified, node.machine = node.running.verified, None
        if fact in (SessionFact.ENDED, SessionFact.SILENT):
            node.lost_sessions += 1
            self.clock.at(now + REJOIN_S, lambda: self._join(node))
            return False
        node.orders.append(fact)
        self.clock.at(now + MOVE_S, lambda: sender.remove_member(node.member))
        if fact is SessionFact.MOVED:
            node.speed_class += 1
            self.clock.at(now + MOVE_S, lambda: self._join(node))
        else:  # FALL_BACK, KICKED: it is not the session's any more
            node.is_dead = True
        return False

    def _wake(self, node: Node) -> None:
        if node.machine and node.finished_at is None and node.machine.next_timeout() <= node.local(self.clock.now):
            self._drive_receiver(node)

    def _store(self, node: Node, machine: Receiver, ready: SlabReady) -> None:
        if node.machine is not machine:  # killed meanwhile; or it joined anew, and nothing was marked yet
            return
        assembly = ready.assembly
        if node.store(self.content, assembly):
            machine.provide_verified(assembly, True, node.local(self.clock.now))
        elif node.leaves_s is not None:
            self.clock.at(self.clock.now + node.leaves_s, lambda: self._mend(node, machine, ready))
            return
        else:
            machine.provide_verified(assembly, False, node.local(self.clock.now))
        self._drive_receiver(node)

    def _mend(self, node: Node, machine: Receiver, ready: SlabReady) -> None:
        """The leaves of a damaged slab have come: what they confirm is kept."""
        if node.machine is machine:
            ready.assembly.keep_confirmed(self.content.leaves(ready.assembly.slab))
            machine.provide_damaged(ready.assembly, node.local(self.clock.now))
            self._drive_receiver(node)
