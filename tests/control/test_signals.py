# SPDX-License-Identifier: Apache-2.0
"""Signals become verbs while they are handled, and are left alone afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from dpd.control.operations.content import Publishing
from dpd.control.operations.verbs import Operations
from dpd.control.signals import signals_handled


async def delivered(number: signal.Signals) -> None:
    """Send a signal to this process and let the loop see it: it arrives by a pipe, one turn later."""
    os.kill(os.getpid(), number)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_term_drains_and_a_second_one_ends(operations: Operations) -> None:
    with signals_handled(operations):
        await delivered(signal.SIGTERM)
        await asyncio.wait_for(operations.draining.wait(), 5)
        assert not operations.ending.is_set()
        await delivered(signal.SIGINT)
        await asyncio.wait_for(operations.ending.wait(), 5)


async def test_usr1_logs_a_line_for_the_daemon_each_service_and_each_session(
    operations: Operations, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await operations.content.publish(image, Publishing("LAB1"), lambda done, total: None)
    session = await operations.start_session("LAB1")
    with caplog.at_level(logging.INFO, "dpd.control.signals"), signals_handled(operations):
        await delivered(signal.SIGUSR1)
    lines = {record.message: vars(record) for record in caplog.records if record.name == "dpd.control.signals"}
    assert lines["status snapshot"]["contents"] == 1
    assert lines["status of a service"]["multicast_sessions"] == 1
    assert lines["status of a session"]["session_id"] == session.session_id


async def test_a_fault_in_a_verb_is_logged_and_the_daemon_goes_on(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(operations, "status", lambda: 1 // 0)
    with signals_handled(operations):
        await delivered(signal.SIGUSR1)
    assert caplog.records[-1].message == "signal not handled"


async def test_afterwards_the_loop_is_as_it_was(operations: Operations) -> None:
    with signals_handled(operations):
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
