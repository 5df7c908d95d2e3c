# SPDX-License-Identifier: Apache-2.0
"""One stream of a session: a speed class with its group, its socket and its thread.

The thread drives `protocol.multicast.sender` with a blocking socket: system calls release the GIL, and the control loop
is never in the way of a datagram. Others (joins, the API) talk to it through a queue and an eventfd. A train leaves as
one `sendmsg` whose payload is the mapped file itself: no byte of the image is copied in user space.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dpd.content.library import Content
from dpd.protocol.multicast.geometry import COLUMNS, Geometry
from dpd.protocol.multicast.message import DATAGRAM_BYTES, MAX_FEEDBACK_BYTES, Beat, Control, Sign
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import (
    WIRE_OVERHEAD_BYTES,
    Ignored,
    MemberForgotten,
    MemberSilent,
    ParityNeeded,
    Sender,
    SlabSettled,
    Train,
)
from dpd.service.multicast.slab_source import SlabSource
from dpd.service.multicast.train_outlet import TrainOutlet
from dpd.service.network.groups import Group
from dpd.service.network.sending_socket import pace
from dpd.service.network.udp import TRANSIENT
from dpd.service.sealing import Sealer
from dpd.settings import MulticastSettings
from dpd.telemetry.events import EventLog
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

MAX_FEEDBACK = 256  # datagrams taken in at one look: a flood of feedback slows the session and does not stop it
FEEDBACK_EVERY = 4  # trains between two looks for feedback while data flows: 180 KB, 1.4 ms at 1 Gbit/s
SHORT_WAIT_S = 0.002  # below this poll()'s millisecond is too coarse; nanosleep keeps the pace
FLUSH_S = 0.25
BUCKET_BYTES = 2 * COLUMNS * DATAGRAM_BYTES

Forgotten = Callable[[MemberSilent | MemberForgotten], None]


@dataclass(frozen=True, slots=True)
class StreamOrigin:
    """What the wire needs to know of a stream."""

    session: int
    epoch: int
    speed_class: int
    group: str
    port: int


@dataclass(frozen=True, slots=True)
class Outfit:
    """What the service gives to each of its sessions and their streams. `is_paced_by_kernel`: see `Stream`;
    `first_rate` gives the rate in bit/s that a new stream begins with, by its session's
    ceiling and its speed class."""

    epoch: int
    public_key: bytes
    sign: Sign
    workers: ThreadPoolExecutor
    open_source: Callable[[Content], SlabSource]
    allocate: Callable[[Content, int], Group]
    flush: Callable[[Stream], None]
    first_rate: Callable[[float, int], float]
    events: EventLog
    is_paced_by_kernel: bool


class Stream:
    """One image to one group. Its thread starts with it and ends with `end` and `join`; it owns `sock` and `source`.

    `sealer` encrypts every symbol; `sign` puts the distribution point's name under BEAT and CONTROL; `flush` is called by
    the thread a few times a second and at its end, `forgotten` when a member falls silent or is given up. A rate of 0 is
    no ceiling; `is_paced_by_kernel`: the interface's queue heeds SO_MAX_PACING_RATE, so it is told the rate, too.
    """

    def __init__(
        self,
        *,
        origin: StreamOrigin,
        sock: socket.socket,
        source: SlabSource,
        geometry: Geometry,
        settings: MulticastSettings,
        schedule: Schedule,
        rate_bit_s: float,
        is_paced_by_kernel: bool,
        workers: ThreadPoolExecutor,
        sign: Sign,
        flush: Callable[[Stream], None],
        forgotten: Forgotten,
        labels: dict[str, str],
        sealer: Sealer | None = None,
    ) -> None:
        self.origin = origin
        self.ignored: dict[str, int] = {}
        self.silent = self.send_errors = self.datagrams = 0
        self.flushed: tuple[int, ...] = ()  # what `flush` has taken over so far
        self.feedback_port: int = sock.getsockname()[1]
        self._socket = sock
        self._source = source
        self._workers = workers
        self._sign = sign
        self._flush = flush
        self._forgotten = forgotten
        self._labels = labels
        self._destination = (origin.group, origin.port)
        self._outlet = TrainOutlet(
            sock, self._destination, source, offload=settings.segmentation_offload, sealer=sealer
        )
        self._feedback = memoryview(bytearray(MAX_FEEDBACK_BYTES))
        self._inbox: deque[Callable[[float], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._wake_lock = threading.Lock()  # else the number could be another file's by the time it is written to
        self._is_paced_by_kernel = is_paced_by_kernel
        if is_paced_by_kernel:
            pace(sock, rate_bit_s)
        self.bucket = TokenBucket(rate_bit_s, BUCKET_BYTES, time.monotonic())
        self.machine = Sender(
            session=origin.session,
            epoch=origin.epoch,
            geometry=geometry,
            bucket=self.bucket,
            member_timeout_s=settings.member_timeout_s,
            speed_class=origin.speed_class,
            is_sealed=sealer is not None,
            schedule=schedule,
            first_slabs=source.first_slabs,
        )
        name = f"multicast-{origin.session:08x}-{origin.speed_class}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # ---- for other threads

    def tell(self, action: Callable[[float], None]) -> None:
        """Have the thread do something with the machine, at its next look; dropped where it has ended."""
        with self._wake_lock:
            if self._wake >= 0:
                self._inbox.append(action)
                os.eventfd_write(self._wake, 1)

    def set_rate(self, rate_bit_s: float) -> None:
        """A new ceiling; 0 is none."""
        self.tell(lambda now: self._take_rate(rate_bit_s, now))

    def _take_rate(self, rate_bit_s: float, now: float) -> None:
        self.bucket.set_rate(rate_bit_s, now)
        if self._is_paced_by_kernel:
            pace(self._socket, rate_bit_s)

    def end(self) -> None:
        """Say END to the group; the thread ends behind it. Idempotent."""
        self.tell(lambda _: self.machine.end())

    def join(self) -> None:
        """Wait for the thread's end."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    @property
    def has_ended(self) -> bool:
        return self.machine.has_ended

    @property
    def has_split_trains(self) -> bool:
        """Whether trains leave datagram by datagram: the kernel or the card refused them, or the settings do."""
        return not self._outlet.offload

    @property
    def is_wanting(self) -> bool:
        """Whether a live member still lacks something."""
        return any(m.is_wanting for m in list(self.machine.members.values()))

    @property
    def wire_bytes(self) -> int:
        """What was sent in symbols so far, with all headers."""
        return self.datagrams * (self._outlet.datagram_bytes + WIRE_OVERHEAD_BYTES)

    # ---- the thread

    def _run(self) -> None:
        try:
            self._serve()
        except OSError as error:
            log.error(
                "multicast session failed: its datagrams cannot be sent; receivers will join a new one",
                extra={**self._labels, "error": error.strerror or str(error)},
            )
        except Exception:
            log.exception("multicast session failed", extra=self._labels)
        finally:
            self.machine.has_ended = True
            self._flush(self)
            self._close()

    def _close(self) -> None:
        self._socket.close()
        self._source.close()
        with self._wake_lock:
            self._inbox.clear()
            wake, self._wake = self._wake, -1
        os.close(wake)

    def _serve(self) -> None:
        machine, monotonic = self.machine, time.monotonic
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        trains, flush_at = 0, 0.0
        while not machine.has_ended:
            now = monotonic()
            if self._inbox:
                self._take_inbox(now)
            out = machine.poll_transmit(now)
            if isinstance(out, Train):
                self._send_train(out)
                trains += 1
                if trains % FEEDBACK_EVERY:
                    continue
            elif out is not None:
                self._send(out.encode(self._sign) if isinstance(out, Beat | Control) else out.encode())
                continue
            self._take_feedback(now)
            if now >= flush_at:
                flush_at = now + FLUSH_S
                machine.handle_timeout(now)
                self._flush(self)
            self._take_events()
            if out is None and not self._inbox:
                until = machine.next_timeout(now)
                if until is None or until - now > FLUSH_S:
                    self._flush(self)  # nothing else would until then
                self._wait(poll, until, now)

    def _wait(self, poll: select.poll, until: float | None, now: float) -> None:
        if until is not None and until - now <= SHORT_WAIT_S:
            time.sleep(max(until - now, 0.0))
            return
        for descriptor, _ in poll.poll(None if until is None else (until - now) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)

    def _take_inbox(self, now: float) -> None:
        while self._inbox:
            self._inbox.popleft()(now)

    def _take_feedback(self, now: float) -> None:
        for _ in range(MAX_FEEDBACK):
            try:
                size, source = self._socket.recvfrom_into(self._feedback, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
                continue
            self.machine.receive_datagram(self._feedback[:size], source, now)

    def _take_events(self) -> None:
        while event := self.machine.next_event():
            if isinstance(event, ParityNeeded):
                self._workers.submit(self._compute_parity, event)
            elif isinstance(event, SlabSettled):
                self._source.forget_parity(event.slab)
            elif isinstance(event, MemberSilent | MemberForgotten):
                self.silent += isinstance(event, MemberSilent)
                self._forgotten(event)
            elif isinstance(event, Ignored):
                bump(self.ignored, event.reason)

    def _compute_parity(self, needed: ParityNeeded) -> None:
        try:
            self._source.compute_parity(needed.slab, needed.first, needed.count)
        except OSError as error:  # the receivers would ask for this slab for ever
            log.error(
                "multicast session failed: the image cannot be read; `dpd content verify` tells where",
                extra={**self._labels, "slab": needed.slab, "error": error.strerror or str(error)},
            )
            self.end()
            return
        self.tell(lambda _: self.machine.provide_parity(needed.slab, needed.first + needed.count))

    def _send_train(self, train: Train) -> None:
        if train.begins_slab:
            self._source.prefetch(train.slab + 1)
        try:
            self.datagrams += self._outlet.send(train)
        except OSError as error:
            self._note_send_error(error)

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._destination)
        except OSError as error:
            self._note_send_error(error)

    def _note_send_error(self, error: OSError) -> None:
        """A full queue or a vanished route is loss like any other: repair mends it once the way is there again."""
        if error.errno not in TRANSIENT and error.errno != errno.EFAULT:
            raise error
        self.send_errors += 1
        if self.send_errors == 1:
            log.warning(
                "multicast cannot be sent; check multicast.interface, or `ip route add 224.0.0.0/4 dev …`",
                extra={**self._labels, "group": self.origin.group, "error": error.strerror or str(error)},
            )
        time.sleep(0.01)
