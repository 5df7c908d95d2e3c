# SPDX-License-Identifier: Apache-2.0
"""`dpd serve` as a process of its own, on loopback and free ports, watched by what it tells systemd and its log."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 60.0

SETTINGS = """
[daemon]
state_dir = "{state}"
log_format = "json"
drain_timeout_s = {drain_timeout_s}
[pxe]
listen = "127.0.0.1"
port = {pxe_port}
boot_port = 0
[boot]
directory = "{state}/boot"
[tftp]
listen = "127.0.0.1"
port = 0
[http]
listen = "127.0.0.1"
port = 0
[multicast]
interface = "lo"
ttl = 0
[control]
socket = "{state}/control.sock"
[metrics]
listen = "127.0.0.1:{metrics_port}"
"""


class DaemonProcess:
    """Started by `with`; ended, however the test ends, by a kill of this very process."""

    def __init__(
        self,
        state: Path,
        *,
        metrics_port: int = 0,
        pxe_port: int = 0,
        drain_timeout_s: float = 10,
        watchdog_s: float = 0,
        wrapper: Sequence[str] = (),
        before_exec: Callable[[], None] | None = None,
        command: Sequence[str] = ("serve",),
    ) -> None:
        """`command`: the words of dpd, such as site serve."""
        self._command = command
        self._watchdog_s = watchdog_s
        self._wrapper = wrapper
        self._before_exec = before_exec
        self.state = state
        self.config = state / "dpd.toml"
        self.control_socket = str(state / "control.sock")
        self.log: list[dict[str, Any]] = []
        self._unread = b""
        state.mkdir(exist_ok=True)
        text = SETTINGS.format(
            state=state, metrics_port=metrics_port, pxe_port=pxe_port, drain_timeout_s=drain_timeout_s
        )
        self.config.write_text(text)

    def __enter__(self) -> Self:
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(self.state / "notify")
        Path(path).unlink(missing_ok=True)
        self._notify.bind(path)
        self._notify.settimeout(PATIENCE_S)
        environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6))}
        environment.pop("WATCHDOG_PID", None)
        command = [*self._wrapper, sys.executable, "-m", "dpd", *self._command, "--config", str(self.config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, preexec_fn=self._before_exec)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._notify.close()

    @contextmanager
    def ready(self) -> Iterator[Self]:
        """Started, and every port bound."""
        with self:
            try:
                self.wait_told("READY=1")
            except TimeoutError:
                self.process.kill()
                raise AssertionError(f"not ready: {self.wait_ended()}") from None
            yield self

    def wait_told(self, assignment: str) -> dict[str, str]:
        """Wait until systemd would have been told this; the whole message."""
        while True:
            told = self._notify.recv(4096).decode().splitlines()
            if assignment in told:
                return dict(line.split("=", 1) for line in told)

    def wait_logged(self, message: str) -> dict[str, Any]:
        """Wait for a log line; lines read on the way are kept in `log`."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                self.log.append(json.loads(line))
                if self.log[-1]["message"] == message:
                    return self.log[-1]
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.process.stderr], [], [], max(left, 0))
            chunk = os.read(self.process.stderr.fileno(), 65536) if readable else b""
            assert chunk, f"no log line {message!r}; there were {[line['message'] for line in self.log]}"
            self._unread += chunk

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_ended(self) -> tuple[int, str]:
        """Exit code, and what is left of standard error."""
        _, rest = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, (self._unread + rest).decode()
