# SPDX-License-Identifier: Apache-2.0
"""One daemon for the commands to talk to, and the command line as a function."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli.site_door import SiteDoor
from tests.daemon_process import DaemonProcess

from dpd.cli import main

Dpd = Callable[..., "Ended"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path_factory.mktemp("daemon")).ready() as daemon:
        yield daemon


@pytest.fixture
def dpd(capfd: pytest.CaptureFixture[str]) -> Dpd:
    """Run a command in this process: its exit code, output and errors."""

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        code = caught.value.code
        return Ended(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def asked(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch, dpd: Dpd) -> Dpd:
    """The same, with the daemon's socket where commands look for it."""
    monkeypatch.setenv("DPD_SOCKET", daemon.control_socket)
    return dpd


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lab.img"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


@pytest.fixture
def dead_socket(tmp_path: Path) -> str:
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    return path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteDoor]:
    """A policy of the test's own, at the socket where commands look for it."""
    with SiteDoor(tmp_path).open() as door:
        monkeypatch.setenv("DPD_SOCKET", door.settings.control.socket)
        yield door
