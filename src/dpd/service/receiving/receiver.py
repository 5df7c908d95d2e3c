# SPDX-License-Identifier: Apache-2.0
"""The receiver's sockets and threads. Standard library alone: it runs on the machine being deployed.

One thread reads the group's socket and drives the machine; workers recover, hash and store complete slabs, which
releases the GIL. The two meet in two queues: no call, lock or allocation per datagram is shared between them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from dpd.content.signatures.signature import verify_control
from dpd.errors import SessionError
from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.fec import Codec
from dpd.protocol.multicast.geometry import COLUMNS, Geometry
from dpd.protocol.multicast.leaves import LEAF_BYTES
from dpd.protocol.multicast.receiver import Ignored, Receiver, ReceiverCounters, SessionFact, SlabReady
from dpd.service.network.udp import SO_RXQ_OVFL, UDP_GRO, grow_receive_buffer, join_group, kernel_address, leave_group
from dpd.service.receiving.train_reader import TrainReader

if TYPE_CHECKING:
    from dpd.service.receiving.sealed_reader import SealedReader

RECEIVE_BUFFER_BYTES = 16 << 20
# The kernel charges a lone datagram of 1436 bytes with 2304 of the buffer, and a train with about its own size; credit
# assumes the worst, so that a receiver whose trains were split by a switch does not overflow.
BUFFER_BYTES_PER_SYMBOL = 2560
WORKERS = 2
PROGRESS_S = 0.2
# From the first datagram to the read: what comes meanwhile is read at once. Four receivers on two cores, 256 MiB in lone
# datagrams: 1.83 s of CPU instead of 2.28, and 1.35 Gbit/s at each instead of 1.15. At 1 Gbit/s 62 KB gather.
GATHER_S = 0.0005
# Where that gathers only a few, on slow lines, it is longer: eight receivers at 100 Mbit/s took 70 % of two cores for waking
# up 2000 times a second each. The time of arrival is the kernel's, so that no queue is seen in it.
MAX_GATHER_S = 0.004
GATHERED = 128  # symbols at one wake-up
RENEW_S, MAX_RENEW_S = 1.0, 32.0  # of silence, and then again, twice as long each time
READS = 8  # system calls between two looks at timers and outcomes: up to 5.7 MB


class Store(Protocol):
    """Where verified slabs go."""

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        """Compare with the manifest, write at the slab's offset, remember. False: the hash differs, nothing written."""

    def sync(self) -> None:
        """Make durable what was written."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the join answered: where to listen, where to send feedback, who we are.

    `source`: the one sender of a source-specific group; `public_key` signs what is said to the group; `floor_kib_s`: below
    it HTTP is better; `starts_in_s`: until a scheduled start; `key` and `salt` are those of `cipher`.
    """

    session: int
    epoch: int
    member: int
    group: str
    port: int
    feedback: tuple[str, int]
    speed_class: int = 0
    source: str = ""
    public_key: bytes = b""
    friendly: bool = False
    floor_kib_s: int = 0
    starts_in_s: float | None = None
    waiting: str = ""  # what for, in words
    cipher: str = ""
    key: bytes = field(default=b"", repr=False)
    salt: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Progress:
    """A snapshot for whoever watches."""

    slabs: int
    verified_slabs: int
    size_bytes: int
    verified_bytes: int
    receiving_s: float  # since the first symbol
    counters: ReceiverCounters
    unicast_bytes: int = 0  # those of the verified ones that came over HTTP
    speed_class: int = 0
    starts_in_s: float = 0.0  # until a scheduled start
    is_unicast: bool = False  # now

    @classmethod
    def of(cls, geometry: Geometry, verified: int, receiving_s: float, counters: ReceiverCounters) -> Progress:
        """Of a slab set that is verified."""
        count, last = geometry.slab_count, geometry.slab_count - 1
        size = verified.bit_count() * geometry.slab_bytes(0)
        if verified >> last & 1 and count > 1:
            size -= geometry.slab_bytes(0) - geometry.slab_bytes(last)
        return cls(count, verified.bit_count(), geometry.size_bytes, size, receiving_s, counters)


@dataclass(slots=True)
class _Outcome:
    assembly: SlabAssembly
    ok: bool
    recovered: int = 0
    is_kept: bool = False  # damaged, but its leaves tell what is good
    error: Exception | None = None


@dataclass(slots=True)
class GroupSocket:
    """The group's socket with its options; `credit` is how many symbols its buffer holds. `renew` leaves and joins again, so
    that switches hear of us."""

    sock: socket.socket
    credit: int
    renew: Callable[[], None] = lambda: None


def granted_credit() -> int:
    """How many symbols a receive buffer will hold here: told in the join, before the group and so its socket are known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return grow_receive_buffer(probe, RECEIVE_BUFFER_BYTES) // BUFFER_BYTES_PER_SYMBOL


def open_group(group: str, port: int, interface_address: str, source: str = "") -> GroupSocket:
    """Join a group, of one source where that is given. Raises SessionError that names the group and the way out."""
    sock = socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        granted = grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
        sock.bind((group, port))
        join_group(sock, group, interface_address, source)
    except OSError as error:
        sock.close()
        everything = "ff00::/8" if ":" in group else "224.0.0.0/4"
        raise SessionError(
            f"cannot join group {group} port {port}: {error.strerror}; name the interface that reaches the distribution point with "
            f"--interface, or give the system a route for it: `ip route add {everything} dev eth0`"
        ) from None
    with contextlib.suppress(OSError):  # Linux before 5.0: datagrams come one by one
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)

    def renew() -> None:
        with contextlib.suppress(OSError):  # an interface that went away: there is nothing to leave
            leave_group(sock, group, interface_address, source)
        with contextlib.suppress(OSError):
            join_group(sock, group, interface_address, source)

    return GroupSocket(sock, granted // BUFFER_BYTES_PER_SYMBOL, renew)


def _open_feedback(sender: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in sender[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(kernel_address(sender))
    except OSError as error:
        sock.close()
        raise SessionError(f"cannot send to the distribution point at {sender[0]}: {error.strerror}") from None
    return sock


class _Renewal:
    """Says again who listens as soon as the group is silent: snooping switches forget it where nobody asks (RFC 4541)."""

    def __init__(self, renew: Callable[[], None], now: float) -> None:
        self._renew = renew
        self._symbols = 0
        self._quiet_since = now
        self._wait_s = RENEW_S

    def watch(self, symbols: int, heard_at: float, now: float) -> None:
        """To be called a few times a second with the symbols taken so far and when the sender was heard."""
        if symbols != self._symbols or heard_at > self._quiet_since:
            self._symbols, self._quiet_since, self._wait_s = symbols, now, RENEW_S
        elif now - self._quiet_since >= self._wait_s:
            self._quiet_since, self._wait_s = now, min(2 * self._wait_s, MAX_RENEW_S)
            self._renew()


class ReceiverSession:
    """Receives until the object is complete, the session ends, or the sender falls silent. Owns the group's socket from
    here on. Raises SessionError where the sender cannot be reached.

    `fetch_leaves`: the leaves of a slab whose hash is wrong, None where they cannot be had; called in worker threads.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        group_socket: GroupSocket,
        geometry: Geometry,
        verified: int,
        slots: int,
        store: Store,
        codec: Codec,
        on_progress: Callable[[Progress], None],
        fetch_leaves: Callable[[int], bytes | None] = lambda _: None,
    ) -> None:
        self.awaits_other_source = False  # a group that was never heard is no end: slabs will come otherwise
        self.is_apart = False  # they do: silence is no end, and the sender need not hear of us
        self._renewal = _Renewal(group_socket.renew, time.monotonic())
        self._fetch_leaves = fetch_leaves
        self._calls: deque[Callable[[float], None]] = deque()
        self._wake_lock = threading.Lock()  # else the number could be another file's by the time it is written to
        self._membership = membership
        self._socket = group_socket.sock
        try:
            self._feedback = _open_feedback(membership.feedback)
        except SessionError:
            self._socket.close()
            raise
        self._store = store
        self._codec = codec
        self.on_progress = on_progress
        self._geometry = geometry
        self._tasks: queue.SimpleQueue[SlabAssembly | None] = queue.SimpleQueue()
        self._outcomes: deque[_Outcome] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._progress_at = 0.0
        self._gather_s = GATHER_S
        self.ignored: dict[str, int] = {}
        self.machine = Receiver(
            session=membership.session,
            epoch=membership.epoch,
            member=membership.member,
            geometry=geometry,
            verified=verified,
            slots=slots,
            credit=group_socket.credit,
            rng=random.Random(),
            now=time.monotonic(),
            verify=partial(verify_control, membership.public_key) if membership.public_key else None,
            friendly=membership.friendly,
        )

    def call_soon(self, action: Callable[[float], None]) -> None:
        """From another thread: have the session's thread call this with the time. What it raises ends the session; after its
        end nothing is called."""
        with self._wake_lock:
            if self._wake >= 0:
                self._calls.append(action)
                os.eventfd_write(self._wake, 1)

    def run(self) -> SessionFact:
        """Block until a SessionFact. Raises ContentError when a slab cannot be stored. What was stored by then is in
        `machine.verified`, however it ends."""
        workers = [threading.Thread(target=self._work, name=f"slab-{i}", daemon=True) for i in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            return self._receive()
        finally:
            for _ in workers:
                self._tasks.put(None)
            for worker in workers:
                worker.join()
            self._feedback.close()
            self._socket.close()
            with self._wake_lock:
                wake, self._wake = self._wake, -1
            os.close(wake)
            for outcome in self._outcomes:
                self.machine.provide_verified(outcome.assembly, outcome.ok, time.monotonic())
            self._store.sync()

    def _receive(self) -> SessionFact:
        """Read in batches; between them, everything else. Waits only when the socket is empty."""
        machine = self.machine
        reader = self._open_reader()
        while True:
            now = time.monotonic()
            before = machine.counters.symbols
            is_empty = not all(reader.read(now) for _ in range(READS))
            self._gather(machine.counters.symbols - before)
            machine.counters.socket_drops = reader.socket_drops
            now = time.monotonic()
            fact = self._advance(now)
            if fact is not None:
                return fact
            if is_empty:
                self._wait(machine.next_timeout() - now)

    def _gather(self, symbols: int) -> None:
        """So many came at one wake-up: wait longer or shorter for the next."""
        if 0 < symbols < GATHERED // 2:
            self._gather_s = min(2 * self._gather_s, MAX_GATHER_S)
        elif symbols > 2 * GATHERED:
            self._gather_s = max(self._gather_s / 2, GATHER_S)

    def _open_reader(self) -> TrainReader | SealedReader:
        """Raises ServiceError where the session is sealed and nothing here can open it."""
        if not self._membership.cipher:
            return TrainReader(self._socket, self.machine)
        from dpd.service.receiving.sealed_reader import SealedReader
        from dpd.service.sealing import Opener

        opener = Opener(self._membership.key, self._membership.salt)
        return SealedReader(self._socket, self.machine, opener, self._ignore)

    def _ignore(self, reason: str) -> None:
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def _advance(self, now: float) -> SessionFact | None:
        """Everything but reading: outcomes in, timers, feedback out, events. Returns the fact that ends the session."""
        machine = self.machine
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if outcome.error is not None:
                raise outcome.error
            machine.counters.recovered += outcome.recovered
            if outcome.is_kept:
                machine.provide_damaged(outcome.assembly, now)
            else:
                machine.provide_verified(outcome.assembly, outcome.ok, now)
        while self._calls:
            self._calls.popleft()(now)
        if now >= machine.next_timeout():
            machine.handle_timeout(now)
        while feedback := machine.poll_transmit(now):
            self._send(feedback.encode())
        while event := machine.next_event():
            if isinstance(event, SlabReady):
                self._tasks.put(event.assembly)
            elif isinstance(event, Ignored):
                self._ignore(event.reason)
            elif event is not SessionFact.SILENT or not self._bears_silence:
                self._report_progress(now)
                return event
        if now >= self._progress_at:
            self._progress_at = now + PROGRESS_S
            self._renewal.watch(machine.counters.symbols, machine.heard_at, now)
            self._report_progress(now)
        return None

    @property
    def _bears_silence(self) -> bool:
        return self.is_apart or (self.awaits_other_source and not self.machine.has_heard)

    def _wait(self, timeout_s: float) -> None:
        for descriptor, _ in self._poll.poll(max(0.0, min(timeout_s, PROGRESS_S)) * 1000 + 0.5):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                time.sleep(self._gather_s)

    def _send(self, feedback: bytes) -> None:
        if self.is_apart:
            return
        with contextlib.suppress(OSError):  # the sender is away or the queue is full: the next report says it again
            self._feedback.send(feedback)

    def _report_progress(self, now: float) -> None:
        self.on_progress(
            Progress.of(
                self._geometry, self.machine.verified, now - self.machine.first_symbol_at, self.machine.counters
            )
        )

    def _work(self) -> None:
        while (assembly := self._tasks.get()) is not None:
            try:
                recovered = assembly.recover(self._codec)
                content = assembly.buffer[: self._geometry.slab_bytes(assembly.slab)]
                ok = self._store.check_and_write(assembly.slab, content)
                outcome = _Outcome(assembly, ok, recovered, is_kept=not ok and self._keep_good(assembly))
            except Exception as error:  # raised again by the thread that runs the session
                outcome = _Outcome(assembly, False, error=error)
            self._outcomes.append(outcome)
            os.eventfd_write(self._wake, 1)

    def _keep_good(self, assembly: SlabAssembly) -> bool:
        """Drop of a damaged slab what its leaves do not confirm. False: there are none, so nothing of it is to be trusted."""
        leaves = self._fetch_leaves(assembly.slab)
        if leaves is None or len(leaves) != assembly.rows * COLUMNS * LEAF_BYTES:
            return False
        assembly.keep_confirmed(leaves)
        return True
