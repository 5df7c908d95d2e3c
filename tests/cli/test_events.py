# SPDX-License-Identifier: Apache-2.0
"""`dpd events` against a running daemon."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess


@pytest.fixture
def package(asked: Dpd, image: Path) -> Iterator[str]:
    assert asked("content", "add", image, "--package", "EVENTS1").code == 0
    yield "EVENTS1"
    asked("content", "remove", "EVENTS1")


def test_what_happened_is_listed_by_line_and_as_json(asked: Dpd, package: str) -> None:
    number = asked("session", "start", package, "--json").json["session_id"]
    assert asked("session", "stop", number).code == 0
    lines = [json.loads(line) for line in asked("events", "--json").out.splitlines()]
    mine = [line for line in lines if line["fields"].get("session") == number]
    assert [line["event"] for line in mine] == ["session_started", "session_ended"]
    (line,) = asked("events", "--after", mine[0]["id"]).out.splitlines()[:1]
    assert "session ended" in line
    assert f"session={number}" in line


def test_following_shows_an_event_when_it_happens_and_ends_at_an_interrupt(
    asked: Dpd, package: str, daemon: DaemonProcess
) -> None:
    command = [sys.executable, "-m", "dpd", "events", "--follow", "--socket", daemon.control_socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        try:
            number = asked("session", "start", package, "--json").json["session_id"]
            _read_until(follower, f"session={number}".encode())
            follower.send_signal(signal.SIGINT)
            _, errors = follower.communicate(timeout=20)
        finally:
            follower.kill()
    assert errors == b""
    asked("session", "stop", number)


def _read_until(follower: subprocess.Popen[bytes], wanted: bytes) -> None:
    assert follower.stdout is not None
    shown = b""
    while wanted not in shown:
        assert select.select([follower.stdout], [], [], 30)[0], shown
        chunk = os.read(follower.stdout.fileno(), 65536)
        assert chunk, shown
        shown += chunk
