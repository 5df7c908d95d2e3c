# SPDX-License-Identifier: Apache-2.0
"""The systems that `transfer_netns` compares: how each is set up, and how one transfer to all receivers is launched.

All write into files that exist and whose pages are touched: dpd into its `.part`, the others to a standard output that
is not truncated, since `udp-receiver --file` and `curl -o` would truncate. Fresh pages cost more here than a transfer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.machine import version_of
from bench.netns import DEVICE, Host, LabError, Lan

from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES

DPD = Path(sys.executable).with_name("dpd")
RECEIVE = (sys.executable, "-m", "dpd.target.receive")  # as it runs on a target: the standard library alone
PACKAGE = "BENCH001"
READY_S = 20.0
UDPCAST_LINGER_S = 0.5  # udp-receiver stays this long after its file is complete; not counted

DPD_TOML = """
[daemon]
state_dir = "{home}/state"
log_format = "json"
[pxe]
enabled = false
[tftp]
enabled = false
[boot]
directory = "{home}/state"
[multicast]
interface = "{device}"
start_delay_s = {start_delay_s}
[control]
socket = "{home}/control.sock"
[metrics]
listen = ""
"""

NGINX_CONF = """
user root; worker_processes 2; daemon off; pid {home}/nginx.pid; error_log {home}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; sendfile_max_chunk 2m; tcp_nopush on;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{ listen 80 reuseport; root {home}; }}
}}
"""

Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Race:
    """One transfer under way. `senders` were started for it; `lingering_s` is what receivers wait after their last byte."""

    started_at: float
    receivers: list[Process]
    senders: list[Process]
    lingering_s: float = 0.0


class System(Protocol):
    """Made once for a LAN; `launch` begins one transfer to receivers r0, r1, … of it."""

    name: str

    def __init__(self, lan: Lan, home: Path, image: Path, *, start_delay_s: float) -> None: ...

    def version(self) -> str: ...

    def sender_pids(self) -> list[int]:
        """The standing processes that send."""

    def launch(self, outputs: Sequence[Path]) -> Race: ...


class Dpd:
    """`dpd serve`, and the target's receiver."""

    name = "dpd"

    def __init__(self, lan: Lan, home: Path, image: Path, *, start_delay_s: float) -> None:
        self._lan, self._home = lan, home
        # An installed dpd has its byte code; this one writes it at its first start, whatever the environment forbids.
        self._environment = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(home / "pycache")}
        self._url = f"http://{lan['server'].address}:8080"
        state = home / "state"
        state.mkdir()
        with Library(state / "library", slab_bytes=SLAB_BYTES) as library:
            library.publish(image, PACKAGE)
        config = home / "dpd.toml"
        config.write_text(DPD_TOML.format(home=home, device=DEVICE, start_delay_s=start_delay_s))
        self._daemon = _start(
            lan["server"], home / "dpd.log", DPD, "serve", "--config", config, environment=self._environment
        )
        _wait_for_http(lan["server"], f"{self._url}/healthz", self._daemon)
        _start(lan["server"], home / "dpd-warm.log", *RECEIVE, "--help", environment=self._environment).wait()

    def version(self) -> str:
        return version_of(str(DPD), "--version")

    def sender_pids(self) -> list[int]:
        return [self._daemon.pid]

    def launch(self, outputs: Sequence[Path]) -> Race:
        for output in outputs:
            output.rename(f"{output}.part")
        command = (
            sys.executable,
            "-m",
            "dpd.target.receive",
            self._url,
            PACKAGE,
            "--interface",
            DEVICE,
            "--json",
            "-o",
        )
        started = time.monotonic()
        receivers = [
            _start(self._lan[f"r{i}"], self._home / f"dpd-r{i}.log", *command, output)
            for i, output in enumerate(outputs)
        ]
        return Race(started, receivers, [])


class Udpcast:
    """udp-sender and udp-receiver with the options that were fastest of those tried; see bench/README.md."""

    name = "udpcast"

    def __init__(self, lan: Lan, home: Path, image: Path, *, start_delay_s: float) -> None:
        self._lan, self._home, self._image = lan, home, image

    def version(self) -> str:
        return version_of("dpkg-query", "-W", "-f", "${Version}", "udpcast")

    def sender_pids(self) -> list[int]:
        return []

    def launch(self, outputs: Sequence[Path]) -> Race:
        common = ("--interface", DEVICE, "--nokbd", "--no-progress", "--start-timeout", "30")
        send = ("--file", self._image, "--full-duplex", "--slice-size", "1024", "--rexmit-hello-interval", "100")
        group = ("--min-receivers", str(len(outputs)), "--max-wait", "10")
        receive = ("--rcvbuf", "8388608", "--exit-wait", "500", "--receive-timeout", "20", "--nosync")
        started = time.monotonic()
        sender = _start(self._lan["server"], self._home / "udp-sender.log", "udp-sender", *common, *send, *group)
        receivers = [
            _start_into(self._lan[f"r{i}"], output, "udp-receiver", *common, *receive)
            for i, output in enumerate(outputs)
        ]
        return Race(started, receivers, [sender], UDPCAST_LINGER_S)


class Nginx:
    """nginx, and one curl for each receiver at once: N times the bytes on the sender's wire."""

    name = "nginx"

    def __init__(self, lan: Lan, home: Path, image: Path, *, start_delay_s: float) -> None:
        self._lan, self._home = lan, home
        self._url = f"http://{lan['server'].address}/{image.name}"
        configuration = home / "nginx.conf"
        configuration.write_text(NGINX_CONF.format(home=home))
        self._server = _start(lan["server"], home / "nginx.log", "nginx", "-p", home, "-c", configuration)
        _wait_for_http(lan["server"], self._url, self._server)

    def version(self) -> str:
        return version_of("nginx", "-v")

    def sender_pids(self) -> list[int]:
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text()
        return [self._server.pid, *map(int, children.split())]

    def launch(self, outputs: Sequence[Path]) -> Race:
        started = time.monotonic()
        command = ("curl", "-sSf", "--noproxy", "*", self._url)
        receivers = [_start_into(self._lan[f"r{i}"], output, *command) for i, output in enumerate(outputs)]
        return Race(started, receivers, [])


def _start(host: Host, log: Path, *command: str | Path, environment: dict[str, str] | None = None) -> Process:
    with log.open("wb") as out:
        return host.start(*command, stdout=out, environment=environment)


def _start_into(host: Host, output: Path, *command: str | Path) -> Process:
    """Start with standard output into a file whose pages stay; what the program says goes beside it."""
    with output.open("r+b") as out, open(f"{output}.log", "wb") as log:
        return host.start(*command, stdout=out, stderr=log)


def _wait_for_http(host: Host, url: str, server: Process) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            host.run("curl", "-sf", "--noproxy", "*", "-o", "/dev/null", "-r", "0-0", url)
            return
        except LabError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{server.args!r} does not serve {url}: {error}") from None
            time.sleep(0.05)
