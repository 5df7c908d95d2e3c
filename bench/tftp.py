# SPDX-License-Identifier: Apache-2.0
"""1, 8 and 32 TFTP clients beside in.tftpd (tftpd-hpa), dnsmasq and atftpd: `python bench/tftp.py [--quick]`, as root.

Servers and clients are two hosts of the namespace lab, and the sender's device cuts trains into datagrams, as a wire has them.
Servers run on one core, clients on another. A single client shares its core with the server: on two, each window waits for
a sleeping virtual CPU to be woken, and the same pair of programs gave 73 and 691 Mbit/s on one machine.
Runs of all servers alternate, so that what disturbs the machine disturbs them alike. Loss is the switch's, of datagrams to
the clients. tftpd-hpa and dnsmasq know no windowsize: where windows are used their window 1 counts, which is their best.
Peers that are not installed are left out. The clients are bench/tftp_get.c, compiled here; they receive every datagram by
itself (no UDP_GRO), as boot firmware does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.compiler import compile_program  # noqa: E402
from bench.cpu_group import CpuGroup  # noqa: E402
from bench.machine import print_facts, spread, table, version_of  # noqa: E402
from bench.netns import Host, Lan, missing  # noqa: E402

BLKSIZE = 1456
LOSSY_FILE, LOSSY_CROWD_FILE, VERIFY_FILE = 0, -2, -1
FILES = {1: "one.wim", 8: "eight.wim", 32: "many.wim"} | {
    LOSSY_FILE: "lossy.wim",
    LOSSY_CROWD_FILE: "crowd.wim",
    VERIFY_FILE: "verify.wim",
}
# At loss the peers need about 8 s a MiB. 32 clients get all of a MiB each from dpd in 0.2 s, which is as long as the one wait
# of the one client whose first packet was lost: that would be the figure, so theirs is the size of a kernel.
SIZES_MIB = {1: 64, 8: 16, 32: 8, LOSSY_FILE: 1, LOSSY_CROWD_FILE: 4, VERIFY_FILE: 1}
WINDOWS = (1, 4, 16, 64)
GIB = 1 << 30
PATIENCE_S = 90
CROWD = 32  # clients

# What dpd is held to, as multiples of the best peer.
WINDOWED, LOCK_STEP, LOSSY = 1.5, 0.8, 20.0
OF_ITS_OWN = 0.5  # at loss, where 20 x the peers is more than this machine carries


@dataclass(frozen=True, slots=True)
class Mode:
    """What is measured."""

    clients: int
    windowsize: int
    loss_percent: int

    @property
    def one_core(self) -> bool:
        return self.clients == 1

    def runs(self, wanted: int) -> int:
        """Half as many where peers wait a second for each of many losses; all of them where it hangs on chance whether they wait
        at all: atftpd had 8 and 127 Mbit/s with windows of 16."""
        return max(1, wanted // 2) if self.loss_percent and self.windowsize == 1 else wanted

    @property
    def file(self) -> str:
        if self.loss_percent:
            return FILES[LOSSY_CROWD_FILE if self.clients >= CROWD else LOSSY_FILE]
        return FILES[self.clients]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of all clients together."""

    mbit_s: float
    server_s_gib: float
    clients_s_gib: float
    timeouts: int
    failed: int


@dataclass(frozen=True, slots=True)
class Peer:
    """How a server is started, with the best options it has."""

    program: str
    windows: tuple[int, ...]
    port: int
    command: Callable[[str, int, Path], list[str]]
    version: tuple[str, ...]


PEERS = (
    Peer(
        program="in.tftpd",
        windows=(1,),
        port=6970,
        command=lambda address, port, folder: [
            *("in.tftpd", "-L", "-4", "-a", f"{address}:{port}", "-s", str(folder), "-u", "root", "-B", "65464"),
        ],
        version=("in.tftpd", "-V"),
    ),
    Peer(
        program="dnsmasq",
        windows=(1,),
        port=69,  # dnsmasq has no other
        command=lambda address, _, folder: [
            *("dnsmasq", "-k", "-p", "0", "-C", "/dev/null", "--enable-tftp", f"--tftp-root={folder}", "--user=root"),
            *("--log-facility=-", "--tftp-max=500", f"--listen-address={address}", "--bind-interfaces"),
        ],
        version=("dnsmasq", "--version"),
    ),
    Peer(
        program="atftpd",
        windows=WINDOWS,
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
    windows=WINDOWS,
    port=6972,
    command=lambda address, port, folder: [
        *(sys.executable, str(Path(__file__).resolve()), "--serve", f"{address}:{port}", "--root", str(folder)),
    ],
    version=(),
)


@dataclass
class Server:
    """A running one; `samples` are what was measured."""

    peer: Peer
    address: str
    process: subprocess.Popen[bytes]
    group: CpuGroup
    samples: dict[Mode, list[Sample]] = field(default_factory=dict)

    def pin(self, core: int) -> None:
        """All its threads, and what they start."""
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(task), {core})


def main() -> int:
    """Measure and print; 1 where dpd misses a target."""
    options = read_options()
    if options.serve:
        serve(options.serve, options.root)
        return 0
    if absent := missing("nft"):
        sys.exit(f"bench/tftp.py: needs {', '.join(absent)}")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench/tftp.py: needs two cores")
    print_facts()
    modes = [
        Mode(clients, windowsize, loss)
        for loss in options.loss
        for clients in options.clients
        for windowsize in options.windows
    ]
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bench-tftp-", dir="/dev/shm")))
        client = compile_client(folder)
        served = make_files(folder)
        lan = cleanup.enter_context(Lan("server", "clients", checksum_offload=True))
        lan.split_trains("server")
        servers = [
            server for peer in (OWN, *PEERS) for server in start(peer, served, lan["server"], cleanup, options.only)
        ]
        for server in servers:
            verify(client, server, lan["clients"], served)
        run_modes(modes, servers, client, lan, options.runs, (cores[0], cores[-1]))
    return report(modes, servers)


def read_options() -> argparse.Namespace:
    """The command line; --serve is for the child process alone."""

    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description="TFTP: dpd beside other servers")
    parser.add_argument("--quick", action="store_true", help="windows 1 and 16, 1 and 8 clients, one run")
    parser.add_argument("--runs", type=int, default=0, help="runs of each server in each mode (5)")
    parser.add_argument("--clients", type=numbers, help="numbers of clients (1,8,32)")
    parser.add_argument("--windows", type=numbers, help="window sizes (1,4,16,64)")
    parser.add_argument("--loss", type=numbers, default=[0, 1], help="loss in percent (0,1)")
    parser.add_argument("--only", default="", help="the servers' names, separated by commas")
    parser.add_argument("--serve", metavar="ADDRESS:PORT", default="", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.clients = options.clients or ([1, 8] if options.quick else [1, 8, 32])
    options.windows = options.windows or ([1, 16] if options.quick else list(WINDOWS))
    options.runs = options.runs or (1 if options.quick else 5)
    return options


def compile_client(folder: Path) -> Path:
    """The C client. A Python one would be the bottleneck for every server here and hide what is compared."""
    print(f"{'client':>14}: tftp_get.c by {version_of('cc', '--version')}")
    return compile_program("tftp_get.c", folder)


def make_files(folder: Path) -> Path:
    """One file for each number of clients."""
    folder.chmod(0o755)
    served = folder / "root"
    served.mkdir()
    for clients, name in FILES.items():
        (served / name).write_bytes(random.Random(1456).randbytes(SIZES_MIB[clients] << 20))
    return served


def start(peer: Peer, served: Path, host: Host, cleanup: ExitStack, only: str) -> Iterator[Server]:
    """Start a server; nothing where it is not installed or not wanted."""
    if only and peer.program not in only.split(","):
        return
    command = peer.command(host.address, peer.port, served)
    if shutil.which(command[0]) is None:
        print(f"{peer.program:>14}: not installed, left out")
        return
    if peer.version:
        print(f"{peer.program:>14}: {version_of(*peer.version)}")
    group = CpuGroup(peer.program)
    cleanup.callback(group.remove)
    process = subprocess.Popen(
        host.command(*command), preexec_fn=group.enter, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    cleanup.callback(end, process)
    wait_until_bound(peer, process, host)
    yield Server(peer, host.address, process, group)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)
    time.sleep(0.2)  # children of in.tftpd go by themselves; the control group must be empty


def wait_until_bound(peer: Peer, process: subprocess.Popen[bytes], host: Host) -> None:
    """Until the port is taken; nothing is sent, so that no server sees a false request."""
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"bench/tftp.py: {peer.program} ended at once with code {process.returncode}; is this root?")
        if host.run("ss", "-Hulpn", f"sport = :{peer.port}").strip():
            return
        time.sleep(0.05)
    sys.exit(f"bench/tftp.py: {peer.program} did not bind UDP {peer.port} within 10 s")


def fetch(
    client: Path, server: Server, host: Host, mode: Mode, name: str, output: str, core: int = 0
) -> tuple[int, float, int, float, int]:
    """Downloads side by side: bytes, seconds, time-outs the clients saw, their CPU seconds, how many came to the end."""
    target = [server.address, str(server.peer.port), name, output, str(BLKSIZE), str(mode.windowsize)]
    command = ["taskset", "-c", str(core), str(client), *target, str(mode.clients), str(PATIENCE_S)]
    run = subprocess.run(host.command(*command), capture_output=True, text=True, check=False)
    try:
        size, seconds, timeouts, cpu_s, complete = run.stdout.split()
    except ValueError:
        sys.exit(f"bench/tftp.py: {server.peer.program}, {mode}: {run.stderr.strip()}")
    return int(size), float(seconds), int(timeouts), float(cpu_s), int(complete)


def verify(client: Path, server: Server, host: Host, served: Path) -> None:
    """A server that is fast because it is wrong does not count."""
    received = served.parent / "received"
    name = FILES[VERIFY_FILE]
    for windowsize in server.peer.windows:
        fetch(client, server, host, Mode(1, windowsize, 0), name, str(received))
        if hashlib.sha256(received.read_bytes()).digest() != hashlib.sha256((served / name).read_bytes()).digest():
            sys.exit(f"bench/tftp.py: {server.peer.program} sent other bytes than the file holds")


def run_modes(
    modes: Iterable[Mode], servers: list[Server], client: Path, lan: Lan, runs: int, cores: tuple[int, int]
) -> None:
    """All servers in turn, for each mode."""
    server_core, client_core = cores
    for mode in modes:
        if mode.loss_percent:
            lan.lose("clients", mode.loss_percent / 100)
        else:
            lan.lose_nothing("clients")
        able = [server for server in servers if mode.windowsize in server.peer.windows]
        for server in able:
            server.pin(client_core if mode.one_core else server_core)
        for _ in range(mode.runs(runs)):
            for server in able:
                server.samples.setdefault(mode, []).append(measure(client, server, lan["clients"], mode, client_core))
        print(".", end="", flush=True)
    print()


def measure(client: Path, server: Server, host: Host, mode: Mode, core: int) -> Sample:
    before = server.group.seconds()
    size, seconds, timeouts, clients_s, complete = fetch(client, server, host, mode, mode.file, "-", core)
    server_s = server.group.seconds() - before
    gib = max(size, 1) / GIB
    return Sample(size * 8 / seconds / 1e6, server_s / gib, clients_s / gib, timeouts, mode.clients - complete)


def report(modes: list[Mode], servers: list[Server]) -> int:
    """The table, then each target with what came of it."""
    rows = []
    for mode in modes:
        for server in servers:
            samples = server.samples.get(mode, [])
            if samples:
                rows.append(row(mode, server, samples, servers))
    print("\n" + table(rows) + "\n")
    lines = [line for mode in modes for line in verdicts(mode, servers)]
    print("\n".join(lines))
    return int(any(line.startswith("MISSED") for line in lines))


def row(mode: Mode, server: Server, samples: list[Sample], servers: list[Server]) -> dict[str, object]:
    peer = best_peer(mode, servers)
    speed = spread(sample.mbit_s for sample in samples)
    return {
        "clients": mode.clients,
        "window": mode.windowsize,
        "loss": f"{mode.loss_percent} %",
        "server": server.peer.program,
        "Mbit/s, all together": speed,
        "x best peer": f"{speed.median / peer:.2f}" if server.peer is OWN and peer else "",
        "server CPU s/GiB": f"{median(sample.server_s_gib for sample in samples):.1f}",
        "clients CPU s/GiB": f"{median(sample.clients_s_gib for sample in samples):.1f}",
        "client time-outs": sum(sample.timeouts for sample in samples),
        "failed": sum(sample.failed for sample in samples),
    }


def best_peer(mode: Mode, servers: list[Server]) -> float:
    """The median of the fastest; a server without windows stands with its window 1."""
    medians = [0.0]
    for server in servers:
        windowsize = mode.windowsize if mode.windowsize in server.peer.windows else 1
        samples = server.samples.get(Mode(mode.clients, windowsize, mode.loss_percent), [])
        if server.peer is not OWN and samples:
            medians.append(median(sample.mbit_s for sample in samples))
    return max(medians)


def verdicts(mode: Mode, servers: list[Server]) -> Iterator[str]:
    own = next((server for server in servers if server.peer is OWN), None)
    peer = best_peer(mode, servers)
    if own is None or mode not in own.samples or not peer:
        return
    speed = median(sample.mbit_s for sample in own.samples[mode])
    what = f"{mode.clients} clients, window {mode.windowsize}, {mode.loss_percent} % loss"
    failed = sum(sample.failed for sample in own.samples[mode])
    ratio = speed / peer
    target = LOSSY if mode.loss_percent else LOCK_STEP if mode.windowsize == 1 else WINDOWED
    whole = own.samples.get(Mode(mode.clients, mode.windowsize, 0), [])
    calm = median(sample.mbit_s for sample in whole) if whole else 0.0
    share = f"; {speed / calm:.2f} of its own speed without loss" if mode.loss_percent and calm else ""
    beyond = bool(share) and LOSSY * peer > OF_ITS_OWN * calm and speed >= OF_ITS_OWN * calm
    met = not failed and (ratio >= target or beyond)
    bound = (
        f" (20 x is more than this machine carries: at least {OF_ITS_OWN} of its own)"
        if beyond and ratio < target
        else ""
    )
    yield f"{'met   ' if met else 'MISSED'} {what}: {ratio:.2f} x the best peer, at least {target:g}{bound}{share}"


def serve(endpoint: str, folder: Path) -> None:
    """The child: the service as the daemon runs it, on uvloop where that is installed."""
    from dpd.content.boot_files import BootFiles
    from dpd.service.boot_tree import BootTree
    from dpd.service.tftp.server import TftpService
    from dpd.settings import TftpSettings
    from dpd.telemetry.journal import BootJournal

    async def run() -> None:
        address, _, port = endpoint.partition(":")
        # All clients have one address here.
        settings = TftpSettings(listen=address, port=int(port), max_transfers_per_client=512, requests_per_s=10000)
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
