# SPDX-License-Identifier: Apache-2.0
"""One network test of `dpd mc-test`, as the daemon runs it: a group, a socket and a thread that sends and answers echoes."""

from __future__ import annotations

import errno
import logging
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.probe import (
    BEAT_INTERVAL_S,
    PROBE_BYTES,
    SMALL_BYTES,
    Probe,
    Shot,
    Stream,
    decode,
    packet_bytes,
    plan_run,
)
from dpd.service.network.groups import Group
from dpd.service.network.sending_socket import open_sending_socket
from dpd.service.network.udp import TRANSIENT, kernel_address
from dpd.settings import MulticastSettings

log = logging.getLogger(__name__)

ECHOES_S = 50
END_S = 5.0

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # <linux/in.h>: DF on every packet, whatever path MTU is known
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62  # <linux/in6.h>

State = str  # "open", "waiting" (for another test's run), "sending", "sent"


class Owner(Protocol):
    """Who is told, from the test's thread."""

    def note_sent(self) -> None: ...

    def note_end(self) -> None: ...


@dataclass(slots=True)
class _Sent:
    """What really left, for the receiver to compare with."""

    streams: dict[str, int] = field(default_factory=dict)
    too_large: set[int] = field(default_factory=set)  # packet bytes that the own interface does not take
    errors: int = 0
    echoes: int = 0


class Turn:
    """Runs go one after the other, with a pause between."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._is_taken = False
        self._free_at = 0.0

    def take(self) -> bool:
        with self._lock:
            if self._is_taken or time.monotonic() < self._free_at:
                return False
            self._is_taken = True
            return True

    def give_back(self) -> None:
        with self._lock:
            self._is_taken = False
            self._free_at = time.monotonic() + self._pause_s


class NetworkTest:
    """One test: a group, a socket and a thread, which ends when its time is over."""

    def __init__(
        self,
        number: int,
        group: Group,
        settings: MulticastSettings,
        client_address: str,
        seconds: float,
        turn: Turn,
        owner: Owner,
    ) -> None:
        self.test_id = f"{number:016x}"
        self.group = group
        self.client_address = client_address
        self._number, self._ttl, self._seconds = number, settings.ttl, seconds
        self._turn, self._owner = turn, owner
        self._destination = kernel_address((group.address, group.port))
        opened = open_sending_socket(settings.interface, group, settings.ttl)
        self._sock, self._address = opened.sock, opened.address
        self._forbid_fragments()
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self._state: State = "open"
        self._sent = _Sent()
        self._ending = threading.Event()
        self._echoes_left, self._echoes_at = ECHOES_S, 0.0
        self._thread = threading.Thread(target=self._live, name=f"probe-{self.test_id}", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return self._ending.is_set()

    def describe(self) -> dict[str, Any]:
        """What the receiver has to know, names as in the answer to a join."""
        return {
            "test": self.test_id,
            "group": self.group.address,
            "port": self.group.port,
            "source": self._address if self.group.is_source_specific else "",
            "sender": self._address,
            "feedback_port": self._sock.getsockname()[1],
            "ttl": self._ttl,
            "seconds": self._seconds,
        }

    def status(self) -> dict[str, Any]:
        """`sent`: datagrams by stream; `too_large`: packet sizes that our own interface refused."""
        return {
            "state": self._state,
            "sent": dict(self._sent.streams),
            "too_large": sorted(self._sent.too_large),
            "errors": self._sent.errors,
            "echoes": self._sent.echoes,
        }

    def ask_run(self) -> None:
        """Idempotent: a test has one run."""
        if self._state == "open":
            self._state = "waiting"

    def ask_end(self) -> None:
        """Idempotent; the thread notices at its next beat."""
        self._ending.set()

    def wait_ended(self) -> None:
        self._thread.join(END_S)

    def _forbid_fragments(self) -> None:
        if self._sock.family == socket.AF_INET6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            self._sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
        else:
            self._sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)

    def _live(self) -> None:
        try:
            self._send_beats()
        except Exception:
            log.exception("network test broke off", extra={"test": self.test_id})
        finally:
            self._ending.set()
            self._sock.close()
            self._owner.note_end()

    def _send_beats(self) -> None:
        begin = time.monotonic()
        beat = 0
        while not self._ending.is_set() and time.monotonic() < begin + self._seconds:
            self._send(Shot(0.0, Stream.BEAT, beat, SMALL_BYTES))
            beat += 1
            if self._state == "waiting" and self._turn.take():
                try:
                    self._send_run()
                finally:
                    self._turn.give_back()
                beat = int((time.monotonic() - begin) / BEAT_INTERVAL_S) + 1  # it took longer than a beat
            self._answer_until(begin + beat * BEAT_INTERVAL_S)

    def _send_run(self) -> None:
        self._state = "sending"
        begin = time.monotonic()
        for shot in plan_run(6 if self._sock.family == socket.AF_INET6 else 4):
            if self._ending.is_set():
                return
            self._answer_until(begin + shot.at_s)
            self._send(shot)
        self._state = "sent"

    def _send(self, shot: Shot) -> None:
        probe = Probe(shot.stream, self._number, shot.number, time.monotonic_ns() // 1000, self._ttl)
        try:
            self._sock.sendto(probe.encode(shot.size_bytes), self._destination)
        except OSError as error:
            if error.errno == errno.EMSGSIZE and shot.stream is Stream.SIZE:
                self._sent.too_large.add(packet_bytes(shot.number))
            elif error.errno in TRANSIENT:
                self._sent.errors += 1
            else:
                raise
            return
        name = shot.stream.name.lower()
        self._sent.streams[name] = self._sent.streams.get(name, 0) + 1
        self._owner.note_sent()

    def _answer_until(self, due: float) -> None:
        """Answer echoes until then. poll() knows whole milliseconds; what is shorter is slept through."""
        while (left := due - time.monotonic()) > 0 and not self._ending.is_set():
            if self._poll.poll(int(left * 1000)):
                self._take_echo()
            elif left < 0.001:
                time.sleep(left)

    def _take_echo(self) -> None:
        try:
            data, source = self._sock.recvfrom(2048, socket.MSG_DONTWAIT)
        except OSError as error:  # nothing after all, or the ICMP error of an earlier answer
            if error.errno not in TRANSIENT:
                raise
            return
        self._answer(data, source)

    def _answer(self, data: bytes, source: tuple[Any, ...]) -> None:
        try:
            probe = decode(data)
        except MalformedMessage:
            return
        if probe.stream is not Stream.ECHO or probe.test != self._number or len(data) != PROBE_BYTES:
            return
        now = time.monotonic()
        if now >= self._echoes_at + 1:
            self._echoes_at, self._echoes_left = now, ECHOES_S
        if self._echoes_left > 0:
            self._echoes_left -= 1
            self._sent.echoes += 1
            try:
                self._sock.sendto(data, source)
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
