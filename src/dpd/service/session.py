# SPDX-License-Identifier: Apache-2.0
"""One multicast session: an image, a group, a thread.

The thread drives `protocol.multicast.sender` with a blocking socket: system calls release the GIL, and the control loop
is never in the way of a datagram. Others (joins, the API) talk to it through a queue and an eventfd. A train leaves as
one `sendmsg` whose payload is the mapped file itself: no byte of the image is copied in user space.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dpd.content.library import Content
from dpd.errors import ServiceError
from dpd.protocol.multicast.geometry import COLUMNS, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import DATAGRAM_BYTES, MAX_FEEDBACK_BYTES, WIRE_VERSION
from dpd.protocol.multicast.pacing import TokenBucket
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import (
    Ignored,
    MemberForgotten,
    MemberSilent,
    ParityNeeded,
    Sender,
    SlabSettled,
    Train,
)
from dpd.service.slab_source import SlabSource
from dpd.service.udp import TRANSIENT, TrainSender, interface_address
from dpd.settings import MulticastSettings
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

MAX_FEEDBACK = 256  # datagrams taken in at one look: a flood of feedback slows the session and does not stop it
FEEDBACK_EVERY = 4  # trains between two looks for feedback while data flows: 180 KB, 1.4 ms at 1 Gbit/s
SHORT_WAIT_S = 0.002  # below this poll()'s millisecond is too coarse; nanosleep keeps the pace
FLUSH_S = 0.25
SOCKET_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One receiver of a session."""

    member: str
    address: str
    state: str
    verified_slabs: int
    joined_s_ago: float
    received: int
    lost: int
    socket_drops: int
    nacks: int
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session as the API shows it."""

    session_id: str
    package_id: str
    source_version: int
    state: str
    group: str
    port: int
    slabs: int
    pass_number: int
    rate_mbit_s: float
    datagrams_sent: int
    bytes_sent: int
    repairs_sent: int
    members: tuple[MemberStatus, ...]


@dataclass(slots=True)
class _Guest:
    """Who is behind a member id, for status."""

    address: str
    joined_at: float


class Session:
    """One image to one group. Its thread starts with it and ends with `stop`."""

    def __init__(
        self,
        *,
        content: Content,
        source: SlabSource,
        settings: MulticastSettings,
        group: str,
        port: int,
        epoch: int,
        workers: ThreadPoolExecutor,
        flush: Callable[[Session], None],
    ) -> None:
        self.content = content
        self.group, self.port = group, port
        self.number = secrets.randbits(32)
        self.session_id = f"{self.number:08x}"
        self.guests: dict[int, _Guest] = {}
        self.idle_since = time.monotonic()
        self.ignored: dict[str, int] = {}
        self.silent = self.send_errors = self.datagrams = 0
        self._geometry = Geometry(content.size_bytes)
        self._source = source
        self._workers = workers
        self._flush = flush
        self._address = interface_address(settings.interface) if settings.interface else ""
        self._socket = self._open_socket(settings)
        self._trains = TrainSender(self._socket, offload=settings.segmentation_offload)
        self._feedback = memoryview(bytearray(MAX_FEEDBACK_BYTES))
        self._inbox: deque[Callable[[float], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._wake_lock = threading.Lock()  # else the number could be another file's by the time it is written to
        self._bucket = TokenBucket(settings.rate_mbit_s * 1e6, 2 * COLUMNS * DATAGRAM_BYTES, time.monotonic())
        self.machine = Sender(
            session=self.number,
            epoch=epoch,
            geometry=self._geometry,
            bucket=self._bucket,
            member_timeout_s=settings.member_timeout_s,
            schedule=Schedule(settings.start_delay_s, 4 * settings.start_delay_s),
        )
        self._thread = threading.Thread(target=self._run, name=f"multicast-{self.session_id}", daemon=True)
        self._thread.start()

    def _open_socket(self, settings: MulticastSettings) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, settings.ttl)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            if self._address:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._address))
            sock.bind((self._address or "0.0.0.0", 0))
        except OSError as error:
            sock.close()
            raise ServiceError(f"multicast socket on {self._address or 'any address'}: {error.strerror}") from None
        return sock

    # ---- for other threads

    def join(self, address: str, verified: int, credit: int, slots: int) -> dict[str, Any]:
        """Admit a receiver. Returns what it must know."""
        member = secrets.randbits(64)
        self.guests[member] = _Guest(address, time.monotonic())
        self._tell(
            lambda now: self.machine.add_member(member, verified=verified, credit=credit, free_slabs=slots, now=now)
        )
        return {
            "wire": WIRE_VERSION,
            "session_id": self.session_id,
            "session": self.number,
            "epoch": self.machine.epoch,
            "member": f"{member:016x}",
            "group": self.group,
            "port": self.port,
            "sender": self._address,
            "feedback_port": self._socket.getsockname()[1],
            "package_id": self.content.package_id,
            "source_version": self.content.source_version,
            "size_bytes": self.content.size_bytes,
            "sha256": self.content.sha256,
        }

    def leave(self, member: int) -> bool:
        """A receiver completed. False: nobody of that name."""
        if self.guests.pop(member, None) is None:
            return False
        self.idle_since = time.monotonic()
        self._tell(lambda _: self.machine.remove_member(member))
        return True

    def set_rate(self, rate_mbit_s: float) -> None:
        self._tell(lambda now: self._bucket.set_rate(rate_mbit_s * 1e6, now))

    def stop(self) -> None:
        """Say END to the group and end the thread; idempotent."""
        self._tell(lambda _: self.machine.end())
        self._thread.join(timeout=5)

    def _tell(self, action: Callable[[float], None]) -> None:
        with self._wake_lock:
            if self._wake >= 0:
                self._inbox.append(action)
                os.eventfd_write(self._wake, 1)

    @property
    def _labels(self) -> dict[str, str]:
        return {"session": self.session_id, "package": self.content.package_id}

    @property
    def has_split_trains(self) -> bool:
        """Whether trains leave datagram by datagram: the kernel or the card refused them, or the settings do."""
        return not self._trains.offload

    @property
    def is_busy(self) -> bool:
        """Whether a live member still lacks something."""
        return any(m.is_wanting for m in list(self.machine.members.values()))

    def status(self) -> SessionStatus:
        machine, counters, now = self.machine, self.machine.counters, time.monotonic()
        members = []
        for number, member in list(machine.members.items()):
            guest = self.guests.get(number)
            if guest is not None:
                members.append(
                    MemberStatus(
                        member=f"{number & 0xFFFFFFFF:08x}",
                        address=guest.address,
                        state="complete" if member.is_complete else "receiving" if member.is_live else "silent",
                        verified_slabs=member.verified.bit_count(),
                        joined_s_ago=round(now - guest.joined_at, 3),
                        received=member.tally.received,
                        lost=member.tally.lost,
                        socket_drops=member.tally.socket_drops,
                        nacks=member.nacks,
                        round_trip_ms=round(member.round_trip.smoothed_s * 1000, 3),
                    )
                )
        sent = counters.source_symbols + counters.repair_symbols
        return SessionStatus(
            session_id=self.session_id,
            package_id=self.content.package_id,
            source_version=self.content.source_version,
            state="stopped" if machine.has_ended else "sending" if self.is_busy else "idle",
            group=self.group,
            port=self.port,
            slabs=self._geometry.slab_count,
            pass_number=machine.pass_number,
            rate_mbit_s=self._bucket.rate_bit_s / 1e6,
            datagrams_sent=sent,
            bytes_sent=sent * SYMBOL_BYTES,
            repairs_sent=counters.repair_symbols,
            members=tuple(members),
        )

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
                self._send(out.encode())
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
            elif isinstance(event, MemberSilent):
                self.silent += 1
                guest = self.guests.get(event.member)
                log.info("receiver fell silent", extra={**self._labels, "peer": guest.address if guest else ""})
            elif isinstance(event, MemberForgotten):
                self.guests.pop(event.member, None)
                self.idle_since = time.monotonic()
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
            self._tell(lambda _: self.machine.end())
            return
        self._tell(lambda _: self.machine.provide_parity(needed.slab, needed.first + needed.count))

    def _send_train(self, train: Train) -> None:
        if train.row == 0 and train.symbols is None:
            self._source.prefetch(train.slab + 1)
        try:
            self.datagrams += self._trains.send(self._source.pieces(train), DATAGRAM_BYTES, (self.group, self.port))
        except OSError as error:
            self._note_send_error(error)

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, (self.group, self.port))
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
                extra={**self._labels, "group": self.group, "error": error.strerror or str(error)},
            )
        time.sleep(0.01)
