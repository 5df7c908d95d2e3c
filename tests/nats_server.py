# SPDX-License-Identifier: Apache-2.0
"""Real nats-servers as processes of their own: a hub, and leaf nodes with a JetStream domain, on loopback or in namespaces."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

PATIENCE_S = 30.0
HUB_DOMAIN = "hub"

NATS_SERVER = shutil.which("nats-server")
needs_nats = [
    pytest.mark.interop,
    pytest.mark.skipif(NATS_SERVER is None, reason="missing: Debian's nats-server"),
]

SETTINGS = """
server_name: "{name}"
listen: "{host}:{port}"
{leaf}
{extra}
{jetstream}
"""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody has now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


class NatsServer:
    """Started by `with`, or `start`; the ports and the store stay over a restart. `wrapper`: such as ip netns exec NAME.

    With `leaf_of` it is a leaf node of that hub; else a hub, which takes leaf nodes at `leaf_port`."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "hub",
        host: str = "127.0.0.1",
        port: int | None = None,
        leaf_port: int | None = None,
        leaf_by: int | None = None,
        domain: str = "",
        leaf_of: str = "",
        extra: str = "",
        jetstream: bool = True,
        wrapper: Sequence[str] = (),
    ) -> None:
        """`leaf_of`: a hub's `leaf_url`. `leaf_by`: the port by which leaf nodes come, where that is a line to `leaf_port`: a hub tells
        them where it is, and they would come past the line. `extra`: more of the settings file, such as authorization or tls."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.host, self.domain = name, host, domain
        self.program = NATS_SERVER  # another release from the next start on, where a test says so
        self.port = port or free_port(host)
        self.leaf_port = leaf_port or free_port(host)
        self.config, self.log = folder / f"{name}.conf", folder / f"{name}.log"
        self._store = folder / f"{name}-jetstream"
        self._leaf_of = leaf_of
        self._advertise = f', advertise: "{host}:{leaf_by}"' if leaf_by else ""
        self._jetstream = jetstream
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(extra)

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def leaf_url(self) -> str:
        """Where leaf nodes connect to."""
        return f"nats-leaf://{self.host}:{self.leaf_port}"

    def configure(self, extra: str) -> None:
        """Other settings from the next start on."""
        leaf = f'leafnodes {{ remotes: [{{ url: "{self._leaf_of}" }}], reconnect: 1 }}'
        if not self._leaf_of:
            leaf = f'leafnodes {{ listen: "{self.host}:{self.leaf_port}" {self._advertise} }}'
        domain = f', domain: "{self.domain}"' if self.domain else ""
        jetstream = f'jetstream {{ store_dir: "{self._store}" {domain} }}' if self._jetstream else ""
        text = SETTINGS.format(
            name=self.name, host=self.host, port=self.port, leaf=leaf, extra=extra, jetstream=jetstream
        )
        self.config.write_text(text)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it takes clients."""
        assert self.program is not None, "needs Debian's nats-server"
        self.log.unlink(missing_ok=True)
        command = [*self._wrapper, self.program, "-c", str(self.config), "-l", str(self.log)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        while "Server is ready" not in self.told():
            assert self._process.poll() is None, f"{self.name}: {self.told()}"
            assert time.monotonic() < until, f"{self.name}: {self.told()}"
            time.sleep(0.02)

    def told(self) -> str:
        """Its log since the start."""
        return self.log.read_text() if self.log.exists() else ""

    def stop(self) -> None:
        """As for an upgrade: clients are told, files closed. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As by a power cut."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It takes and says nothing, and its connections stay: a line that swallows everything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a stopped one would not hear
        process.send_signal(number)
        process.wait(PATIENCE_S)
