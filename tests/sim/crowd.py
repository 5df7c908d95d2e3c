# SPDX-License-Identifier: Apache-2.0
"""The real sender before very many receivers: its machine gets and gives real messages; of each receiver there is a row of
numbers. For what depends on how many they are and on minutes of line rate: joins by the thousand, stalls, late joins.

A receiver here takes a slab from its first row on when one of its buffers is free, loses what the channel says, asks for
what it lacks after a back-off, stores slabs one after the other at its disk's speed, and reports as `ReportTimer` says.
Nothing is reordered, and feedback is not lost. What else a receiver does is in `group.py`, which has the real one.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tests.sim.channel import Channel, Numbers
from tests.sim.clock import Clock
from tests.sim.vector import REORDER_GRACE_S, nack_width_s, truncated_exponential

from dpd.protocol.multicast.gaps import Gaps
from dpd.protocol.multicast.geometry import COLUMNS, Geometry
from dpd.protocol.multicast.message import (
    HEADER_BYTES,
    MAX_NACK_SLABS,
    Beat,
    Flag,
    Header,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Tally,
)
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.reporting import ReportTimer
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import ParityNeeded, Sender, Train

SESSION, EPOCH, FIRST_MEMBER = 7, 1, 0x2000_0000
DELAY_S = 0.0001
LEAVE_S = 0.01
_ROW_AND_COLUMN = struct.Struct("!12xHB")


@dataclass(eq=False)
class Light:
    """One receiver, by its number in the channel."""

    number: int
    joins_at: float = 0.0
    disk_s: float = 0.005  # to recover, hash and write a slab
    slots: int = 16
    credit: int = 13_000
    sleeps: tuple[float, float] = (math.inf, math.inf)  # from, to: it does not read from its socket
    vanishes_at: float = math.inf
    has_joined: bool = False
    verified: int = 0
    held: set[int] = field(default_factory=set)  # being stored
    seen: int = -1
    disk_free_at: float = 0.0
    finished_at: float | None = None
    timer: ReportTimer = field(default_factory=lambda: ReportTimer(0.0))
    is_representative: bool = False
    wakes_at: float = math.inf
    gaps: Gaps = field(default_factory=Gaps)

    @property
    def member(self) -> int:
        return FIRST_MEMBER + self.number


class Slab:
    """What all receivers have of one slab: `lost` int[receivers, columns] of the `sent` int[columns]."""

    def __init__(self, receivers: int, rows: int, taking: Numbers) -> None:
        self.rows = rows
        self.sent = np.zeros(COLUMNS, np.int64)
        self.lost = np.zeros((receivers, COLUMNS), np.int64)
        self.wanting = set(map(int, taking))  # receivers that assemble it and have not got k symbols in each column

    def lacking(self, numbers: Sequence[int]) -> Numbers:
        """int[numbers, columns]"""
        lacking: Numbers = np.maximum(self.rows + self.lost[numbers] - self.sent, 0)
        return lacking


class Crowd:
    """`sender_cpu_s`: process time spent in the sender's machine; `feedback`: packets that came to it."""

    def __init__(
        self, channel: Channel, lights: Sequence[Light], slabs: int, rate_bit_s: float, rng: np.random.Generator
    ) -> None:
        self.clock = Clock()
        self.geometry = Geometry(slabs * 32 * 128 * 1408)
        self.lights = lights
        self.sent = 0
        self.feedback = 0
        self.sender_cpu_s = 0.0
        self.sender = Sender(
            session=SESSION,
            epoch=EPOCH,
            geometry=self.geometry,
            bucket=TokenBucket(rate_bit_s, 32 * 1408, 0.0),
            schedule=Schedule(0.25, 2.0),
        )
        self._channel = channel
        self._rng = rng
        self._slabs: dict[int, Slab] = {}
        self._current = -1
        self._joined: list[Light] = []
        self._wakes_at = math.inf
        self._members = 1
        for light in lights:
            self.clock.at(light.joins_at, lambda light=light: self._join(light))  # type: ignore[misc]

    def run(self, limit_s: float) -> None:
        """Until everybody who has not vanished has everything."""
        self.clock.run(
            lambda: all(li.finished_at is not None or li.vanishes_at < math.inf for li in self.lights), limit_s
        )

    @property
    def sent_ratio(self) -> float:
        return self.sent / (self.geometry.slab_count * 32 * 128)

    # ---- the sender's side

    def _join(self, light: Light) -> None:
        now = self.clock.now
        with self._counted():
            self.sender.add_member(light.member, verified=0, credit=light.credit, free_slabs=light.slots, now=now)
        light.has_joined = True
        light.timer.due = now
        self._joined.append(light)
        self._wake_light(light)
        self._drive()

    def _counted(self) -> _Counted:
        return _Counted(self)

    def _drive(self) -> None:
        now, sender = self.clock.now, self.sender
        while True:
            with self._counted():
                sender.handle_timeout(now)
                out = sender.poll_transmit(now)
                events = list(iter(sender.next_event, None))
                at = sender.next_timeout(now)
            for event in events:
                if isinstance(event, ParityNeeded):
                    sender.provide_parity(event.slab, event.first + event.count)
            if out is None:
                break
            self._take(out)
        if at is not None and max(at, now + 1e-6) < self._wakes_at:
            self._wakes_at = max(at, now + 1e-6)
            self.clock.at(self._wakes_at, self._wake)

    def _wake(self) -> None:
        if self.clock.now >= self._wakes_at:
            self._wakes_at = math.inf
            self._drive()

    def _tell(self, message: Nack | Report) -> None:
        self.feedback += 1
        datagram = message.encode()
        with self._counted():
            self.sender.receive_datagram(datagram, ("light", 1), self.clock.now)
        self._drive()

    # ---- the receivers' side

    def _take(self, out: object) -> None:
        if isinstance(out, Train):
            self._take_train(out)
        elif isinstance(out, Ncf):
            self._take_ncf(out)
        elif isinstance(out, Beat):
            self._take_beat(out)

    def _hearing(self) -> list[Light]:
        now = self.clock.now
        return [
            li for li in self._joined if li.finished_at is None and now < li.vanishes_at and not self._is_deaf(li, now)
        ]

    def _is_deaf(self, light: Light, now: float) -> bool:
        return light.sleeps[0] <= now < light.sleeps[1]

    def _take_train(self, train: Train) -> None:
        self.sent += train.count
        headers = [train.headers[at : at + HEADER_BYTES] for at in range(0, len(train.headers), HEADER_BYTES)]
        places = [_ROW_AND_COLUMN.unpack_from(header) for header in headers]
        flags = headers[-1][1]
        last_seq = int.from_bytes(headers[-1][16:20], "big")
        if not flags & Flag.REPAIR and train.slab != self._current:
            self._begin(train.slab)
        slab = self._slabs[train.slab]
        columns = np.array([column for _, column in places])
        receivers, positions = self._channel.lose(len(columns))
        slab.sent += np.bincount(columns, minlength=COLUMNS)
        np.add.at(slab.lost, (receivers, columns[positions]), 1)
        for light in self._joined:
            if self._is_deaf(light, self.clock.now):
                slab.lost[light.number] += np.bincount(columns, minlength=COLUMNS)
            elif light.finished_at is None:
                light.seen = last_seq
        if flags & Flag.END_OF_SLAB:
            self._end(train.slab, slab)
        self._report_windows(last_seq)

    def _begin(self, number: int) -> None:
        self._current = number
        taking = [li.number for li in self._hearing() if self._may_take(li, number)]
        if number in self._slabs:  # sent again: those who are still at it go on with what they have
            old = self._slabs[number]
            fresh = [n for n in taking if n not in old.wanting]
            old.lost[fresh] = old.sent
            old.wanting |= set(fresh)
            old.rows = self.geometry.rows(number)
        else:
            self._slabs[number] = Slab(len(self.lights), self.geometry.rows(number), np.array(taking, np.int64))

    def _may_take(self, light: Light, number: int) -> bool:
        assembling = sum(light.number in slab.wanting for slab in self._slabs.values())
        return (
            not light.verified >> number & 1 and number not in light.held and len(light.held) + assembling < light.slots
        )

    def _end(self, number: int, slab: Slab) -> None:
        """The last symbol of a slab, or of a burst of repairs."""
        now, wanting, width_s = self.clock.now, sorted(slab.wanting), nack_width_s(self._members)
        lacking = slab.lacking(wanting).sum(axis=1).tolist()
        chances = self._rng.random(len(wanting))
        waits = REORDER_GRACE_S + truncated_exponential(width_s, max(self._members, 2), chances)
        for who, lacks, wait in zip(wanting, lacking, waits.tolist(), strict=True):
            light = self.lights[who]
            if not lacks:
                self._complete(light, number, slab)
            elif self._is_awake(light):
                light.gaps.ask(number, now, wait, light.gaps.patience_s(width_s), lacks)
                self._wake_light(light)
        if not slab.wanting and number != self._current:
            del self._slabs[number]

    def _is_awake(self, light: Light) -> bool:
        now = self.clock.now
        return now < light.vanishes_at and not self._is_deaf(light, now)

    def _ask(self, light: Light) -> None:
        now, width_s = self.clock.now, nack_width_s(self._members)
        wanted = []
        for number in light.gaps.take_due(now, 2 * width_s, MAX_NACK_SLABS):
            lacking = self._slabs[number].lacking([light.number])[0]
            light.gaps.note_asked(number, now, int(lacking.sum()))
            wanted.append(SlabDeficits(number, np.minimum(lacking, 255).astype(np.uint8).tobytes()))
        if wanted:
            header = Header(MessageType.NACK, SESSION, EPOCH)
            self._tell(Nack(header, light.member, max(light.seen, 0), tuple(wanted)))

    def _take_ncf(self, ncf: Ncf) -> None:
        now, width_s = self.clock.now, nack_width_s(self._members)
        for announced in ncf.slabs:
            slab = self._slabs.get(announced.slab)
            waiting = [who for who in slab.wanting if announced.slab in self.lights[who].gaps] if slab else []
            if slab is None or not waiting:
                continue
            coming = np.frombuffer(announced.deficits, np.uint8)
            is_covered = (slab.lacking(waiting) <= coming).all(axis=1)
            for who in np.array(waiting)[is_covered]:
                gaps = self.lights[who].gaps
                gaps.put_off(announced.slab, now, gaps.patience_s(width_s))

    def _complete(self, light: Light, number: int, slab: Slab) -> None:
        slab.wanting.discard(light.number)
        light.gaps.drop(number)
        light.held.add(number)
        light.disk_free_at = max(light.disk_free_at, self.clock.now) + light.disk_s
        self.clock.at(light.disk_free_at, lambda: self._stored(light, number))

    def _stored(self, light: Light, number: int) -> None:
        now = self.clock.now
        light.held.discard(number)
        light.verified |= 1 << number
        if light.verified == self.geometry.every_slab:
            light.finished_at = now
            self._report(light)
            self.clock.at(now + LEAVE_S, lambda: self.sender.remove_member(light.member))
        elif light.is_representative:
            light.timer.soon(now)
            self._wake_light(light)

    # ---- reports

    def _report_windows(self, last_seq: int) -> None:
        for light in self._joined:
            is_due = light.is_representative and last_seq - light.timer.seen >= light.credit // 4
            if is_due and light.finished_at is None and self._is_awake(light):
                light.timer.of_window(last_seq, light.credit, self.clock.now)
                self._wake_light(light)

    def _take_beat(self, beat: Beat) -> None:
        now = self.clock.now
        self._members = beat.members
        named = set(beat.representatives)
        is_end = bool(beat.header.flags & Flag.END_OF_PASS)
        if is_end and self._current in self._slabs:
            self._end(self._current, self._slabs[self._current])
        for light in self._hearing():
            light.timer.members = beat.members
            light.is_representative = light.member in named
            light.seen = max(light.seen, beat.header.tx_seq) if beat.header.tx_seq < 1 << 31 else light.seen
            if light.is_representative and light.seen != light.timer.seen:
                light.timer.soon(now)
            if is_end:
                light.timer.answer_end(now, nack_width_s(self._members), _Chance(self._rng))  # type: ignore[arg-type]
            self._wake_light(light)

    def _wake_light(self, light: Light) -> None:
        at = max(min(light.timer.due, light.gaps.next_due()), self.clock.now + DELAY_S)
        if at < light.wakes_at:
            light.wakes_at = at
            self.clock.at(at, lambda: self._light_is_due(light))

    def _light_is_due(self, light: Light) -> None:
        now = self.clock.now
        if now < light.wakes_at:
            return
        light.wakes_at = math.inf
        if light.finished_at is not None or now >= light.vanishes_at:
            return
        if self._is_deaf(light, now):
            light.timer.due = light.sleeps[1]
            self.clock.at(light.sleeps[1], lambda: self._wake_light(light))
            return
        if light.timer.due <= now:
            self._report(light)
        self._ask(light)
        self._wake_light(light)

    def _report(self, light: Light) -> None:
        assembling = [n for n, slab in self._slabs.items() if light.number in slab.wanting]
        held = (*light.held, *assembling)
        light.timer.note_sent(light.seen, light.seen, light.is_representative, self.clock.now)
        self._tell(
            Report(
                Header(MessageType.REPORT, SESSION, EPOCH),
                light.member,
                max(light.seen, 0),
                0,
                0,
                max(light.slots - len(held), 0),
                Tally(received=max(light.seen, 0)),
                held[:64],
                light.credit,
                self.geometry.slab_count,
                light.verified,
            )
        )


@dataclass
class _Chance:
    """What a report timer asks of `random.Random`."""

    rng: np.random.Generator

    def random(self) -> float:
        return float(self.rng.random())


class _Counted:
    """Process time of what runs inside, for the sender's account."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._crowd.sender_cpu_s += time.process_time() - self._began
