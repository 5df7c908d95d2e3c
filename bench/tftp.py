# SPDX-License-Identifier: Apache-2.0
"""One TFTP client beside in.tftpd (tftpd-hpa), dnsmasq and atftpd: `python bench/tftp.py [--quick]`, as root.

Server, client and this script share one core. Unpinned, each lock-step block waits for a sleeping virtual CPU to be
woken, and the same pair of programs gave 73 and 691 Mbit/s on one machine; pinned, the spread is some 5 %. Runs of all
servers alternate, so that what disturbs the machine disturbs them alike. tftpd-hpa and dnsmasq know no windowsize: they
run with window 1, which is their best, and dpd runs with 16 and with their own 1. Peers that are not installed are left out.
The client is bench/tftp_get.c, compiled here; it receives every datagram by itself (no UDP_GRO), as boot firmware does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.compiler import compile_program  # noqa: E402
from bench.machine import print_facts, ratio, spread, table, version_of  # noqa: E402

BLKSIZE = 1456
FILE_NAME = "boot.wim"


@dataclass
class Contender:
    """One server and one window; `samples` are Mbit/s."""

    name: str
    windowsize: int
    address: str
    port: int
    samples: list[float] = field(default_factory=list)
    timeouts: int = 0


@dataclass(frozen=True)
class Peer:
    """How a server is started, with the best options it has."""

    program: str
    windows: tuple[int, ...]
    address: str
    port: int
    command: Callable[[str, int, Path], list[str]]
    version: tuple[str, ...]


PEERS = (
    Peer(
        program="in.tftpd",
        windows=(1,),
        address="127.77.0.1",
        port=6970,
        command=lambda address, port, folder: [
            *("in.tftpd", "-L", "-4", "-a", f"{address}:{port}", "-s", str(folder), "-u", "root", "-B", "65464"),
        ],
        version=("in.tftpd", "-V"),
    ),
    Peer(
        program="dnsmasq",
        windows=(1,),
        address="127.77.0.2",
        port=69,  # dnsmasq has no other
        command=lambda address, _, folder: [
            *("dnsmasq", "-k", "-p", "0", "-C", "/dev/null", "--enable-tftp", f"--tftp-root={folder}", "--user=root"),
            *("--log-facility=-", "--tftp-max=500", f"--listen-address={address}", "--bind-interfaces"),
        ],
        version=("dnsmasq", "--version"),
    ),
    Peer(
        program="atftpd",
        windows=(1, 16),
        address="127.77.0.3",
        port=6971,
        command=lambda address, port, folder: [
            *("atftpd", "--daemon", "--no-fork", "--user", "root", "--group", "root", "--no-multicast", "--verbose=1"),
            *("--bind-address", address, "--port", str(port), "--logfile", "-", str(folder)),
        ],
        version=("atftpd", "--version"),
    ),
)
OWN = Peer(
    program="dpd",
    windows=(1, 16, 64),
    address="127.77.0.4",
    port=6972,
    command=lambda address, port, folder: [
        *(sys.executable, str(Path(__file__).resolve()), "--serve", f"{address}:{port}", "--root", str(folder)),
    ],
    version=(),
)


def main() -> int:
    """Measure and print; 1 where dpd with window 16 is slower than a peer."""
    options = read_options()
    if options.serve:
        serve(options.serve, options.root)
        return 0
    size_mib, rounds = (16, 3) if options.quick else (64, 9)
    print_facts()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bench-tftp-")))
        client = compile_client(folder)
        served = folder / "root"
        served.mkdir()
        folder.chmod(0o755)
        (served / FILE_NAME).write_bytes(random.Random(1456).randbytes(size_mib << 20))
        contenders = [
            contender for peer in (OWN, *PEERS) for contender in start(peer, served, options.quick, cleanup, client)
        ]
        print(f"\n{rounds} alternating runs of {size_mib} MiB, blksize {BLKSIZE}, loopback, all on CPU {core}\n")
        for _ in range(rounds):
            for contender in contenders:
                measure(client, contender)
    return report(contenders)


def read_options() -> argparse.Namespace:
    """The command line; --serve is for the child process alone."""
    parser = argparse.ArgumentParser(description="TFTP: dpd beside other servers, one client, one core")
    parser.add_argument("--quick", action="store_true", help="3 runs of 16 MiB instead of 9 of 64 MiB")
    parser.add_argument("--serve", metavar="ADDRESS:PORT", default="", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def compile_client(folder: Path) -> Path:
    """The C client. A Python one would be the bottleneck for every server here and hide what is compared."""
    print(f"{'client':>14}: tftp_get.c by {version_of('cc', '--version')}")
    return compile_program("tftp_get.c", folder)


def start(peer: Peer, served: Path, quick: bool, cleanup: ExitStack, client: Path) -> list[Contender]:
    """Start a server and let it prove that it serves the right bytes; nothing where it is not installed."""
    command = peer.command(peer.address, peer.port, served)
    if shutil.which(command[0]) is None:
        print(f"{peer.program:>14}: not installed, left out")
        return []
    if peer.version:
        print(f"{peer.program:>14}: {version_of(*peer.version)}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cleanup.callback(end, process)
    wait_until_bound(peer, process)
    windows = [window for window in peer.windows if not quick or window <= 16]
    contenders = [Contender(peer.program, window, peer.address, peer.port) for window in windows]
    for contender in contenders:
        verify(client, contender, served)
    return contenders


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


def wait_until_bound(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    """Until the port is taken; nothing is sent, so that no server sees a false request."""
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"bench/tftp.py: {peer.program} ended at once with code {process.returncode}; is this root?")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((peer.address, peer.port))
            except OSError:
                return
        time.sleep(0.05)
    sys.exit(f"bench/tftp.py: {peer.program} did not bind {peer.address} UDP {peer.port} within 10 s")


def fetch(client: Path, contender: Contender, output: str) -> tuple[int, float, int]:
    """One download: bytes, seconds, time-outs the client saw."""
    target = [contender.address, str(contender.port), FILE_NAME, output, str(BLKSIZE), str(contender.windowsize)]
    run = subprocess.run([str(client), *target], capture_output=True, text=True, timeout=300, check=False)
    if run.returncode:
        sys.exit(f"bench/tftp.py: {contender.name}, window {contender.windowsize}: {run.stderr.strip()}")
    size, seconds, timeouts = run.stdout.split()
    return int(size), float(seconds), int(timeouts)


def verify(client: Path, contender: Contender, served: Path) -> None:
    """A server that is fast because it is wrong does not count; this also warms the page cache."""
    received = served.parent / "received"
    fetch(client, contender, str(received))
    if hashlib.sha256(received.read_bytes()).digest() != hashlib.sha256((served / FILE_NAME).read_bytes()).digest():
        sys.exit(f"bench/tftp.py: {contender.name} sent other bytes than the file holds")


def measure(client: Path, contender: Contender) -> None:
    size, seconds, timeouts = fetch(client, contender, "-")
    contender.samples.append(size * 8 / seconds / 1e6)
    contender.timeouts += timeouts


def report(contenders: list[Contender]) -> int:
    """The table, the ratios, and whether the target is met."""
    best = spread(next(c.samples for c in contenders if c.name == "dpd" and c.windowsize == 16))
    lockstep = spread(next(c.samples for c in contenders if c.name == "dpd" and c.windowsize == 1))
    rows = [
        {
            "server": contender.name,
            "window": contender.windowsize,
            "Mbit/s": spread(contender.samples),
            "client time-outs": contender.timeouts,
            "dpd window 16": ratio(best, spread(contender.samples)),
            "dpd window 1": ratio(lockstep, spread(contender.samples)),
        }
        for contender in contenders
    ]
    print(table(rows))
    peers = [spread(contender.samples).median for contender in contenders if contender.name != "dpd"]
    return int(any(median > best.median for median in peers))


def serve(endpoint: str, folder: Path) -> None:
    """The child: the service as the daemon runs it, on uvloop where that is installed."""
    from dpd.content.boot_files import BootFiles
    from dpd.service.boot_tree import BootTree
    from dpd.service.tftp import TftpService
    from dpd.settings import TftpSettings
    from dpd.telemetry.journal import BootJournal

    async def run() -> None:
        address, _, port = endpoint.partition(":")
        settings = TftpSettings(listen=address, port=int(port))
        journal = BootJournal()
        await TftpService(settings, BootTree(BootFiles(folder), journal), journal=journal).start()
        await asyncio.Event().wait()

    try:
        import uvloop
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())


if __name__ == "__main__":
    sys.exit(main())
