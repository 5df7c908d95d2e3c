# SPDX-License-Identifier: Apache-2.0
"""The server's side of one TFTP read, without sockets, clock or disk.

Theory of operation. Blocks count from 1 and never wrap in here; only their low 16 bits are on the wire, so 65535 is
followed by 0. The transfer is OFFERING until the client acknowledges the OACK (skipped when it asked for no option we
know), then SENDING windows of `windowsize` blocks, then FINISHED with one verdict.

    acked                 the last block the client has, in order
    acked+1 ... window_end   the window; `next_block` is the first of it not handed out yet
    sent                  the highest block ever handed out

The file arrives by extents of several windows: ExtentNeeded asks, `provide_extent` answers. A window leaves as trains. Where
windows are small each is a turn of the owner's loop for a few kilobytes: `answer` is a short way for the one ACK that is
waited for while nothing is lost (`awaited`).

Loss. RFC 7440 lets the client acknowledge its last block in order when it misses one; the window then restarts behind
it. The danger is the Sorcerer's Apprentice (RFC 1123 section 4.2.3.1): EDK2 sends one ACK for *every* datagram out of
order, and each restart puts more of those on the way. So all that was sent before a restart must be acknowledged
(`recovery_end`) before an ACK alone may restart again. Until then equal ACKs do nothing, and an ACK that got further
extends the window to `windowsize` behind it, since that is what the client now waits for: two swapped datagrams look so.
But one that came no sooner than an answer to the restart can come means that the restarted window was hit as well, and it
starts once more behind that ACK. Where such an ACK was lost, two round trips of quiet (`quiet_deadline`) say the same. An
ACK of the block before the window is a lost first block or a copy of an ACK: the same two round trips tell which.
With windowsize 1 a repeated ACK never sends anything. The window does not shrink on loss: the client acknowledges after
`windowsize` blocks, so a shorter window would run into its time-out each time.

Silence. A window of which nothing is heard within a few round trips has lost its last block, its ACK, or all. Sending its
last block once more (`probing`) tells: the client has then all, or says by an ACK where it stands, and the window restarts
there at once. Only where that meets silence too does the whole window go again. Two answers mean that it was needless.
Before the client's first word there is nothing but its address to go by, which anybody can write into a request:
UNANSWERED_ATTEMPTS bounds what it gets.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import Enum, auto

from dpd.errors import MalformedMessage
from dpd.protocol.machine import Address, Buffer, Transmit
from dpd.protocol.tftp.blocks import Blocks, Extent
from dpd.protocol.tftp.events import Event, Finished, Ignored, Malformed, Verdict
from dpd.protocol.tftp.options import Limits, negotiate
from dpd.protocol.tftp.packet import (
    DEFAULT_BLKSIZE,
    HEADER_BYTES,
    Ack,
    Error,
    ErrorCode,
    Opcode,
    OptionAck,
    ReadRequest,
    decode,
    encode,
)
from dpd.protocol.tftp.retransmission import RetransmissionTimer

MAX_TRAIN_BYTES = 65507  # what one UDP_SEGMENT call takes, see service/network/udp.py
MAX_TRAIN_SEGMENTS = 64
MAX_STRAYS = 4  # answers to strangers kept at once
UNANSWERED_ATTEMPTS = 3
SAMPLE_EVERY = 16  # blocks between two looks at the round trip, which cost as much as a short way itself

ACK = int(Opcode.ACK)
ACK_OPCODE = b"\0\x04"
NOTHING = memoryview(b"")

_pack_header = struct.Struct(">HH").pack


class _State(Enum):
    OFFERING = auto()
    SENDING = auto()
    FINISHED = auto()


class ReadTransfer:
    """One client reads one file of a known size. The verbs are those of `protocol.machine`."""

    def __init__(self, request: ReadRequest, client: Address, size_bytes: int, limits: Limits) -> None:
        self.client = client
        self.size_bytes = size_bytes
        self.terms = negotiate(request.options, size_bytes, limits)
        self._blocks = Blocks(size_bytes, self.terms.blksize, limits.extent_bytes)
        self.last_block = self._blocks.last
        self._windowsize = self.terms.windowsize
        self.retransmits = 0
        self._acked = self._sent = 0
        self._next_block, self._window_end = 1, 0
        self._recovery_end = -1
        self._restarted_at = 0.0
        self._other_datagrams = 0  # all but the first copy of each block
        self._awaited = b""  # the one ACK that `answer` takes
        self._wanted = b""  # the fifth byte of the client's ACKs
        self._run, self._run_start, self._run_step, self._run_end = NOTHING, 0, 1, 0  # whole windows of the extent
        self._probing = False
        self._probe_of = 0.0  # when the window that was probed had left
        self._unanswered_attempts = min(limits.attempts, UNANSWERED_ATTEMPTS)
        asked = any(name == "timeout" for name, _ in self.terms.granted)  # then the client's word holds, RFC 2349
        first_wait_s = None if asked else limits.first_wait_s
        self._timer = RetransmissionTimer(self.terms.timeout_s, limits.attempts, first_wait_s)
        self._deadline: float | None = None
        self._quiet_deadline: float | None = None
        self._answered = False
        self._window_sent_at = 0.0
        self._disturbed = True  # a window that gives no round-trip sample
        self._repeated_block, self._repeated_for_s = -1, 0.0  # and how long it took until it was acknowledged
        self._control: bytes | None = None
        self._strays: deque[Address] = deque(maxlen=MAX_STRAYS)
        self._events: deque[Event] = deque()
        segment = self.terms.blksize + HEADER_BYTES
        self._train_blocks = max(1, min(MAX_TRAIN_SEGMENTS, MAX_TRAIN_BYTES // segment))
        if self.terms.granted:
            self._state = _State.OFFERING
            self._control = encode(OptionAck(self.terms.granted))
        else:
            self._state = _State.SENDING
            self._open_window()

    @property
    def finished(self) -> bool:
        """Whether the verdict has been given."""
        return self._state is _State.FINISHED

    @property
    def untouched(self) -> bool:
        """Whether the client has not yet answered at all; its repeated request is then no new one."""
        return not self._answered and self._state is not _State.FINISHED

    @property
    def answered(self) -> bool:
        """Whether the client has shown that it is there, and the transfer goes on."""
        return self._answered and self._state is _State.SENDING

    @property
    def was_answered(self) -> bool:
        """Whether the client ever confirmed anything; an OACK counts, an ERROR does not."""
        return self._answered

    @property
    def datagrams_sent(self) -> int:
        """All of them, repeated ones included."""
        return self._sent + self._other_datagrams

    @property
    def known_wait_s(self) -> float | None:
        """After how long a repetition makes sense, for the client's next transfer; None where no round trip was seen."""
        return self._timer.known_s

    @property
    def bytes_acked(self) -> int:
        """How much of the file the client has confirmed."""
        return min(self._acked * self.terms.blksize, self.size_bytes)

    def answer(self, ack: bytes, now: float) -> memoryview | None:
        """The next window as one train, where `ack` came from the client and is just the one that is waited for. None: nothing
        was changed, and `receive_datagram` is to look at it."""
        if ack != self._awaited:
            return None
        start = self._run_start
        end = start + self._run_step
        if end > self._run_end:
            return None
        self._run_start = end
        self._acked = acked = self._sent
        self._sent = sent = acked + self._windowsize
        self._awaited = _pack_header(ACK, sent & 0xFFFF)
        if self._wanted:
            self._awaited += self._wanted
        if not sent % SAMPLE_EVERY:
            self._timer.sample(now - self._window_sent_at)
        self._window_sent_at = now
        return self._run[start:end]

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        """A datagram reached this transfer's port. What ends or advances the transfer comes from its client alone."""
        if len(data) == HEADER_BYTES and data[:2] == ACK_OPCODE and source == self.client and not self.finished:
            # Nearly every datagram; the codec's way costs 1.1 us more, with windowsize 1 for each block.
            self._wanted = b""
            self._receive_ack(data[2] << 8 | data[3], now)
            return
        try:
            message = decode(data)
        except MalformedMessage as error:
            self._events.append(Malformed(error.reason))
            return
        if source != self.client:
            self._events.append(Ignored("stray_tid"))
            if not isinstance(message, Error):  # an error is never answered
                self._strays.append(source)
        elif self._state is _State.FINISHED:
            return
        elif isinstance(message, Ack):
            self._settle()
            self._awaited = b""
            self._wanted = bytes(data[HEADER_BYTES:])
            if self.terms.variable_window and message.next_window:
                self._windowsize = min(message.next_window, self.terms.max_windowsize)
            self._receive_ack(message.block_number, now)
        elif isinstance(message, Error):
            verdict = Verdict.PROBE if self._acked == 0 else Verdict.ABORTED
            self._finish(verdict, f"client error {message.code}: {message.message or 'no text'}")
        else:
            self._events.append(Ignored("unexpected"))

    def handle_timeout(self, now: float) -> None:
        """The deadline of `next_timeout` may have passed: send again, or give up after the last attempt."""
        self._settle()
        if self._quiet_deadline is not None and now >= self._quiet_deadline:
            self._restart_window(now)
        if self._deadline is None or now < self._deadline:
            return
        self._deadline = None
        self._awaited = b""
        patient = self._timer.back_off()
        if not patient or (not self._answered and self._timer.backed_off > self._unanswered_attempts):
            self._finish(Verdict.TIMEOUT, self._silence())
        elif self._state is _State.OFFERING:
            self.retransmits += 1
            self._disturbed = True
            self._control = encode(OptionAck(self.terms.granted))
        elif self._sent - self._acked > 1 and self._timer.backed_off % 2 and self._sent > self._recovery_end:
            self._probe(now)
        else:
            self._restart_window(now)

    def poll_transmit(self, now: float) -> Transmit | None:
        """The next datagram or train, None when there is nothing to send now."""
        if self._strays:
            return Transmit((encode(Error(ErrorCode.UNKNOWN_TID, "unknown transfer")),), self._strays.popleft())
        if self._control is not None:
            return self._send_control(now)
        if self._state is not _State.SENDING or self._next_block > self._window_end:
            return None
        return self._send_train(now) if self._has_window() else None

    def next_event(self) -> Event | None:
        """The next fact or request, in order."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None while waiting for the disk or after the end."""
        self._settle()
        if self._quiet_deadline is not None and self._deadline is not None:
            return min(self._deadline, self._quiet_deadline)
        return self._deadline

    def provide_extent(self, extent: Extent, length: int) -> None:
        """What ExtentNeeded asked for; fewer bytes than that mean that the file has shrunk, which ends the transfer."""
        if self._state is _State.FINISHED:
            return
        if not self._blocks.provide(extent, length):
            self.fail("the file became shorter while it was read")

    def fail(self, reason: str) -> None:
        """End the transfer from this side; the client gets `reason` as an ERROR."""
        if self._state is not _State.FINISHED:
            self._control = encode(Error(ErrorCode.NOT_DEFINED, reason))
            self._finish(Verdict.ABORTED, reason)

    def _settle(self) -> None:
        """What the short ways leave for later, since they are as many as the blocks of lock-step."""
        if self._awaited:
            self._next_block, self._window_end = self._sent + 1, self._sent
            self._deadline = self._window_sent_at + self._timer.settled_s

    def _receive_ack(self, number: int, now: float) -> None:
        self._settle()
        if self._state is _State.OFFERING:
            self._accept_offer(number, now)
            return
        advance = (number - self._acked) & 0xFFFF
        if advance > self._sent - self._acked:
            self._events.append(Ignored("stale_ack"))
        elif advance == 0:
            self._receive_repeated_ack(now)
        else:
            self._advance(advance, now)

    def _accept_offer(self, number: int, now: float) -> None:
        if number != 0:
            self._events.append(Ignored("stale_ack"))
            return
        self._answered = True
        self._sample_round_trip(now)
        self._timer.assume()
        self._state = _State.SENDING
        self._open_window()

    def _receive_repeated_ack(self, now: float) -> None:
        self._events.append(Ignored("duplicate_ack"))
        if self._acked == self._repeated_block:  # both copies came, so that the repetition was needless
            self._timer.doubt(self._repeated_for_s)
            self._repeated_block = -1
        perhaps_lost = self._windowsize > 1 and self._sent > self._acked > self._recovery_end
        if perhaps_lost and self._probing:
            self._restart_window(now)
        elif perhaps_lost and self._quiet_deadline is None:
            self._awaited = b""
            self._quiet_deadline = now + self._timer.quiet_s()

    def _advance(self, blocks: int, now: float) -> None:
        self._acked += blocks
        self._answered = True
        self._timer.progress()
        if self._acked == self.last_block:
            self._finish(Verdict.COMPLETED)
        elif self._acked == self._sent:
            self._sample_round_trip(now)
            if self._probing:  # the client may answer the probe by the same ACK once more
                self._recovery_end = self._acked
                self._repeated_block, self._repeated_for_s = self._acked, now - self._probe_of
            elif self._disturbed and self._windowsize == 1:
                self._repeated_block, self._repeated_for_s = self._acked, now - self._window_sent_at
            self._open_window()
        elif self._acked > self._recovery_end or now - self._restarted_at >= self._timer.least_s:
            self._restart_window(now)
        else:
            self._extend_window(now)

    def _extend_window(self, now: float) -> None:
        self._next_block = max(self._next_block, self._acked + 1)
        self._window_end = min(self._acked + self._windowsize, self.last_block)
        self._quiet_deadline = now + self._timer.quiet_s()

    def _sample_round_trip(self, now: float) -> None:
        self._timer.progress()
        if not self._disturbed:
            self._timer.sample(now - self._window_sent_at)

    def _open_window(self) -> None:
        """The window behind the last acknowledged block; its deadline begins when it is sent."""
        self._next_block = self._acked + 1
        self._window_end = min(self._acked + self._windowsize, self.last_block)
        self._deadline = self._quiet_deadline = None
        self._probing = False

    def _probe(self, now: float) -> None:
        """The last block that was sent, once more."""
        self._probing = True
        self._probe_of = now if self._disturbed else self._window_sent_at
        self._next_block = self._window_end = self._sent

    def _silence(self) -> str:
        told = f"no answer after block {self._acked} of {self.last_block}"
        if self._answered and not self._acked and self.terms.blksize > DEFAULT_BLKSIZE:
            told += f", and none to the first of {self.terms.blksize} bytes: packets of that size may be lost on the way (MTU)"
        return told

    def _restart_window(self, now: float) -> None:
        self._recovery_end = self._sent
        self._restarted_at = now
        self._awaited = b""
        self._open_window()

    def _has_window(self) -> bool:
        """Whether the window's bytes are here; asks for them if not."""
        first = self._acked + 1
        if self._blocks.here(first, self._window_end):
            return True
        needed = self._blocks.ask(first, self._windowsize)
        if needed is not None:
            self._events.append(needed)
        return False

    def _send_control(self, now: float) -> Transmit:
        control, self._control = self._control, None
        assert control is not None
        self._other_datagrams += 1
        if self._state is _State.OFFERING:
            self._window_sent_at, self._disturbed = now, self.retransmits > 0
            self._deadline = now + self._timer.interval_s()
        return Transmit((control,), self.client)

    def _send_train(self, now: float) -> Transmit:
        """As much of the window as one system call takes."""
        first = self._next_block
        count = min(self._window_end - first + 1, self._train_blocks)
        self._note_sent(first, first + count - 1, now)
        return Transmit(self._blocks.train(first, count), self.client, self.terms.blksize + HEADER_BYTES)

    def _note_sent(self, first: int, last: int, now: float) -> None:
        repeated = max(min(last, self._sent) - first + 1, 0)
        self.retransmits += repeated
        self._other_datagrams += repeated
        if repeated:
            self._disturbed = True
        elif first == self._acked + 1:
            self._window_sent_at, self._disturbed = now, False
        self._sent = max(self._sent, last)
        self._next_block = last + 1
        self._deadline = now + self._timer.interval_s()
        if not self._disturbed and last == self._window_end and self._answered and self._quiet_deadline is None:
            self._await(last)

    def _await(self, last: int) -> None:
        """The ACK of this block has a short way, where windows are trains of their own."""
        if self._windowsize <= self._train_blocks:
            self._awaited = _pack_header(ACK, last & 0xFFFF) + self._wanted
            self._run, self._run_start, self._run_end = self._blocks.run(last + 1)
            self._run_step = self._windowsize * (self.terms.blksize + HEADER_BYTES)

    def _finish(self, verdict: Verdict, detail: str = "") -> None:
        self._state = _State.FINISHED
        self._deadline = self._quiet_deadline = None
        self._awaited = b""
        self._blocks.drop()
        self._run = NOTHING
        self._events.append(Finished(verdict, detail))
