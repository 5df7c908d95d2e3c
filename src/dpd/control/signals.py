# SPDX-License-Identifier: Apache-2.0
"""Signals as verbs: TERM and INT drain (twice: end now), HUP reloads, USR1 logs a snapshot of everything."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

log = logging.getLogger(__name__)


class Verbs(Protocol):
    """The operations that signals stand for. The status is a record, which may have `services` and `sessions`."""

    def drain(self) -> None: ...
    def reload(self) -> bool: ...
    def status(self) -> object: ...


@contextmanager
def signals_handled(operations: Verbs) -> Iterator[None]:
    """Listen to signals on the running loop. Leaves the loop as it was."""
    verbs: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGTERM: operations.drain,
        signal.SIGINT: operations.drain,
        signal.SIGHUP: operations.reload,
        signal.SIGUSR1: lambda: log_snapshot(operations),
    }
    loop = asyncio.get_running_loop()
    for number, verb in verbs.items():
        loop.add_signal_handler(number, _run, number, verb)
    try:
        yield
    finally:
        for number in verbs:
            loop.remove_signal_handler(number)


def _run(number: signal.Signals, verb: Callable[[], object]) -> None:
    """A fault in one verb is logged and ends there; the daemon goes on."""
    log.info("signal received", extra={"signal": number.name})
    try:
        verb()
    except Exception:
        log.exception("signal not handled", extra={"signal": number.name})


def log_snapshot(operations: Verbs) -> None:
    """The whole status, one log line for the daemon and one for each service and session."""
    status = msgspec.to_builtins(operations.status())
    services, sessions = status.pop("services", ()), status.pop("sessions", ())
    log.info("status snapshot", extra=status)
    for service in services:
        # Prefixed, since logging refuses fields that its records have already, such as "name".
        counted = {f"{service['name']}_{field}": value for field, value in service["counted"].items()}
        log.info("status of a service", extra={"service": service["name"], "ports": service["ports"], **counted})
    for session in sessions:
        log.info("status of a session", extra=session)
