# SPDX-License-Identifier: Apache-2.0
"""`dpd events` against a running daemon."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.telemetry.status_messages import CATALOGUE

PATIENCE_S = 30.0


@pytest.fixture
def package(asked: Dpd, image: Path) -> Iterator[str]:
    assert asked("content", "add", image, "--package", "EVENTS1").code == 0
    yield "EVENTS1"
    asked("content", "remove", "EVENTS1")


def told_of(asked: Dpd, session: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in asked("events", "--json").out.splitlines()]
    return [line for line in lines if line["fields"].get("session") == session]


def test_what_happened_is_listed_by_line_and_as_json(asked: Dpd, package: str) -> None:
    number = asked("session", "start", package, "--json").json["session_id"]
    assert asked("session", "stop", number).code == 0
    deadline = time.monotonic() + PATIENCE_S
    while len(mine := told_of(asked, number)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # its thread ends a moment after the answer
    assert [(line["event"], line["severity"]) for line in mine] == [
        ("session_started", "info"),
        ("session_ended", "info"),
    ]
    (line,) = asked("events", "--after", mine[0]["position"]).out.splitlines()[:1]
    assert f"info     Session {number} of EVENTS1 ended; 0 receivers have everything." in line


def test_the_newest_few_and_the_severe_alone_can_be_asked_for(asked: Dpd, package: str) -> None:
    newest = asked("events", "--lines", "2", "--json").out.splitlines()
    everything = asked("events", "--after", "0", "--json").out.splitlines()
    first = everything.index(newest[0])  # more may have come meanwhile
    assert everything[first : first + 2] == newest
    severe = asked("events", "--severity", "error", "--json").out.splitlines()
    assert all(json.loads(line)["severity"] == "error" for line in severe)
    assert len(severe) < len(everything)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--after", "yesterday"), 1, "no position"),
        (("--severity", "fatal"), 1, "severity"),
        (("--lines", "5", "--after", "0"), 2, "--lines and --after"),
        (("--follow", "--after", "yesterday"), 1, "no position"),
    ],
)
def test_what_cannot_be_asked_is_told(asked: Dpd, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = asked("events", *arguments)
    assert ended.code == code
    assert words in ended.err


def test_which_messages_there_are_is_shown_without_a_daemon(dpd: Dpd, dead_socket: str) -> None:
    known = dpd("events", "--catalogue", "--json", "--socket", dead_socket).json
    assert [each["message_id"] for each in known] == sorted(each.message_id for each in CATALOGUE.values())
    assert {each["event"]: each["severity"] for each in known}["job.failed"] == "error"
    lines = dpd("events", "--catalogue", "--socket", dead_socket).out.splitlines()
    assert len(lines) == len(CATALOGUE) + 1


def test_following_a_daemon_that_does_not_run_ends_at_once(dpd: Dpd, dead_socket: str) -> None:
    ended = dpd("events", "--follow", "--socket", dead_socket)
    assert (ended.code, ended.out) == (1, "")
    assert "does not run" in ended.err


def test_following_shows_an_event_when_it_happens_and_ends_at_an_interrupt(
    asked: Dpd, package: str, daemon: DaemonProcess
) -> None:
    command = [sys.executable, "-m", "dpd", "events", "--follow", "--socket", daemon.control_socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        try:
            number = asked("session", "start", package, "--json").json["session_id"]
            _read_until(follower, f"Session {number}".encode())
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


class Streams(BaseHTTPRequestHandler):
    """A daemon that breaks off in the middle of an event, and then tells what it dropped."""

    asked_after: ClassVar[list[str]] = []
    replies: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)
        if self.path.startswith("/v1/messages"):
            body, kind = b'{"messages": [], "position": "feed-3", "missed": null}', "application/json"
        else:
            self.asked_after.append(query["after"][0])
            body, kind = (self.replies.pop(0) if self.replies else b""), "text/event-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(socketserver.ThreadingUnixStreamServer):
    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return super().get_request()[0], ("local", 0)


def test_an_event_that_breaks_off_is_asked_for_again_and_what_is_gone_is_told(tmp_path: Path) -> None:
    whole = {"at": 0.0, "severity": "warning", "text": "Café shut.", "fields": {"point": "branch-1"}, "event": "x"}
    data = json.dumps(whole).encode()
    Streams.asked_after.clear()
    Streams.replies[:] = [
        b"retry: 1000\nid: feed-3\n\nid: feed-4\ndata: " + data + b"\n\nid: feed-5\ndata: " + data[:20],
        b'event: missed\nid: feed-8\ndata: {"first": 5, "last": 8}\n\n: heartbeat\nid: feed-9\n\n',
    ]
    path = str(tmp_path / "s")
    with UnixServer(path, Streams) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        command = [sys.executable, "-m", "dpd", "events", "--follow", "--socket", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
            try:
                deadline = time.monotonic() + 30
                while len(Streams.asked_after) < 3:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                follower.send_signal(signal.SIGINT)
                out, errors = follower.communicate(timeout=20)
            finally:
                follower.kill()
                server.shutdown()
                thread.join()
    (line,) = out.decode().splitlines()
    assert line.endswith("warning  branch-1: Café shut.")
    assert Streams.asked_after[:3] == ["feed-3", "feed-4", "feed-9"]
    assert "4 status messages had made room for newer ones" in errors.decode()
