# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of `dpd mc-test`: sends the streams of a test to a group of its own, and answers echoes.

It can not be used to flood. At most MAX_TESTS exist at once, one for each client address; a test runs its streams once
(4.9 MB), one test at a time with a pause between them, which is 6 Mbit/s at most in the long run; what else it sends is
four small datagrams a second. An echo is answered to who sent it with as many bytes as came, ECHOES_S a second at most.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dpd.errors import MalformedMessage, ServiceError, SessionError
from dpd.service.diagnosis.network_test import NetworkTest, Turn
from dpd.service.network.groups import GroupRange
from dpd.settings import MulticastSettings, Settings
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

MAX_TESTS = 8
MAX_SECONDS = 660.0
DEFAULT_SECONDS = 60.0
PAUSE_S = 4.0  # between the runs of all tests
CHECK_NAME = re.compile(r"[a-z_]{1,24}")
MAX_CHECKS = 24


@dataclass(slots=True)
class ProbeStats:
    """What Prometheus sees of network tests."""

    tests: int = counter("Network tests that receivers opened")
    running: int = gauge("Network tests that exist now")
    refused: int = counter("Network tests refused because as many as may run did")
    datagrams: int = counter("Test datagrams sent to groups")
    verdicts: dict[str, int] = counts("Results that receivers reported", "verdict")


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
        self._turn = Turn(pause_s)
        self._lock = threading.Lock()
        self._tests: dict[str, NetworkTest] = {}
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

    def _begin(self, client_address: str, seconds: float) -> NetworkTest:
        settings = self._settings
        number = secrets.randbits(64)
        groups = GroupRange(settings.group_range, settings.port_low, settings.port_high)
        taken = {*self._taken(), *(test.group.address for test in self._tests.values())}
        group = groups.allocate(f"test {number}", taken)  # a new one each time: no switch has heard of it before
        try:
            return NetworkTest(number, group, settings, client_address, seconds, self._turn, self)
        except ServiceError as error:
            raise SessionError(str(error)) from None

    def _forget_ended(self, client_address: str) -> None:
        """Those whose time is over, and the one that this client left behind."""
        for test_id, test in list(self._tests.items()):
            if test.has_ended or test.client_address == client_address:
                del self._tests[test_id]
                test.ask_end()

    def _find(self, test_id: str) -> NetworkTest:
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
