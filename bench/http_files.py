# SPDX-License-Identifier: Apache-2.0
"""HTTP content beside nginx: CPU seconds that the server burns for each GiB sent.

    python bench/http_files.py [--quick]

Both serve the same file, from the page cache, to the same clients: curl processes that throw the bytes away. Runs
alternate, so that whatever else the machine does falls on both. Whole files and ranges are counted apart. (This file is
not called http.py: a script's folder comes first in the search, and would hide the standard library's http.)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.machine import Spread, print_facts, ratio, spread, table, version_of  # noqa: E402

from dpd.content.boot_files import BootFiles  # noqa: E402
from dpd.content.library import Library  # noqa: E402
from dpd.protocol.multicast.geometry import SLAB_BYTES  # noqa: E402
from dpd.service.boot_tree import BootTree  # noqa: E402
from dpd.service.http.server import HttpService  # noqa: E402
from dpd.settings import HttpSettings  # noqa: E402
from dpd.telemetry.journal import BootJournal  # noqa: E402

CLIENTS = 8
TARGET_RATIO = 1.5
RANGE_PIECES = 8
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
TICKS = os.sysconf("SC_CLK_TCK")

NGINX_CONF = """
worker_processes 2; daemon off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; sendfile_max_chunk 2m; tcp_nopush on;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{ listen 127.0.0.1:{port} reuseport; root {home}/boot; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server under measure: its URL and its processes."""

    name: str
    url: str
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """User and system time so far, of every process of it."""
        return sum(_cpu_of(pid) for pid in self.pids)


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def _serve(home: Path, port: int) -> None:
    """dpd's service, alone in this process, until it is killed."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with Library(home / "library", slab_bytes=SLAB_BYTES) as library:
        service = HttpService(
            HttpSettings(listen="127.0.0.1", port=port),
            library=library,
            boot_tree=BootTree(BootFiles(home / "boot"), BootJournal()),
            multicast=None,
            journal=BootJournal(),
        )
        await service.start()
        await stopped.wait()
        await service.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _dpd(home: Path) -> Iterator[Server]:
    port = _free_port()
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(home), str(port)])
    try:
        _wait_for(port)
        yield Server("dpd", f"http://127.0.0.1:{port}/boot/", (process.pid,))
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _nginx(home: Path) -> Iterator[Server]:
    port = _free_port()
    configuration = home / "nginx.conf"
    configuration.write_text(NGINX_CONF.format(home=home, port=port))
    process = subprocess.Popen([NGINX, "-p", str(home), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Server("nginx", f"http://127.0.0.1:{port}/", (process.pid, *map(int, children)))
    finally:
        process.terminate()
        process.wait()


def _commands(server: Server, size: int, ranges: bool) -> list[list[str]]:
    """One curl for each client; with ranges each fetches the file piece by piece on one connection."""
    curl = ["curl", "-sSf", "--noproxy", "*"]
    if not ranges:
        return [[*curl, "-o", "/dev/null", server.url + "image.bin"]] * CLIENTS
    step = size // RANGE_PIECES
    pieces: list[str] = []
    for start in range(0, size, step):
        pieces += ["--next"] if pieces else []
        pieces += [*curl[1:], "-r", f"{start}-{start + step - 1}", "-o", "/dev/null", server.url + "image.bin"]
    return [["curl", *pieces]] * CLIENTS


def _measure(server: Server, size: int, ranges: bool) -> tuple[float, float]:
    """CPU seconds for each GiB, and GiB/s of all clients together."""
    before, started = server.cpu_s(), time.monotonic()
    clients = [subprocess.Popen(command) for command in _commands(server, size, ranges)]
    failed = [client.returncode for client in clients if client.wait() != 0]
    if failed:
        raise SystemExit(f"{server.name}: curl failed with exit code {failed[0]}")
    gib = size * CLIENTS / 2**30
    return (server.cpu_s() - before) / gib, gib / (time.monotonic() - started)


def _compare(servers: list[Server], size: int, ranges: bool, runs: int) -> list[dict[str, str]]:
    samples: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _ in range(runs):
        for server in servers:
            samples[server.name].append(_measure(server, size, ranges))
    cpu = {name: spread(each[0] for each in runs_of) for name, runs_of in samples.items()}
    rate = {name: spread(each[1] for each in runs_of) for name, runs_of in samples.items()}
    return [_row(name, "ranges" if ranges else "whole", cpu, rate[name]) for name in samples]


def _row(name: str, what: str, cpu: dict[str, Spread], rate: Spread) -> dict[str, str]:
    return {
        "server": name,
        "requests": what,
        "CPU s/GiB": str(cpu[name]),
        "GiB/s": str(rate),
        "CPU to nginx": ratio(cpu[name], cpu["nginx"]),
    }


def _run(size: int, runs: int) -> None:
    print_facts()
    print(f"{'nginx':>14}: {version_of(NGINX, '-v')}")
    print(f"{'curl':>14}: {version_of('curl', '--version').split(' libcurl')[0]}")
    print(f"\n{CLIENTS} clients, {size >> 20} MiB each, {runs} runs; target: at most {TARGET_RATIO} x nginx\n")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)  # nginx's workers are another user
        (home / "boot").mkdir()
        with open(home / "boot" / "image.bin", "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        with _dpd(home) as dpd, _nginx(home) as nginx:
            for server in (dpd, nginx):
                _measure(server, size, False)  # caches and import costs
            rows = [row for ranges in (False, True) for row in _compare([dpd, nginx], size, ranges, runs)]
    print(table(rows))


def main() -> None:
    """Compare, or serve where the bench calls itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 MiB and 3 runs instead of 256 MiB and 7")
    parser.add_argument("--serve", nargs=2, metavar=("DIRECTORY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(Path(options.serve[0]), int(options.serve[1])))
    elif options.quick:
        _run(64 << 20, 3)
    else:
        _run(256 << 20, 7)


if __name__ == "__main__":
    main()
