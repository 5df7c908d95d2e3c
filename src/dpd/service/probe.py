# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of `dpd mc-test`: sends the streams of a test to a group of its own, and answers echoes.

It can not be used to flood. At most MAX_TESTS exist at once, one for each client address; a test runs its streams once
(4.9 MB), one test at a time with a pause between them, which is 6 Mbit/s at most in the long run; what else it sends is
four small datagrams a second. An echo is answered to who sent it with as many bytes as came, ECHOES_S a second at most.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpd.errors import MalformedMessage, ServiceError, SessionError
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
from dpd.service.groups import Group, GroupRange
from dpd.service.sending_socket import open_sending_socket
from dpd.service.udp import TRANSIENT, kernel_address
from dpd.settings import MulticastSettings, Settings
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

MAX_TESTS = 8
MAX_SECONDS = 660.0
DEFAULT_SECONDS = 60.0
PAUSE_S = 4.0  # between the runs of all tests
ECHOES_S = 50
END_S = 5.0

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # <linux/in.h>: DF on every packet, whatever path MTU is known
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62  # <linux/in6.h>
CHECK_NAME = re.compile(r"[a-z_]{1,24}")
MAX_CHECKS = 24

State = str  # "open", "waiting" (for another test's run), "sending", "sent"


@dataclass(slots=True)
class ProbeStats:
    """What Prometheus sees of network tests."""

    tests: int = counter("Network tests that receivers opened")
    running: int = gauge("Network tests that exist now")
    refused: int = counter("Network tests refused because as many as may run did")
    datagrams: int = counter("Test datagrams sent to groups")
    verdicts: dict[str, int] = counts("Results that receivers reported", "verdict")


@dataclass(slots=True)
class _Sent:
    """What really left, for the receiver to compare with."""

    streams: dict[str, int] = field(default_factory=dict)
    too_large: set[int] = field(default_factory=set)  # packet bytes that the own interface does not take
    errors: int = 0
    echoes: int = 0


class ProbeService:
    """All tests. Its doors may be called from any thread."""

    name = "probe"

    def __init__(
        self, settings: MulticastSettings, *, taken: Callable[[], Collection[str]] = tuple, pause_s: float = PAUSE_S
    ) -> None:
        self.stats = ProbeStats()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._taken = taken
        self._turn = _Turn(pause_s)
        self._lock = threading.Lock()
        self._tests: dict[str, Test] = {}
        self._is_draining = False

    async def start(self) -> None:
        """Nothing is bound until a test is opened."""

    async def drain(self) -> None:
        """Tests are looked at by a person, who can repeat them: nobody waits for one."""
        self._is_draining = True

    async def stop(self) -> None:
        """End every test now."""
        self._is_draining = True
        with self._lock:
            tests = list(self._tests.values())
            self._tests.clear()
        for test in tests:
            test.ask_end()
        await asyncio.gather(*(asyncio.to_thread(test.wait_ended) for test in tests))

    def apply(self, settings: Settings) -> None:
        """Groups and TTL of the tests to come."""
        self._settings = settings.multicast

    # ---- the door for receivers

    def open(self, request: Mapping[str, Any], client_address: str) -> dict[str, Any]:
        """Begin a test. Raises SessionError (not now), MalformedMessage."""
        seconds = _read_seconds(request)
        with self._lock:
            self._forget_ended(client_address)
            if self._is_draining:
                raise SessionError("the distribution point is shutting down; try again in a minute")
            if len(self._tests) >= MAX_TESTS:
                self.stats.refused += 1
                raise SessionError(f"{MAX_TESTS} network tests run already, as many as may; try again in some minutes")
            test = self._begin(client_address, seconds)
            self._tests[test.test_id] = test
            self.stats.tests += 1
        self._count_running()
        log.info(
            "network test begun", extra={"test": test.test_id, "peer": client_address, "group": test.group.address}
        )
        return test.describe()

    def run(self, test_id: str) -> dict[str, Any]:
        """Send the streams, once, when it is this test's turn. Raises SessionError."""
        test = self._find(test_id)
        test.ask_run()
        return test.status()

    def status(self, test_id: str) -> dict[str, Any]:
        """What was sent up to now. Raises SessionError."""
        return self._find(test_id).status()

    def finish(self, test_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The receiver's verdict, for the operator here. Raises SessionError, MalformedMessage."""
        test = self._find(test_id)
        verdict, bad = _read_result(request)
        with self._lock:
            self._tests.pop(test_id, None)
            bump(self.stats.verdicts, verdict)
        test.ask_end()
        self._count_running()
        fields = {"test": test_id, "peer": test.client_address, "verdict": verdict, "failed": ", ".join(bad) or "none"}
        log.log(logging.INFO if verdict == "fit" else logging.WARNING, "network test finished", extra=fields)
        return {"test": test_id, "verdict": verdict}

    def _begin(self, client_address: str, seconds: float) -> Test:
        settings = self._settings
        number = secrets.randbits(64)
        groups = GroupRange(settings.group_range, settings.port_low, settings.port_high)
        taken = {*self._taken(), *(test.group.address for test in self._tests.values())}
        group = groups.allocate(f"test {number}", taken)  # a new one each time: no switch has heard of it before
        try:
            return Test(number, group, settings, client_address, seconds, self._turn, self)
        except ServiceError as error:
            raise SessionError(str(error)) from None

    def _forget_ended(self, client_address: str) -> None:
        """Those whose time is over, and the one that this client left behind."""
        for test_id, test in list(self._tests.items()):
            if test.has_ended or test.client_address == client_address:
                del self._tests[test_id]
                test.ask_end()

    def _find(self, test_id: str) -> Test:
        test = self._tests.get(test_id)
        if test is None or test.has_ended:
            raise SessionError(f"no network test {test_id[:20]}; it may be over: begin another with `dpd mc-test`")
        return test

    # ---- what tests tell, from their threads

    def note_sent(self) -> None:
        self.stats.datagrams += 1

    def note_end(self) -> None:
        self._count_running()

    def _count_running(self) -> None:
        self.stats.running = sum(not test.has_ended for test in list(self._tests.values()))


class _Turn:
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


class Test:
    """One test: a group, a socket and a thread, which ends when its time is over."""

    __test__ = False  # not one of pytest's

    def __init__(
        self,
        number: int,
        group: Group,
        settings: MulticastSettings,
        client_address: str,
        seconds: float,
        turn: _Turn,
        owner: ProbeService,
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


def _read_seconds(request: Mapping[str, Any]) -> float:
    value = request.get("seconds", DEFAULT_SECONDS)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= MAX_SECONDS:
        raise MalformedMessage("seconds", f"expected a number from 1 to {MAX_SECONDS:.0f}, got {value!r}")
    return float(value)


def _read_result(request: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(verdict, names of the checks that failed)."""
    verdict, failed = request.get("verdict"), request.get("failed", [])
    if verdict not in ("fit", "unfit"):
        raise MalformedMessage("verdict", f'expected "fit" or "unfit", got {str(verdict)[:40]!r}')
    is_list = isinstance(failed, list) and len(failed) <= MAX_CHECKS
    if not is_list or not all(isinstance(name, str) and CHECK_NAME.fullmatch(name) for name in failed):
        raise MalformedMessage("failed", "expected a list of the names of checks")
    return verdict, failed
