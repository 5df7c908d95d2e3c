# SPDX-License-Identifier: Apache-2.0
"""The receiver of one session.

Theory of operation. Symbols of the slab being sent go straight to their place in a slab buffer; a slab that was joined
in the middle is left for its next turn in the carousel. When the stream has moved on, a slab with gaps waits for a short
random time and then says in a NACK how many symbols each column lacks; repairs are useful whichever they are. A slab
with k symbols in each column becomes a `SlabReady` request: its owner recovers, hashes and writes it in a worker and
answers by `provide_verified`. Nothing else is kept: a receiver's whole state is the set of verified slabs.

    slab state    entered by                                  left by
    (none)        start, bad hash, no free buffer             one of its first rows
    assembling    one of its first rows                       k symbols in every column; hardly any came; provide_unicast
    verifying     SlabReady                                   provide_verified, provide_damaged: assembling again
    verified      provide_verified(ok=True), provide_unicast  never
"""

from __future__ import annotations

import random
import struct
from collections import deque

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer
from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.authenticity import Authenticity, Verify
from dpd.protocol.multicast.counters import ReceiverCounters as ReceiverCounters
from dpd.protocol.multicast.geometry import COLUMNS, PARITY_ROWS, ROWS, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER,
    HEADER_BYTES,
    MAX_HELD_SLABS,
    WIRE_VERSION,
    Beat,
    Control,
    Flag,
    Header,
    MessageType,
    Nack,
    Ncf,
    Report,
    decode_message,
)
from dpd.protocol.multicast.questions import Questions
from dpd.protocol.multicast.receiver_events import Ignored as Ignored
from dpd.protocol.multicast.receiver_events import ReceiverEvent, event_of
from dpd.protocol.multicast.receiver_events import SessionFact as SessionFact
from dpd.protocol.multicast.receiver_events import SlabReady as SlabReady
from dpd.protocol.multicast.reporting import Drain, ReportTimer, believable_echo
from dpd.protocol.multicast.runs import run_length, unbroken
from dpd.protocol.multicast.sequence import Sequence
from dpd.protocol.multicast.slabs import Slabs
from dpd.protocol.multicast.window import Window

SILENCE_S = 3.0  # no BEAT for this long: the sender is gone, or multicast does not reach us


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
        self.counters = ReceiverCounters()
        self.is_representative = True
        self.first_symbol_at = now
        self._rng = rng
        self._authenticity = Authenticity(verify)
        self._window = Window(credit, friendly)
        self._slabs = Slabs(geometry, verified, slots, self.counters)
        self._assemblies = self._slabs.assemblies
        self._questions = Questions(self._slabs, self.counters, rng)
        self._current = -1
        self._promised_rows = 0  # parity that comes unasked with the current slab
        self._sequence = Sequence(self.counters)
        self._count_seq = self._sequence.count
        self._report_timer = ReportTimer(now, rng)
        self._drain = Drain()
        self.has_heard = False  # anything that the sender signed
        self.heard_at = now  # when the latest of it came, or when we began
        self._silent_at = now + SILENCE_S
        self._tx_time, self._tx_time_at = 0, now  # of the latest symbol or BEAT, and when it came
        self._beat_echo: tuple[int, float] | None = None  # tx_time of the latest BEAT, and when it came
        self._out: deque[Nack | Report] = deque()
        self._events: deque[ReceiverEvent] = deque()

    @property
    def verified(self) -> int:
        """Slab set: what is verified and stored."""
        return self._slabs.verified

    @property
    def buffers(self) -> int:
        """How many slab buffers were made."""
        return self._slabs.buffers

    @property
    def is_finished(self) -> bool:
        return self.verified == self.geometry.every_slab

    def unicast_candidates(self) -> int:
        """Slab set: neither verified, nor in assembly, nor being verified."""
        return self._slabs.candidates()

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
        return (self._slabs.free[-1], 0) if self._slabs.has_buffer() else None

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
        count = min(
            count, self.geometry.rows(slab) * COLUMNS - first
        )  # none where the last slab, a short one, is named
        count = unbroken(headers, first, count, tx_seq) if count > 0 else 0
        assembly = self._land(slab, first, promised_rows, now) if count else None
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
            self._questions.ask(assembly, now)
        self._note_symbols(before, now)
        return count

    def _land(self, slab: int, first: int, promised_rows: int, now: float) -> SlabAssembly | None:
        """The assembly of the slab that symbol `first` has landed for; begins it with its first symbol."""
        if slab != self._current and not first:
            self._move_on(slab, now, promised_rows)
            if slab not in self._assemblies:
                return self._slabs.begin(slab, 0, slab)
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
            self._questions.ask(self._assemblies[slab], now)
        return count

    def _put(self, slab: int, row: int, column: int, symbols: memoryview, flags: int) -> None:
        """Symbols that are neighbours in a row, to their places."""
        assembly = self._assemblies.get(slab)
        if assembly is None and slab == self._current and not flags & Flag.REPAIR:  # else it is late: no one would ask
            assembly = self._slabs.begin(slab, row, slab)  # for the rest of that slab
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
            self._questions.take_ncf(message, now)
        elif not isinstance(message, Beat | Control):
            self._events.append(Ignored("not_from_sender"))
        elif reason := self._authenticity.refusal(message, datagram, now):
            self._events.append(Ignored(reason))
        else:
            self.has_heard, self.heard_at = True, now
            if isinstance(message, Beat):
                self._take_beat(message, now)
            elif event := event_of(message, self.member):
                self._events.append(event)

    def _take_beat(self, beat: Beat, now: float) -> None:
        header = beat.header
        self._beat_echo = self._tx_time, self._tx_time_at = header.tx_time, now
        self._questions.note_group(beat.members, header.nack_ms)
        self._report_timer.members = self._questions.group_size
        self.is_representative = self.member & 0xFFFFFFFF in beat.representatives
        is_end = bool(header.flags & Flag.END_OF_PASS)
        is_newest = self._sequence.believe(header.tx_seq, is_end)
        if self._sequence.is_misled:  # then only BEATs show what was lost
            self._window.restore()
            self._judge_window(now)
        self._window.note_beat(header.tx_time, now)
        if self.is_representative and self._sequence.seen != self._report_timer.seen:
            self._report_timer.by(now)
        if is_end:
            self._move_on(-1, now)
            self._report_timer.answer_end(now, self._questions.nack_s, self._rng)
        elif is_newest and beat.position != self._current:
            self._move_on(-1, now)

    def provide_verified(self, assembly: SlabAssembly, ok: bool, now: float) -> None:
        """A worker stored the slab, or found it damaged (`ok` False); its buffer is free again."""
        self._slabs.release(assembly)
        if ok:
            self._add_verified(assembly.slab, now)
        else:
            self.counters.bad_slabs += 1
            self._note_news(now)

    def provide_damaged(self, assembly: SlabAssembly, now: float) -> None:
        """The slab's hash was wrong, and a worker kept what its leaves confirm: what it lacks now is asked for."""
        if not self._slabs.take_back(assembly):
            self.provide_verified(assembly, False, now)
            return
        self.counters.bad_slabs += 1
        if assembly.is_complete:
            self._complete(assembly)
        else:
            self._questions.ask(assembly, now)

    def provide_unicast(self, slab: int, now: float) -> None:
        """The slab came by other means and is verified and stored; what was assembled of it goes."""
        self.counters.unicast_slabs += not self._slabs.is_verified(slab)
        self._add_verified(slab, now)

    def _add_verified(self, slab: int, now: float) -> None:
        self._questions.drop(slab)
        if not self._slabs.add_verified(slab):  # it came both ways
            return
        self._drain.add(self.geometry.slab_bytes(slab))
        if self.is_finished:
            self._report_timer.by(now)
            self._events.append(SessionFact.FINISHED)
        else:
            self._note_news(now)

    def _note_news(self, now: float) -> None:
        if self.is_representative:
            self._report_timer.soon(now)

    def _move_on(self, slab: int, now: float, promised_rows: int = 0) -> None:
        """The stream has left the current slab for `slab` (-1: none); whatever the one left lacks now is lost. What the
        new one lacks, if it is sent again, may still come."""
        self._questions.leave(self._current, now, self._promised_rows)
        self._current, self._promised_rows = slab, promised_rows
        self._questions.drop(slab)

    def _complete(self, assembly: SlabAssembly) -> None:
        self._slabs.complete(assembly)
        self._questions.drop(assembly.slab)
        self._events.append(SlabReady(assembly))

    # ---- output

    def handle_timeout(self, now: float) -> None:
        """Ask for what is missing, report, notice that the sender is gone."""
        if wanted := self._questions.take_due(self._current, now):
            header = Header(MessageType.NACK, self.session, self.epoch)
            self._out.append(Nack(header, self.member, self._sequence.seen, wanted))
            self.counters.nacks += 1
        if now >= self._report_timer.due:
            self._report(now)
        if now >= self._silent_at:
            self._silent_at = self.heard_at + SILENCE_S
            if now >= self._silent_at:
                self._silent_at = now + SILENCE_S
                self._events.append(SessionFact.SILENT)

    def poll_transmit(self, now: float) -> Nack | Report | None:
        """The next feedback to send, by unicast to the sender."""
        return self._out.popleft() if self._out else None

    def next_event(self) -> ReceiverEvent | None:
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(self._report_timer.due, self._silent_at, self._questions.next_due())

    def _report(self, now: float) -> None:
        counters, sequence = self.counters, self._sequence
        if not sequence.is_misled:
            self._judge_window(now)
        echo_time, echo_at = believable_echo((self._tx_time, self._tx_time_at), self._beat_echo)
        self._out.append(
            Report(
                Header(MessageType.REPORT, self.session, self.epoch),
                self.member,
                max(sequence.seen, 0),
                echo_time,
                int((now - echo_at) * 1e6),
                self._slabs.free_slots,
                counters.tally(self._drain.kib_s(now)),
                self._slabs.held[:MAX_HELD_SLABS],
                self._window.size,
                self.geometry.slab_count,
                self.verified,
            )
        )
        counters.reports += 1
        self._report_timer.note_sent(counters.symbols, sequence.seen, self.is_representative, now)

    def _judge_window(self, now: float) -> None:
        counters = self.counters
        self._window.judge(counters.symbols, counters.lost - self._sequence.leapt, counters.socket_drops, now)


_END_OF = struct.Struct("!xB18xI4x")  # flags and tx_time of a header
_DATA = WIRE_VERSION << 4 | MessageType.DATA
_PARITY = WIRE_VERSION << 4 | MessageType.PARITY
