# SPDX-License-Identifier: Apache-2.0
"""Status messages of a real `dpd serve` that is killed, has no room and is followed: none lost, none twice, never in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.daemon_process import DaemonProcess

from dpd.cli.client import Client
from dpd.protocol.pxe.client import PxeClient

PATIENCE_S = 60.0
MAC = "52:54:00:00:00:01"


def wait_for(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Follower:
    """`dpd events --follow --json` from the beginning on, and what it printed."""

    def __init__(self, control_socket: str) -> None:
        command = [
            sys.executable,
            "-m",
            "dpd",
            "events",
            "--follow",
            "--json",
            "--after",
            "0",
            "--socket",
            control_socket,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.messages: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.messages.append(json.loads(line))

    def wait_for(self, sequence: int) -> None:
        wait_for(lambda: self.messages and self.messages[-1]["sequence"] >= sequence)

    def stop(self) -> str:
        """What it said on standard error."""
        self._process.send_signal(signal.SIGINT)
        self._reader.join(PATIENCE_S)
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        self._process.wait(PATIENCE_S)
        return errors

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def following(control_socket: str) -> Iterator[Follower]:
    follower = Follower(control_socket)
    try:
        yield follower
    finally:
        follower.end()


def publish(client: Client, tmp_path: Path) -> None:
    image = tmp_path / "lab.img"
    image.write_bytes(b"x" * 5000)
    list(client.follow("content", body={"path": str(image), "package_id": "LAB1", "source_version": 1}))


def one_session(client: Client) -> None:
    number = client.post("sessions", body={"package_id": "LAB1"})["session_id"]
    client.delete("sessions", number)


def latest(client: Client) -> int:
    return int(client.get("messages", limit=1)["messages"][-1]["sequence"])


def sequence_of_ready(client: Client, times: int) -> int:
    """Of the message that dpd is ready, as soon as it is on disk for so many times."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = [each["sequence"] for each in _everything(client) if each["event"] == "daemon.ready"]
        if len(found) == times:
            return int(found[-1])
        assert time.monotonic() < until, found
        time.sleep(0.05)


def test_a_follower_has_every_message_once_over_kills_and_restarts_of_dpd(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with DaemonProcess(state).ready() as daemon:
        client = Client(daemon.control_socket)
        publish(client, tmp_path)
        with following(daemon.control_socket) as follower:
            for number in range(4):
                with DaemonProcess(state).ready() if number else _as_it_is(daemon) as running:
                    for _ in range(5):
                        one_session(client)
                    follower.wait_for(latest(client))
                    one_session(client)  # of these any number may be on disk when it ends
                    running.signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
                    running.wait_ended()
            with DaemonProcess(state).ready():
                end = sequence_of_ready(client, times=5)  # the last of them; its writer may be behind READY
                follower.wait_for(end)
                kept = _everything(client)
                errors = follower.stop()
    sequences = [each["sequence"] for each in follower.messages]
    assert sequences == list(range(1, end + 1)), "each once, in order"
    assert follower.messages == kept, "what was told is what is kept"
    events = [each["event"] for each in kept]
    assert events.count("daemon.ready") == 5
    assert events.count("daemon.draining") == 2
    assert "waiting for it to come back" in errors
    assert "Traceback" not in errors


@contextmanager
def _as_it_is(daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    yield daemon


def _everything(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    position = "0"
    while True:
        page = client.get("messages", after=position, limit=50)
        assert page["missed"] is None
        if not page["messages"]:
            return found
        found += page["messages"]
        position = page["position"]


def test_a_boot_over_the_wire_is_a_message_and_the_state_has_it(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "state").ready() as daemon:
        client = Client(daemon.control_socket)
        (port,) = (each["ports"]["port"] for each in client.get("status")["services"] if each["name"] == "pxe")
        discover = PxeClient(mac=MAC, relay="127.0.0.1").discover(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(PATIENCE_S)
            for _ in range(3):
                sock.sendto(discover, ("127.0.0.1", port))
                assert sock.recv(2048)
        wait_for(lambda: _boots(client))
        (granted,) = _boots(client)
        assert (granted["event"], granted["fields"]["mac"], granted["fields"]["cause"]) == (
            "boot.granted",
            MAC,
            "default",
        )
        state = client.get("state")
        assert [each["mac"] for each in state["boots"]] == [MAC]
        assert client.get("messages", after=state["position"])["messages"] == []


def _boots(client: Client) -> list[dict[str, Any]]:
    return [each for each in client.get("messages", limit=1000)["messages"] if each["event"].startswith("boot.")]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    yield disk
    subprocess.run(["umount", disk], check=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_dpd_starts_serves_and_ends_where_its_messages_have_no_room(tmp_path: Path, full_disk: Path) -> None:
    state, port = tmp_path / "state", free_port()
    state.mkdir()
    (state / "messages.db").symlink_to(full_disk / "messages.db")
    with DaemonProcess(state, metrics_port=port).ready() as daemon:
        client = Client(daemon.control_socket)
        publish(client, tmp_path)
        one_session(client)
        events = [each["event"] for each in client.get("events", after=0)["events"]]
        assert events[-2:] == ["session_started", "session_ended"], "what is in memory is told all the same"
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).read().decode()
        assert "dpd_spool_writable 0.0" in page
        assert "dpd_spool_write_failures_total" in page
        assert client.get("state")["state"] == "ready"
        (full_disk / "ballast").unlink()
        wait_for(lambda: client.get("status")["state"] == "ready" and _can_be_read(client))
        events = [each["event"] for each in client.get("messages")["messages"]]
        assert events[:1] == ["daemon.ready"]
        assert events[-2:] == ["session_started", "session_ended"]
        daemon.signal(signal.SIGTERM)
        code, _ = daemon.wait_ended()
    assert code == 0


def _can_be_read(client: Client) -> bool:
    try:
        return len(client.get("messages")["messages"]) >= 3
    except Exception:
        return False
