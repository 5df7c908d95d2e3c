# SPDX-License-Identifier: Apache-2.0
"""Notifications, received by a real datagram socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dpd.telemetry.systemd import sd_notify, watchdog_interval_s


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_arrives(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"@dpd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path.replace("@", "\0", 1) if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert sd_notify("READY=1\nSTATUS=läuft")
        assert listener.recv(100).decode() == "READY=1\nSTATUS=läuft"


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/notify", "@dpd-nobody-listens", "/" + "x" * 200])
def test_nobody_listens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not sd_notify("READY=1")


def test_a_systemd_that_does_not_keep_up_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert sd_notify("WATCHDOG=1", wait=False)
        assert not all(sd_notify("WATCHDOG=1", wait=False) for _ in range(10_000))
        listener.recv(100)
        assert sd_notify("WATCHDOG=1", wait=False)


def test_no_systemd_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")


@pytest.mark.parametrize(
    ("interval", "pid", "expected"),
    [
        ("30000000", "", 15.0),
        ("30000000", str(os.getpid()), 15.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("soon", "", None),
        ("-5", "", None),
    ],
)
def test_watchdog(interval: str, pid: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", interval)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval_s() == expected
