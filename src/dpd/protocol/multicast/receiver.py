# SPDX-License-Identifier: Apache-2.0
"""The receiver of one session.

Theory of operation. Symbols of the slab being sent go straight to their place in a slab buffer; a slab that was joined
in the middle is left for its next turn in the carousel. When the stream has moved on, a slab with gaps waits for a short
random time and then says in a NACK how many symbols each column lacks; repairs are useful whichever they are. A slab
with k symbols in each column becomes a `SlabReady` request: its owner recovers, hashes and writes it in a worker and
answers by `provide_verified`. Nothing else is kept: a receiver's whole state is the set of verified slabs.

    slab state    entered by                                  left by
    (none)        start, bad hash, no free buffer             one of its first rows
    assembling    one of its first rows                       k symbols in every column
    verifying     SlabReady                                   provide_verified: (none) or verified
    verified      provide_verified(ok=True)                   never
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.gaps import Gaps
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER,
    HEADER_BYTES,
    MAX_HELD_SLABS,
    MAX_NACK_SLABS,
    WIRE_VERSION,
    Beat,
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    SlabDeficits,
    Tally,
    decode_message,
)
from dpd.protocol.multicast.runs import run_length, unbroken
from dpd.protocol.multicast.window import Window

START_ROWS = 16  # a slab first seen beyond this row is left for its next turn
MAX_LEAP = 1 << 22  # a tx_seq further ahead is damaged or forged: at any rate we would have noticed the silence
MAX_LATE = 1 << 16  # a BEAT this far behind is not late: 0.8 s at 1 Gbit/s
REORDER_GRACE_S = 0.002
MAX_NACK_S = 0.05
REPORT_GAPS = 10
REPORT_S = 1.0
FAST_REPORT_S = 0.2
MIN_REPORT_GAP_S = 0.005
MAX_DAMAGES = 3  # a slab that is damaged so often is given up: it comes again, whole, or by unicast
SILENCE_S = 3.0  # no datagram for this long: the sender is gone, or multicast does not reach us


@dataclass(frozen=True, slots=True)
class SlabReady:
    """Request: recover, verify and store this slab, then call `provide_verified`."""

    assembly: SlabAssembly


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fact: a datagram that changes nothing; `reason` is from a closed set."""

    reason: str


class SessionFact(Enum):
    """Facts that end a receiver's work here."""

    FINISHED = "every slab is verified"
    ENDED = "the sender ended the session"
    SILENT = "nothing was heard from the sender"
    MOVED = "the sender put us into another speed class"
    FALL_BACK = "the sender asked us to go on by unicast"
    KICKED = "the sender serves us no more"


_ORDERS = {
    ControlCode.MOVE: SessionFact.MOVED,
    ControlCode.FALL_BACK: SessionFact.FALL_BACK,
    ControlCode.KICK: SessionFact.KICKED,
}


ReceiverEvent = SlabReady | Ignored | SessionFact


class Timer(Enum):
    """Every timer of the machine."""

    REPORT = "tell the sender what we have"
    SILENCE = "the sender has not been heard for SILENCE_S"


@dataclass(slots=True)
class ReceiverCounters:
    """Plain counts for progress, reports and statistics."""

    symbols: int = 0
    duplicates: int = 0
    lost: int = 0
    socket_drops: int = 0
    repairs: int = 0
    recovered: int = 0
    without_buffer: int = 0
    bad_slabs: int = 0
    unicast_slabs: int = 0
    nacks: int = 0
    suppressed: int = 0
    reports: int = 0


class Receiver:
    """`member`: the credential from the join; `verified`: slab set from an earlier run; `slots`: slabs assembled at once;
    `credit`: symbols that the socket's buffer holds; `verify(body, signature)`: whether BEAT and CONTROL are the sender's,
    None: they are believed; `friendly`: the network is shared, so give way as TCP does."""

    def __init__(
        self,
        *,
        session: int,
        epoch: int,
        member: int,
        geometry: Geometry,
        verified: int,
        slots: int,
        credit: int,
        rng: random.Random,
        now: float,
        verify: Callable[[bytes, bytes], bool] | None = None,
        friendly: bool = False,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.member = member
        self.geometry = geometry
        self.verified = verified
        self.counters = ReceiverCounters()
        self.is_representative = True
        self.first_symbol_at = now
        self._slots = slots
        self._rng = rng
        self._verify = verify
        self._window = Window(credit)
        self._free: list[memoryview] = []
        self.buffers = 0
        self._assemblies: dict[int, SlabAssembly] = {}
        self._verifying: set[int] = set()
        self._gaps = Gaps()
        self._current = -1
        self._seen = -1
        self._reported_symbols = 0
        self._reported_seen = -1
        self._reported_at = 0.0
        self._heard_at = now
        self.has_heard = False  # anything that the sender signed
        self.heard_at = now  # when the latest of it came, or when we began
        self._tx_time = 0
        self._tx_time_at = now
        self._nack_s = 0.002
        self._timers: dict[Timer, float] = {Timer.REPORT: now, Timer.SILENCE: now + SILENCE_S}
        self._out: deque[Nack | Report] = deque()
        self._events: deque[ReceiverEvent] = deque()

    @property
    def is_finished(self) -> bool:
        return self.verified == self.geometry.every_slab

    def unicast_candidates(self) -> int:
        """Slab set: neither verified, nor in assembly, nor being verified."""
        held = sum(1 << slab for slab in (*self._assemblies, *self._verifying))
        return self.geometry.every_slab & ~self.verified & ~held

    # ---- input

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """One datagram from the group."""
        if len(data) != DATAGRAM_BYTES:
            self._take_message(data, now)
            return
        self.receive_symbols(bytearray(data[:HEADER_BYTES]), memoryview(data)[HEADER_BYTES:], 0, 1, now)

    def receive_train(self, train: bytearray, size: int, segment_size: int, now: float) -> None:
        """The first `size` bytes of `train`: datagrams of `segment_size` bytes back to back, the last perhaps shorter."""
        view = memoryview(train)[:size]
        whole = size // DATAGRAM_BYTES if segment_size == DATAGRAM_BYTES else 0
        if whole:
            starts = range(0, whole * DATAGRAM_BYTES, DATAGRAM_BYTES)
            headers = bytearray(b"".join(view[at : at + HEADER_BYTES] for at in starts))
            symbols = b"".join(view[at + HEADER_BYTES : at + DATAGRAM_BYTES] for at in starts)
            self.receive_symbols(headers, memoryview(symbols), 0, whole, now)
        for start in range(whole * DATAGRAM_BYTES, size or 1, segment_size):  # an empty datagram is one, too
            self._take_message(view[start : start + segment_size], now)

    def receive_symbols(self, headers: bytearray, symbols: memoryview, first: int, count: int, now: float) -> None:
        """`count` datagrams of DATAGRAM_BYTES, laid apart: HEADER_BYTES each in `headers`, SYMBOL_BYTES each in
        `symbols`, beginning with number `first`."""
        before = self.counters.symbols
        at, end = first, first + count
        while at < end:
            at += self._take_run(headers, symbols, at, end, now)
        if self.counters.symbols != before:  # ours: another session's datagrams on this group are no sign of our sender
            self._note_symbols(before, now)

    def landing(self) -> tuple[memoryview, int] | None:
        """Where the next symbols belong if nothing is lost: a slab's buffer, and the number of the symbol in it."""
        assembly = self._assemblies.get(self._current)
        if assembly is not None and (first := assembly.landing) >= 0:
            return assembly.storage, first
        return (self._free[-1], 0) if self._has_buffer() else None

    def take_landed(self, headers: bytearray, storage: memoryview, first: int, count: int, now: float) -> int:
        """`count` symbols have landed where `landing` said, from number `first` of that buffer on; their headers have the same
        numbers in `headers`. Takes those that belong there, from the first on, and returns how many: the rest is for
        `receive_symbols`, from a copy."""
        kind, _, epoch, session, slab, row, column, _, tx_seq, _, _, _ = HEADER.unpack_from(
            headers, first * HEADER_BYTES
        )
        if kind != _DATA or session != self.session or epoch != self.epoch or row * COLUMNS + column != first:
            return 0
        if (
            not 0 < (tx_seq - self._seen) & 0xFFFFFFFF < MAX_LEAP and self._seen >= 0
        ) or slab >= self.geometry.slab_count:
            return 0
        count = unbroken(headers, first, min(count, self.geometry.rows(slab) * COLUMNS - first), tx_seq)
        assembly = self._land(slab, first, now) if count > 0 else None
        if assembly is None or assembly.storage is not storage or assembly.landing != first:
            return 0
        before = self.counters.symbols
        self._count_seq(tx_seq, count)
        assembly.take_landed(first, count)
        flags, tx_time, nack_ms = _END_OF.unpack_from(headers, (first + count - 1) * HEADER_BYTES)
        self._note_sender(tx_time, nack_ms, now)
        if assembly.lacking <= 0:
            self._complete(assembly)
        elif flags & Flag.END_OF_SLAB:
            self._gaps.ask(slab, self._backoff(now))
        self._note_symbols(before, now)
        return count

    def _land(self, slab: int, first: int, now: float) -> SlabAssembly | None:
        """The assembly of the slab that symbol `first` has landed for; begins it with its first symbol."""
        if slab != self._current and not first:
            self._move_on(slab, now)
            if slab not in self._assemblies:
                return self._begin(slab, 0)
        return self._assemblies.get(slab) if slab == self._current else None

    def _note_symbols(self, before: int, now: float) -> None:
        """Symbols of ours came, when we had `before`."""
        self._heard_at = now
        if not before:
            self.first_symbol_at = now
        if self.is_representative and self.counters.symbols - self._reported_symbols >= max(
            self._window.size // 4, COLUMNS
        ):
            self._report_by(now)

    def _take_run(self, headers: bytearray, symbols: memoryview, at: int, end: int, now: float) -> int:
        """Take the symbols from number `at` on that are neighbours in one row. Returns how many, at least 1."""
        kind, flags, epoch, session, slab, row, column, _, tx_seq, tx_time, _, nack_ms = HEADER.unpack_from(
            headers, at * HEADER_BYTES
        )
        if session != self.session or epoch != self.epoch:
            self._events.append(Ignored("other_session"))
            return 1
        if (kind != _DATA or row >= ROWS) and (kind != _PARITY or not ROWS <= row < ROWS + PARITY_ROWS):
            header = headers[at * HEADER_BYTES : (at + 1) * HEADER_BYTES]
            self._take_message(bytes(header) + bytes(symbols[at * SYMBOL_BYTES : (at + 1) * SYMBOL_BYTES]), now)
            return 1
        if column >= COLUMNS or slab >= self.geometry.slab_count:
            self._events.append(Ignored("out_of_range"))
            return 1
        count = run_length(headers, at * HEADER_BYTES, column, tx_seq, min(end - at, COLUMNS - column))
        is_newest = self._count_seq(tx_seq, count)
        if is_newest and slab != self._current and not flags & Flag.REPAIR:
            self._move_on(slab, now)
        self._note_sender(tx_time, nack_ms, now)
        self._put(slab, row, column, symbols[at * SYMBOL_BYTES : (at + count) * SYMBOL_BYTES], flags)
        if flags & Flag.END_OF_SLAB and slab in self._assemblies:
            self._gaps.ask(slab, self._backoff(now))
        return count

    def _put(self, slab: int, row: int, column: int, symbols: memoryview, flags: int) -> None:
        """Symbols that are neighbours in a row, to their places."""
        assembly = self._assemblies.get(slab)
        if assembly is None and slab == self._current and not flags & Flag.REPAIR:  # else it is late: no one would ask
            assembly = self._begin(slab, row)  # for the rest of that slab
        if assembly is None:
            return
        count = len(symbols) // SYMBOL_BYTES
        if flags & Flag.REPAIR:
            self.counters.repairs += count
        add = assembly.add_sources if row < ROWS else assembly.add_parities
        self.counters.duplicates += count - add(row if row < ROWS else row - ROWS, column, symbols)
        if assembly.lacking <= 0:
            self._complete(assembly)

    def _take_message(self, datagram: Buffer, now: float) -> None:
        try:
            message = decode_message(datagram)
        except MalformedMessage as error:
            self._events.append(Ignored(error.reason))
            return
        if message.header.session != self.session or message.header.epoch != self.epoch:
            self._events.append(Ignored("other_session"))
        elif isinstance(message, Beat):
            self._take_beat(message, now)
        elif isinstance(message, Control):
            self._take_control(message, now)
        else:
            self._events.append(Ignored("not_from_sender"))

    def _take_beat(self, beat: Beat, now: float) -> None:
        header = beat.header
        self._heard_at = self.heard_at = now
        self.has_heard = True
        self._note_sender(header.tx_time, header.nack_ms, now)
        self.is_representative = self.member & 0xFFFFFFFF in beat.representatives
        is_end = bool(header.flags & Flag.END_OF_PASS)
        is_newest = self._count_seq(header.tx_seq, 0)
        if not is_newest and (is_end or (self._seen - header.tx_seq) & 0xFFFFFFFF > MAX_LATE):
            self._seen = header.tx_seq  # what we saw was damaged: the sender has not been as far as that
        if self.is_representative and self._seen != self._reported_seen:
            self._report_by(now)
        if is_end:
            self._move_on(-1, now)
            # Whatever the size of the group, the sender hears some 2000 of these a second and not 50 from each.
            again = max(now, self._reported_at + REPORT_GAPS * self._nack_s)
            self._report_by(again + self._rng.random() * self._nack_s)
        elif is_newest and beat.position != self._current:
            self._move_on(-1, now)

    def _take_control(self, control: Control, now: float) -> None:
        """END is for everybody, other orders for those they name."""
        self.has_heard, self.heard_at = True, now
        if control.code == ControlCode.END:
            self._events.append(SessionFact.ENDED)
        elif control.code not in _ORDERS:
            self._events.append(Ignored("unknown_order"))
        elif self.member & 0xFFFFFFFF in control.members:
            self._events.append(_ORDERS[ControlCode(control.code)])

    def _note_sender(self, tx_time: int, nack_ms: int, now: float) -> None:
        self._tx_time, self._tx_time_at, self._nack_s = tx_time, now, min(nack_ms / 1000, MAX_NACK_S)

    def provide_verified(self, assembly: SlabAssembly, ok: bool, now: float) -> None:
        """A worker stored the slab, or found it damaged (`ok` False); its buffer is free again."""
        self._verifying.discard(assembly.slab)
        self._free.append(assembly.storage)
        if ok:
            self._add_verified(assembly.slab, now)
        else:
            self.counters.bad_slabs += 1
            self._report_soon(now)

    def provide_damaged(self, assembly: SlabAssembly, now: float) -> None:
        """The slab's hash was wrong, and a worker kept what its leaves confirm: what it lacks now is asked for."""
        slab = assembly.slab
        assembly.damages += 1
        if assembly.damages >= MAX_DAMAGES or self.verified >> slab & 1:
            self.provide_verified(assembly, False, now)
            return
        self.counters.bad_slabs += 1
        self._verifying.discard(slab)
        self._assemblies[slab] = assembly
        if assembly.is_complete:  # the leaves found nothing wrong, or mended it: the hash decides
            self._complete(assembly)
        else:
            self._gaps.ask(slab, self._backoff(now))

    def provide_unicast(self, slab: int, now: float) -> None:
        """The slab came by other means and is verified and stored; what was assembled of it goes."""
        if self.verified >> slab & 1:
            return
        if assembly := self._assemblies.pop(slab, None):
            self._gaps.drop(slab)
            self._free.append(assembly.storage)
        self.counters.unicast_slabs += 1
        self._add_verified(slab, now)

    def _add_verified(self, slab: int, now: float) -> None:
        was_finished = self.is_finished
        self.verified |= 1 << slab
        if self.is_finished:
            self._report_by(now)
            if not was_finished:
                self._events.append(SessionFact.FINISHED)
        else:
            self._report_soon(now)

    def _report_soon(self, now: float) -> None:
        if self.is_representative:
            self._report_by(max(now, self._reported_at + MIN_REPORT_GAP_S))

    # ---- slabs

    def _begin(self, slab: int, row: int) -> SlabAssembly | None:
        """Start assembling, unless the slab is there, was joined in the middle, or no buffer is free."""
        if slab >= self.geometry.slab_count or self.verified >> slab & 1 or slab in self._verifying:
            self.counters.duplicates += 1
            return None
        if row > START_ROWS:
            return None
        if not self._has_buffer():
            self.counters.without_buffer += 1
            return None
        assembly = self._assemblies[slab] = SlabAssembly(slab, self.geometry.rows(slab), self._free.pop())
        return assembly

    def _has_buffer(self) -> bool:
        """Whether a slab buffer is free; makes one while there are fewer than `slots`."""
        if not self._free and self.buffers < self._slots:
            self.buffers += 1
            self._free.append(memoryview(bytearray(min(SLAB_BYTES, self.geometry.rows(0) * COLUMNS * SYMBOL_BYTES))))
        return bool(self._free)

    def _move_on(self, slab: int, now: float) -> None:
        """The stream has left the current slab for `slab` (-1: none); whatever the one left lacks now is lost. What the
        new one lacks, if it is sent again, may still come."""
        left, self._current = self._current, slab
        if left in self._assemblies and left not in self._gaps:
            self._gaps.ask(left, self._backoff(now))
        self._gaps.drop(slab)

    def _complete(self, assembly: SlabAssembly) -> None:
        del self._assemblies[assembly.slab]
        self._gaps.drop(assembly.slab)
        self._verifying.add(assembly.slab)
        self._events.append(SlabReady(assembly))

    def _backoff(self, now: float) -> float:
        return now + REORDER_GRACE_S + self._rng.random() * self._nack_s

    def _count_seq(self, tx_seq: int, count: int) -> bool:
        """Keep the highest tx_seq seen and count what is missing below it; `tx_seq` is the first of `count` in a row.
        False: these are late; the stream has been further."""
        self.counters.symbols += count
        last = tx_seq + count - 1 if count else tx_seq
        ahead = (last - self._seen) & 0xFFFFFFFF
        if self._seen < 0:
            self._seen = last & 0xFFFFFFFF
        elif ahead < MAX_LEAP:
            self.counters.lost += ahead - count
            self._seen = last & 0xFFFFFFFF
        else:
            if ahead > 0xFFFFFFFF - MAX_LEAP:
                self.counters.lost -= count
            return False
        return True

    # ---- output

    def handle_timeout(self, now: float) -> None:
        """Ask for what is missing, report, notice that the sender is gone."""
        if due := self._gaps.take_due(now, 2 * self._nack_s, MAX_NACK_SLABS):
            wanted = tuple(SlabDeficits(slab, self._assemblies[slab].deficits()) for slab in due)
            self._out.append(Nack(self._header(MessageType.NACK), self.member, self._seen, wanted))
            self.counters.nacks += 1
        if now >= self._timers[Timer.REPORT]:
            self._report(now)
        if now >= self._timers[Timer.SILENCE]:
            self._timers[Timer.SILENCE] = self._heard_at + SILENCE_S
            if now >= self._timers[Timer.SILENCE]:
                self._timers[Timer.SILENCE] = now + SILENCE_S
                self._events.append(SessionFact.SILENT)

    def poll_transmit(self, now: float) -> Nack | Report | None:
        """The next feedback to send, by unicast to the sender."""
        return self._out.popleft() if self._out else None

    def next_event(self) -> ReceiverEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(*self._timers.values(), self._gaps.next_due())

    def _report_by(self, at: float) -> None:
        self._timers[Timer.REPORT] = min(self._timers[Timer.REPORT], at)

    def _report(self, now: float) -> None:
        held = (*self._verifying, *self._assemblies)[:MAX_HELD_SLABS]
        counters = self.counters
        self._window.judge(counters.symbols, counters.lost)
        self._out.append(
            Report(
                self._header(MessageType.REPORT),
                self.member,
                max(self._seen, 0),
                self._tx_time,
                int((now - self._tx_time_at) * 1e6),
                self._slots - len(self._assemblies) - len(self._verifying),
                Tally(
                    received=counters.symbols,
                    lost=max(counters.lost - counters.socket_drops, 0),
                    socket_drops=counters.socket_drops,
                    duplicates=counters.duplicates,
                    repairs=counters.repairs,
                    suppressed=counters.suppressed,
                    bad_slabs=counters.bad_slabs,
                    unicast_slabs=counters.unicast_slabs,
                ),
                held,
                self._window.size,
                self.geometry.slab_count,
                self.verified,
            )
        )
        counters.reports += 1
        self._reported_symbols, self._reported_seen, self._reported_at = counters.symbols, self._seen, now
        self._timers[Timer.REPORT] = now + (FAST_REPORT_S if self.is_representative else REPORT_S)

    def _header(self, kind: MessageType) -> Header:
        return Header(kind, self.session, self.epoch)


_END_OF = struct.Struct("!xB18xIxxH")  # flags, tx_time and nack_ms of a header
_DATA = WIRE_VERSION << 4 | MessageType.DATA
_PARITY = WIRE_VERSION << 4 | MessageType.PARITY
