# SPDX-License-Identifier: Apache-2.0
"""Drives one protocol machine on an asyncio loop: datagrams in, trains out, facts inline, requests to a pool, one timer.

No task and no thread hop for a datagram: everything happens in the loop's own callbacks. What a machine or its owner
raises ends this session alone, through `on_failure`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from dpd.protocol.machine import Buffer, Machine, Transmit
from dpd.service.network.udp import TRANSIENT, TrainSender, peer_address

RECEIVE_BYTES = 2048  # what a client of a sending machine says is small: an ACK, a NACK, an ERROR
MIN_DELAY_S = 0.001  # uvloop's timers count whole milliseconds and would fire early again and again

Answer = TypeVar("Answer")


class Owner(Protocol):
    """Who holds a driver. `on_event` gets every fact and request in order; `on_failure` what was raised, after which
    the driver closes; `on_released` comes last, once closed and with no requested work running any more."""

    def on_event(self, event: Any) -> None: ...

    def on_failure(self, error: Exception) -> None: ...

    def on_released(self) -> None: ...


class Driver:
    """One machine, one socket of its own, which the driver closes."""

    def __init__(self, machine: Machine, sock: socket.socket, owner: Owner, pool: Executor) -> None:
        self.send_failures = 0
        self._machine, self._sock, self._owner, self._pool = machine, sock, owner, pool
        self._loop = asyncio.get_running_loop()
        self._train = TrainSender(sock)
        self._unsent: Transmit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._working = 0
        self._closed = False

    def start(self) -> None:
        """Listen, and send what the machine has to say first."""
        self._loop.add_reader(self._sock.fileno(), self._on_readable)
        self.pump()

    def pump(self) -> None:
        """Send and tell everything the machine has now, then set the timer."""
        self._guard(self._pump, time.monotonic())

    def request(self, work: Callable[[], Answer], deliver: Callable[[Answer], None]) -> None:
        """Run blocking `work` in the pool; its answer goes to `deliver` on the loop, unless the driver was closed."""
        self._working += 1
        future = self._loop.run_in_executor(self._pool, work)
        future.add_done_callback(lambda done: self._on_work_done(done, deliver))

    def close(self) -> None:
        """Stop listening and close the socket; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._release_if_idle()

    def _on_readable(self) -> None:
        # One datagram for each wake-up: a client usually has one on the way, and asking again for none costs 1.6 us.
        try:
            data, source = self._sock.recvfrom(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if error.errno not in TRANSIENT:
                self._fail(error)
            return
        self._guard(self._receive, data, source)

    def _receive(self, data: Buffer, source: tuple[Any, ...]) -> None:
        now = time.monotonic()
        self._machine.receive_datagram(data, peer_address(source), now)
        self._pump(now)

    def _on_timer(self) -> None:
        self._timer = None
        self._guard(self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        self._machine.handle_timeout(now)
        self._pump(now)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            self._guard(self._resume, unsent)

    def _resume(self, unsent: Transmit) -> None:
        self._send(unsent)
        self._pump(time.monotonic())

    def _on_work_done(self, done: asyncio.Future[Answer], deliver: Callable[[Answer], None]) -> None:
        self._working -= 1
        if self._closed:
            if not done.cancelled():
                done.exception()  # looked at, so that asyncio does not complain about it
            self._release_if_idle()
        elif not done.cancelled():
            self._guard(self._deliver, done, deliver)

    def _deliver(self, done: asyncio.Future[Answer], deliver: Callable[[Answer], None]) -> None:
        deliver(done.result())
        self._pump(time.monotonic())

    def _pump(self, now: float) -> None:
        """Transmits before each event: an ERROR must leave before the fact that ends the session closes its socket."""
        while not self._closed:
            while self._unsent is None and (transmit := self._machine.poll_transmit(now)) is not None:
                self._send(transmit)
            event = self._machine.next_event()
            if event is None:
                self._set_timer(now)
                return
            self._owner.on_event(event)

    def _send(self, transmit: Transmit) -> None:
        """A full socket buffer keeps the train until there is room; other passing errors lose it as the wire would."""
        pieces = transmit.pieces
        segment_size = transmit.segment_size or sum(map(len, pieces))
        try:
            self._train.send(pieces, segment_size, transmit.destination)
        except BlockingIOError:
            self._unsent = transmit
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            self.send_failures += 1

    def _set_timer(self, now: float) -> None:
        """A deadline that moved back leaves the timer as it is: it looks again when it fires. Nearly every datagram moves
        the deadline, and cancelling a timer for each costs more than one early look every 200 ms."""
        deadline = self._machine.next_timeout()
        if deadline is None or (self._timer is not None and self._timer_due <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = deadline
        self._timer = self._loop.call_later(max(deadline - now, MIN_DELAY_S), self._on_timer)

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        """The session's edge: nothing that goes wrong in here reaches the loop or another session."""
        if self._closed:
            return
        try:
            action(*arguments)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        try:
            self._owner.on_failure(error)
        finally:
            self.close()

    def _release_if_idle(self) -> None:
        if self._working == 0:
            self._owner.on_released()
