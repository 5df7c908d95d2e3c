# SPDX-License-Identifier: Apache-2.0
"""The real daemon as its own process: started as systemd does it, told from outside by signals, heard by its log."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.netns import Host

DPD = Path(sys.executable).with_name("dpd")
READY_S = 60.0
STOP_S = 30.0


class Daemon:
    """A context manager around `dpd serve --config FILE` on `host`; inside it the daemon is ready.

    `settings` is TOML without the [daemon] and [control] tables, which point into `directory`; `control` is what else the
    latter says.
    """

    command: tuple[str, ...] = ("serve",)

    def __init__(self, directory: Path, settings: str, host: Host, control: str = "") -> None:
        self._directory = directory
        self._host = host
        self.log_path = directory / "dpd.log"
        self.config = directory / "dpd.toml"
        self.socket = directory / "control.sock"
        self.state = directory / "state"
        tables = f"""
[daemon]
state_dir = "{self.state}"
drain_timeout_s = 2
log_format = "json"
[control]
socket = "{self.socket}"
{control}
"""
        self.state.mkdir(exist_ok=True)
        self.config.write_text(tables + settings, encoding="utf-8")

    def __enter__(self) -> Self:
        ready_path = self._directory / "notify.sock"
        ready_path.unlink(missing_ok=True)
        command: list[str | Path] = [DPD, *self.command, "--config", self.config]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log_path.open("ab") as log:
            ready.bind(str(ready_path))
            environment = {"NOTIFY_SOCKET": str(ready_path)}
            self._process = self._host.start(*command, stdout=log, environment=environment)
            if not self._says_ready(ready):
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"dpd is not ready after {READY_S:.0f} s or ended before:\n{self.text()}")
        return self

    def _says_ready(self, ready: socket.socket) -> bool:
        """Whether READY=1 came; False as soon as the process has ended."""
        ended = os.pidfd_open(self.pid)
        waiting: list[socket.socket | int] = [ready, ended]
        try:
            while ready in select.select(waiting, [], [], READY_S)[0]:
                if b"READY=1" in ready.recv(4096):
                    return True
            return False
        finally:
            os.close(ended)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        if error is None:
            assert status == 0, f"dpd ended with status {status}:\n{self.text()}"

    def kill(self) -> None:
        """kill -9; then nobody answers until `restart`."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """The same settings and state again; the log goes on."""
        self.__enter__()

    def kill_and_restart(self) -> None:
        """Both."""
        self.kill()
        self.restart()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, *command: str | Path) -> str:
        """Run the `dpd` command against this daemon; returns what it prints."""
        return self._host.run("env", f"DPD_SOCKET={self.socket}", DPD, *command)

    def text(self) -> str:
        """The log as it was written."""
        return self.log_path.read_text(encoding="utf-8")

    def events(self, message: str, **fields: str | int) -> list[dict[str, Any]]:
        """The log lines with this message whose fields have these values."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [
            line for line in lines if line["message"] == message and all(line.get(k) == v for k, v in fields.items())
        ]

    def memory_kib(self) -> int:
        """Its own memory in use now, as the kernel counts it; without mapped files, which are the page cache's."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("RssAnon:")[2].split()[0])

    def metric(self, *prefixes: str) -> float:
        """The sum of all metrics whose name and labels start so, from /metrics where the default settings have it."""
        lines = self._host.run("curl", "-sf", "http://127.0.0.1:9467/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(prefixes))
