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
from dataclasses import dataclass
from enum import Enum

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.authenticity import Authenticity, Verify
from dpd.protocol.multicast.counters import ReceiverCounters as ReceiverCounters
from dpd.protocol.multicast.gaps import Gaps, random_backoff
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
    Ncf,
    Report,
    SlabDeficits,
    decode_message,
)
from dpd.protocol.multicast.reporting import Drain, ReportTimer
from dpd.protocol.multicast.runs import run_length, unbroken
from dpd.protocol.multicast.sequence import Sequence
from dpd.protocol.multicast.window import Window

START_ROWS = 16  # a slab first seen beyond this row is left for its next turn
REORDER_GRACE_S = 0.002
MAX_NACK_S = 0.05
DEFAULT_GROUP = 10  # members, before a BEAT has told
MAX_ECHO_ERROR_US = 1_000_000  # a symbol's time further than that from the BEATs' is damaged or forged
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
        verify: Verify | None = None,
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
        self._authenticity = Authenticity(verify)
        self._window = Window(credit, friendly)
        self._free: list[memoryview] = []
        self.buffers = 0
        self._assemblies: dict[int, SlabAssembly] = {}
        self._verifying: set[int] = set()
        self._gaps = Gaps()
        self._current = -1
        self._promised_rows = 0  # parity that comes unasked with the current slab
        self._sequence = Sequence(self.counters)
        self._count_seq = self._sequence.count
        self._report_timer = ReportTimer(now)
        self._drain = Drain()
        self.has_heard = False  # anything that the sender signed
        self.heard_at = now  # when the latest of it came, or when we began
        self._silent_at = now + SILENCE_S
        self._group_size = DEFAULT_GROUP
        self._nack_s = 0.002
        self._tx_time = 0  # of the latest symbol or BEAT
        self._tx_time_at = now
        self._beat_time = 0  # of the latest BEAT
        self._beat_at: float | None = None
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
        kind, _, epoch, session, slab, row, column, _, tx_seq, _, promised_rows, _ = HEADER.unpack_from(
            headers, first * HEADER_BYTES
        )
        if kind != _DATA or session != self.session or epoch != self.epoch or row * COLUMNS + column != first:
            return 0
        if not self._sequence.follows(tx_seq) or slab >= self.geometry.slab_count:
            return 0
        count = unbroken(headers, first, min(count, self.geometry.rows(slab) * COLUMNS - first), tx_seq)
        assembly = self._land(slab, first, promised_rows, now) if count > 0 else None
        if assembly is None or assembly.storage is not storage or assembly.landing != first:
            return 0
        before = self.counters.symbols
        self._count_seq(tx_seq, count)
        assembly.take_landed(first, count)
        flags, self._tx_time = _END_OF.unpack_from(headers, (first + count - 1) * HEADER_BYTES)
        self._tx_time_at = now
        if assembly.lacking <= 0:
            self._complete(assembly)
        elif flags & Flag.END_OF_SLAB:
            self._ask(slab, now)
        self._note_symbols(before, now)
        return count

    def _land(self, slab: int, first: int, promised_rows: int, now: float) -> SlabAssembly | None:
        """The assembly of the slab that symbol `first` has landed for; begins it with its first symbol."""
        if slab != self._current and not first:
            self._move_on(slab, now, promised_rows)
            if slab not in self._assemblies:
                return self._begin(slab, 0)
        return self._assemblies.get(slab) if slab == self._current else None

    def _note_symbols(self, before: int, now: float) -> None:
        """Symbols of ours came, when we had `before`."""
        if not before:
            self.first_symbol_at = now
            self._drain.begin(now)
        if self.is_representative and self.counters.symbols - self._report_timer.symbols >= max(
            self._window.size // 4, COLUMNS
        ):
            self._report_timer.of_window(self.counters.symbols, self._window.size, now)

    def _take_run(self, headers: bytearray, symbols: memoryview, at: int, end: int, now: float) -> int:
        """Take the symbols from number `at` on that are neighbours in one row. Returns how many, at least 1."""
        kind, flags, epoch, session, slab, row, column, _, tx_seq, tx_time, promised_rows, _ = HEADER.unpack_from(
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
            self._move_on(slab, now, promised_rows)
        self._tx_time, self._tx_time_at = tx_time, now
        self._put(slab, row, column, symbols[at * SYMBOL_BYTES : (at + count) * SYMBOL_BYTES], flags)
        if flags & Flag.END_OF_SLAB and slab in self._assemblies:
            self._ask(slab, now)
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
        elif isinstance(message, Ncf):
            self._take_ncf(message, now)
        elif not isinstance(message, Beat | Control):
            self._events.append(Ignored("not_from_sender"))
        elif reason := self._authenticity.refusal(message, datagram, now):
            self._events.append(Ignored(reason))
        else:
            self.has_heard, self.heard_at = True, now
            if isinstance(message, Beat):
                self._take_beat(message, now)
            else:
                self._take_control(message)

    def _take_beat(self, beat: Beat, now: float) -> None:
        header = beat.header
        self._beat_time = self._tx_time = header.tx_time
        self._tx_time_at = self._beat_at = now
        self._nack_s = min(header.nack_ms / 1000, MAX_NACK_S)
        self._group_size = self._report_timer.members = max(beat.members, 1)
        self.is_representative = self.member & 0xFFFFFFFF in beat.representatives
        self._window.note_beat(header.tx_time, now)
        is_end = bool(header.flags & Flag.END_OF_PASS)
        is_newest = self._sequence.believe(header.tx_seq, is_end)
        if self.is_representative and self._sequence.seen != self._report_timer.seen:
            self._report_timer.by(now)
        if is_end:
            self._move_on(-1, now)
            self._report_timer.answer_end(now, self._nack_s, self._rng)
        elif is_newest and beat.position != self._current:
            self._move_on(-1, now)

    def _take_control(self, control: Control) -> None:
        """END is for everybody, other orders for those they name."""
        if control.code == ControlCode.END:
            self._events.append(SessionFact.ENDED)
        elif control.code not in _ORDERS:
            self._events.append(Ignored("unknown_order"))
        elif self.member & 0xFFFFFFFF in control.members:
            self._events.append(_ORDERS[ControlCode(control.code)])

    def _take_ncf(self, ncf: Ncf, now: float) -> None:
        """Repairs are announced: where they cover all that a slab lacks, it need not ask."""
        for announced in ncf.slabs:
            assembly = self._assemblies.get(announced.slab)
            if assembly is None or announced.slab not in self._gaps:
                continue
            if all(ours <= theirs for ours, theirs in zip(assembly.deficits(), announced.deficits, strict=True)):
                patience_s = self._gaps.patience_s(self._nack_s)
                self.counters.suppressed += self._gaps.put_off(announced.slab, now, patience_s)

    def provide_verified(self, assembly: SlabAssembly, ok: bool, now: float) -> None:
        """A worker stored the slab, or found it damaged (`ok` False); its buffer is free again."""
        self._verifying.discard(assembly.slab)
        self._free.append(assembly.storage)
        if ok:
            self._add_verified(assembly.slab, now)
        else:
            self.counters.bad_slabs += 1
            self._note_news(now)

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
        if assembly.is_complete:
            self._complete(assembly)
        else:
            self._ask(slab, now)

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
        if self.verified >> slab & 1:  # it came both ways
            return
        self.verified |= 1 << slab
        self._drain.add(self.geometry.slab_bytes(slab))
        if self.is_finished:
            self._report_timer.by(now)
            self._events.append(SessionFact.FINISHED)
        else:
            self._note_news(now)

    def _note_news(self, now: float) -> None:
        if self.is_representative:
            self._report_timer.soon(now)

    # ---- slabs

    def _begin(self, slab: int, row: int) -> SlabAssembly | None:
        """Start assembling, unless the slab is there, was joined in the middle, or no buffer is free."""
        if slab >= self.geometry.slab_count or self.verified >> slab & 1 or slab in self._verifying:
            self.counters.duplicates += 1
            return None
        if row > START_ROWS:
            return None
        if not self._has_buffer() and not self._abandon_least():
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

    def _abandon_least(self) -> bool:
        """Give up a slab of which hardly anything came, perhaps only a forged symbol. True: its buffer is free."""
        others = (assembly for slab, assembly in self._assemblies.items() if slab != self._current)
        least = min(others, key=lambda assembly: assembly.arrived, default=None)
        if least is None or least.arrived > COLUMNS:
            return False
        self._abandon(least.slab)
        return True

    def _abandon(self, slab: int) -> None:
        """Leave a slab for its next turn in the carousel."""
        self._gaps.drop(slab)
        self._free.append(self._assemblies.pop(slab).storage)
        self.counters.abandoned += 1

    def _move_on(self, slab: int, now: float, promised_rows: int = 0) -> None:
        """The stream has left the current slab for `slab` (-1: none); whatever the one left lacks now is lost. What the
        new one lacks, if it is sent again, may still come."""
        left, self._current = self._current, slab
        promised, self._promised_rows = self._promised_rows, promised_rows
        if left in self._assemblies and left not in self._gaps:  # its end was not seen: what it promised may still come
            self._ask(left, now, promised)
        self._gaps.drop(slab)

    def _complete(self, assembly: SlabAssembly) -> None:
        del self._assemblies[assembly.slab]
        self._gaps.drop(assembly.slab)
        self._verifying.add(assembly.slab)
        self._events.append(SlabReady(assembly))

    def _ask(self, slab: int, now: float, promised_rows: int = 0) -> None:
        """The stream, or a burst of repairs, has left a slab with gaps: see to it that what it lacks is asked for."""
        assembly = self._assemblies[slab]
        patience_s, wait_s = self._gaps.patience_s(self._nack_s), self._backoff_s()
        if promised_rows and max(assembly.deficits()) <= promised_rows:
            self.counters.suppressed += 1
            wait_s += patience_s
        self._gaps.ask(slab, now, wait_s, patience_s, assembly.lacking)

    def _backoff_s(self) -> float:
        return REORDER_GRACE_S + random_backoff(self._rng, self._nack_s, self._group_size)

    # ---- output

    def handle_timeout(self, now: float) -> None:
        """Ask for what is missing, report, notice that the sender is gone."""
        self._ask_for_due(now)
        if now >= self._report_timer.due:
            self._report(now)
        if now >= self._silent_at:
            self._silent_at = self.heard_at + SILENCE_S
            if now >= self._silent_at:
                self._silent_at = now + SILENCE_S
                self._events.append(SessionFact.SILENT)

    def _ask_for_due(self, now: float) -> None:
        if self._gaps.next_due() > now:
            return
        if assembly := self._assemblies.get(self._current):
            self._gaps.let_come(self._current, now, self._backoff_s(), assembly.lacking)
        wanted = []
        for slab in self._gaps.take_due(now, 2 * self._nack_s, MAX_NACK_SLABS):
            assembly = self._assemblies[slab]
            if assembly.has_little and slab != self._current:
                self._abandon(slab)
                continue
            wanted.append(SlabDeficits(slab, assembly.deficits()))
            self._gaps.note_asked(slab, now, assembly.lacking)
        if wanted:
            self._out.append(Nack(self._header(MessageType.NACK), self.member, self._sequence.seen, tuple(wanted)))
            self.counters.nacks += 1

    def poll_transmit(self, now: float) -> Nack | Report | None:
        """The next feedback to send, by unicast to the sender."""
        return self._out.popleft() if self._out else None

    def next_event(self) -> ReceiverEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(self._report_timer.due, self._silent_at, self._gaps.next_due())

    def _report(self, now: float) -> None:
        counters, sequence = self.counters, self._sequence
        self._window.judge(counters.symbols, counters.lost - sequence.leapt, counters.socket_drops, now)
        echo_time, echo_at = self._echo()
        self._out.append(
            Report(
                self._header(MessageType.REPORT),
                self.member,
                max(sequence.seen, 0),
                echo_time,
                int((now - echo_at) * 1e6),
                self._slots - len(self._assemblies) - len(self._verifying),
                counters.tally(self._drain.kib_s(now)),
                (*self._verifying, *self._assemblies)[:MAX_HELD_SLABS],
                self._window.size,
                self.geometry.slab_count,
                self.verified,
            )
        )
        counters.reports += 1
        self._report_timer.note_sent(counters.symbols, sequence.seen, self.is_representative, now)

    def _echo(self) -> tuple[int, float]:
        """The sender's time to repeat, and when it came: that of the latest symbol, where the BEATs bear it out."""
        if self._beat_at is not None:
            expected = self._beat_time + int((self._tx_time_at - self._beat_at) * 1e6)
            if (self._tx_time - expected + MAX_ECHO_ERROR_US) & 0xFFFFFFFF > 2 * MAX_ECHO_ERROR_US:
                return self._beat_time, self._beat_at
        return self._tx_time, self._tx_time_at

    def _header(self, kind: MessageType) -> Header:
        return Header(kind, self.session, self.epoch)


_END_OF = struct.Struct("!xB18xI4x")  # flags and tx_time of a header
_DATA = WIRE_VERSION << 4 | MessageType.DATA
_PARITY = WIRE_VERSION << 4 | MessageType.PARITY
