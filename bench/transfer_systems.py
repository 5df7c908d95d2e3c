# SPDX-License-Identifier: Apache-2.0
"""The systems that `transfer_netns` compares: what all of them are, and dpd and nginx; the others are in `transfer_peers`.

Each writes into files that exist and whose pages are touched where it can: dpd into its `.part`, udpcast and curl to a
standard output that is not truncated, since `udp-receiver --file` and `curl -o` would truncate. Fresh pages cost more here
than a fast transfer.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.machine import version_of
from bench.netns import DEVICE, Host, LabError, Lan
from bench.transfer_results import Mode
from bench.transfer_watch import Process, Race, Wire

DPD = Path(sys.executable).with_name("dpd")
RECEIVE = (sys.executable, "-m", "dpd.target.receiving.receive")  # as it runs on a target: the standard library alone
READY_S = 20.0
WARM_UP_BYTES = 6 << 20  # two slabs

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
  server {{ listen {port} reuseport; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What every system plays on: the LAN with `server` and receivers r0, r1, …, and a folder in memory."""

    lan: Lan
    home: Path
    wire: Wire
    start_delay_s: float

    def receivers(self, count: int) -> list[Host]:
        return [self.lan[f"r{i}"] for i in range(count)]


class System(Protocol):
    """Made once for a stage; `launch` begins one transfer to the first receivers of it."""

    name: str
    programs: tuple[str, ...]

    def __init__(self, stage: Stage) -> None: ...

    def version(self) -> str: ...

    def sender_pids(self) -> list[int]:
        """The standing processes that send."""

    def prepare(self, mode: Mode, image: Path) -> None:
        """What is to be done once before transfers of this file in this mode."""

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race: ...


class Dpd:
    """`dpd serve`, and the target's receiver."""

    name = "dpd"
    programs: tuple[str, ...] = (str(DPD),)
    settings = DPD_TOML

    def __init__(self, stage: Stage) -> None:
        self._stage, self._home = stage, stage.home
        # An installed dpd has its byte code; this one writes it at its first start, whatever the environment forbids.
        self._environment = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._home / "pycache")}
        server = stage.lan["server"]
        self.url = f"http://{server.address}:8080"
        self._published: set[Path] = set()
        (self._home / "state").mkdir(exist_ok=True)
        config = self._home / "dpd.toml"
        config.write_text(self.settings.format(home=self._home, device=DEVICE, start_delay_s=stage.start_delay_s))
        command = (DPD, "serve", "--config", config)
        self.daemon = start_logged(server, self._home / "dpd.log", *command, environment=self._environment)
        _wait_for_http(server, f"{self.url}/healthz", self.daemon)
        self._warm_up()

    def _warm_up(self) -> None:
        """One small transfer, after which every module has its byte code, lazily imported ones too."""
        image, output = self._home / "warm.bin", self._home / "warmed.bin"
        image.write_bytes(bytes(WARM_UP_BYTES))
        self._publish(image)
        receiver = self.receive(self._stage.lan["r0"], output, package_of(image))
        if receiver.wait(READY_S):
            raise SystemExit(f"dpd does not transfer a file:\n{Path(f'{output}.log').read_text()}")
        image.unlink()
        output.unlink()

    def version(self) -> str:
        return version_of(str(DPD), "--version")

    def sender_pids(self) -> list[int]:
        return [self.daemon.pid]

    def prepare(self, mode: Mode, image: Path) -> None:
        if image not in self._published:
            self._publish(image)
            self._published.add(image)

    def _publish(self, image: Path) -> None:
        self.tell("content", "add", image, "--package", package_of(image))

    def tell(self, *command: str | Path) -> str:
        """Run the `dpd` command against this daemon."""
        server = self._stage.lan["server"]
        return server.run("env", f"DPD_SOCKET={self._home}/control.sock", DPD, *command, timeout_s=120)

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race:
        for output in outputs:
            output.rename(f"{output}.part")
        started = time.monotonic()
        hosts = self._stage.receivers(len(outputs))
        return Race(started, [self.receive(*pair, package_of(image)) for pair in zip(hosts, outputs, strict=True)], [])

    def receive(self, host: Host, output: Path, package: str, program: Sequence[str] = RECEIVE) -> Process:
        """Start one receiver, as on a target; its JSON lines go to `output`.log."""
        command: tuple[str | Path, ...] = (*program, self.url, package, "--interface", DEVICE, "--json", "-o", output)
        return start_logged(host, Path(f"{output}.log"), *command, environment=self._environment)


def package_of(image: Path) -> str:
    """The package id that an image has in every daemon of the benches: eight characters of its name's hash."""
    return "B" + hashlib.sha256(image.name.encode()).hexdigest()[:7].upper()


class Nginx:
    """nginx, and one curl for each receiver at once: N times the bytes on the sender's wire."""

    name = "nginx"
    programs: tuple[str, ...] = ("nginx", "curl")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._home = stage.home / self.name.replace("+", "-")
        self._home.mkdir()
        self._url = f"http://{stage.lan['server'].address}:{self._port}/"
        configuration = self._home / "nginx.conf"
        configuration.write_text(NGINX_CONF.format(home=self._home, root=stage.home, port=self._port))
        command = ("nginx", "-p", self._home, "-c", configuration)
        self._server = start_logged(stage.lan["server"], self._home / "nginx.log", *command)
        _wait_for_http(stage.lan["server"], f"{self._url}{self._home.name}/nginx.conf", self._server)

    @property
    def _port(self) -> int:
        return 80

    def version(self) -> str:
        return version_of("nginx", "-v")

    def sender_pids(self) -> list[int]:
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text()
        return [self._server.pid, *map(int, children.split())]

    def prepare(self, mode: Mode, image: Path) -> None:
        """nginx serves the folder in which the files are."""

    def launch(self, mode: Mode, image: Path, outputs: Sequence[Path]) -> Race:
        started = time.monotonic()
        hosts = self._stage.receivers(len(outputs))
        return Race(started, [self._fetch(*pair, image) for pair in zip(hosts, outputs, strict=True)], [])

    def _fetch(self, host: Host, output: Path, image: Path) -> Process:
        return start_into(host, output, "curl", "-sSf", "--noproxy", "*", self._url + image.name)


class NginxHashed(Nginx):
    """The same, and each receiver compares the SHA-256 of its file, as a receiver of dpd does before it says `completed`.

    By OpenSSL, which uses the processor's SHA instructions; coreutils' sha256sum may not.
    """

    name = "nginx+sha256"
    programs: tuple[str, ...] = ("nginx", "curl", "openssl")
    _FETCH = 'curl -sSf --noproxy "*" "$0" && test "$(openssl dgst -sha256 -r "$1")" = "$2 *$1"'

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._sha256: dict[Path, str] = {}

    @property
    def _port(self) -> int:
        return 81

    def prepare(self, mode: Mode, image: Path) -> None:
        if image not in self._sha256:
            with image.open("rb") as file:
                self._sha256[image] = hashlib.file_digest(file, "sha256").hexdigest()

    def _fetch(self, host: Host, output: Path, image: Path) -> Process:
        return start_into(host, output, "sh", "-c", self._FETCH, self._url + image.name, output, self._sha256[image])


def start_logged(host: Host, log: Path, *command: str | Path, environment: dict[str, str] | None = None) -> Process:
    """Start with everything it says in `log`."""
    with log.open("wb") as out:
        return host.start(*command, stdout=out, environment=environment)


def start_into(host: Host, output: Path, *command: str | Path) -> Process:
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
