# SPDX-License-Identifier: Apache-2.0
"""How soon 500 distribution points hold a change of the site's policy: `python -m bench.site_scale [--quick] [--points N]`.

One nats-server, one publisher as the site server has it, and a model of 4,000 computers in 200 collections. The points are simulated,
in a few processes: each has a connection to the NATS server of its own, watches the policy, fetches it, judges its hash and reads it
by the very code of `dpd serve`; only its store, a database on the point's own disk, is left out. Each round changes one computer;
the time counts from the change in the site's store until a point holds it. The same with one point stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.machine import print_facts, spread, table, version_of
from tests.nats_server import NATS_SERVER, NatsServer

from dpd.bus.connection import BusConnection
from dpd.bus.messages import Hello, encode
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings
from dpd.control.bus.policy import PolicyFollower
from dpd.settings import Settings
from dpd.site.model import SiteModel, encode_model
from dpd.site.records import Collection, Computer, Deployment, MemberKind, MembershipRule, Purpose
from dpd.site.store import SiteStore
from dpd.site_server.layout import ensure_layout
from dpd.site_server.publisher import Publisher

SITE = "bench"
PROCESSES = 4
PATIENCE_S = 180.0
HELLO_S = 10.0


def make_model(computers: int, collections: int) -> SiteModel:
    """Collections by name, by rule and of others; a deployment for each."""
    known = tuple(
        Computer(f"PC-{n:05d}", (f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",), added_at=1.0)
        for n in range(computers)
    )
    found = tuple(
        Collection(
            f"room-{n:03d}",
            computers=tuple(each.name for each in known[n :: collections * 4]),
            rules=(MembershipRule(MemberKind.NAME, f"PC-{n:03d}*"),),
            added_at=1.0,
        )
        for n in range(collections)
    )
    deployments = tuple(
        Deployment(n + 1, f"collection:{each.name}", "LAB00001", Purpose.AVAILABLE, added_at=1.0)
        for n, each in enumerate(found)
    )
    return SiteModel(computers=known, collections=found, deployments=deployments)


# ---- points, in processes of their own


class Held(SiteStore):
    """What a point holds, without the disk: each policy that is taken is told."""

    def __init__(self, point: str) -> None:
        super().__init__()
        self._point = point

    def mirror(self, site: str, version: int, model: SiteModel, at: float) -> bool:
        told = {"point": self._point, "version": version, "at": time.monotonic(), "computers": len(model.computers)}
        os.write(1, json.dumps(told).encode() + b"\n")  # in one piece: many threads tell
        return True


async def be_points(url: str, first: int, count: int) -> None:
    """For ever; a line on standard output for each policy that is held."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(first, first + count):
            tasks.create_task(_be_point(url, f"point-{number}"))
            await asyncio.sleep(0.005)  # they are not switched on in the same instant


async def _be_point(url: str, name: str) -> None:
    follower = PolicyFollower(Held(name), SITE)
    connection = BusConnection(BusSettings(url=url, site=SITE), name=name, who=name)

    async def say_hello(link: Any) -> None:
        while True:
            hello = Hello(name, SITE, "bench", "ready", 0.0, follower.version, follower.age_s, "aa", 0, "", {})
            await link.publish(Subjects(SITE).hello(name), encode(hello))
            await asyncio.sleep(HELLO_S)

    await connection.run([follower.attend, say_hello])


# ---- the site


@dataclass(frozen=True, slots=True)
class Round:
    """One change: when the middle, the 99th of a hundred and the last point held it, and CPU seconds of points and server."""

    median_s: float
    p99_s: float
    last_s: float
    points_cpu_s: float
    nats_cpu_s: float


class Crowd:
    """Processes with simulated points; `held` is the version that each holds and when it took it."""

    def __init__(self, url: str, points: int, stack: ExitStack) -> None:
        self.points = points
        self.held: dict[str, tuple[int, float]] = {}
        self.processes: list[subprocess.Popen[str]] = []
        self._news = asyncio.Event()
        each = -(-points // min(PROCESSES, points))
        for first in range(0, points, each):
            command = [
                sys.executable,
                "-m",
                "bench.site_scale",
                "--be-points",
                url,
                str(first),
                str(min(each, points - first)),
            ]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, process)
            self.processes.append(process)

    async def read(self) -> None:
        """For ever: what the processes tell."""
        async with asyncio.TaskGroup() as tasks:
            for process in self.processes:
                assert process.stdout is not None
                tasks.create_task(self._read(process.stdout))

    async def _read(self, lines: IO[str]) -> None:
        while line := await asyncio.to_thread(lines.readline):
            told = json.loads(line)
            self.held[told["point"]] = told["version"], told["at"]
            self._news.set()

    async def wait(self, version: int) -> list[float]:
        """When each point took this version. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(held >= version for held, _ in self.held.values()) < self.points:
                self._news.clear()
                await self._news.wait()
        return sorted(at for _, at in self.held.values())

    def end(self) -> None:
        """Who reads from them goes on then, too."""
        for process in self.processes:
            process.kill()

    def cpu_s(self) -> float:
        return sum(_cpu_s(process.pid) for process in self.processes)


async def measure(nats: NatsServer, points: int, options: argparse.Namespace, stack: ExitStack) -> list[Round]:
    """So many changes, one after the other."""
    store = SiteStore()
    stack.callback(store.close)
    store.replace_model(make_model(options.computers, options.collections), "bench")
    publisher = Publisher(store, SITE)
    store.watch(publisher.wake)
    connection = BusConnection(BusSettings(url=nats.url, site=SITE), name="site")
    settings = Settings(bus=BusSettings(url=nats.url, site=SITE))

    async def publish(link: Any) -> None:
        await ensure_layout(link, settings)
        await publisher.publish(link)

    rounds = []
    async with asyncio.TaskGroup() as tasks:
        site = tasks.create_task(connection.run([publish]))
        assert await publisher.wait_published(PATIENCE_S)
        crowd = Crowd(nats.url, points, stack)
        reading = tasks.create_task(crowd.read())
        try:
            await crowd.wait(publisher.version)
            for number in range(options.rounds):
                await asyncio.sleep(options.pause_s)
                rounds.append(await _change(store, publisher, crowd, nats, number))
        finally:
            crowd.end()
        site.cancel()
        reading.cancel()
    return rounds


async def _change(store: SiteStore, publisher: Publisher, crowd: Crowd, nats: NatsServer, number: int) -> Round:
    cpu, nats_cpu, began = crowd.cpu_s(), _cpu_s(nats.pid), time.monotonic()
    store.add_computer(Computer(f"NEW-{number}", (f"06:00:00:00:00:{number:02x}",)), "bench")
    assert await publisher.wait_published(PATIENCE_S)
    took = [at - began for at in await crowd.wait(publisher.version)]
    return Round(
        took[len(took) // 2], took[int(len(took) * 0.99)], took[-1], crowd.cpu_s() - cpu, _cpu_s(nats.pid) - nats_cpu
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def row(points: int, rounds: list[Round]) -> dict[str, object]:
    return {
        "points": points,
        "half hold it after s": spread(each.median_s for each in rounds),
        "99 of 100 s": spread(each.p99_s for each in rounds),
        "all s": spread(each.last_s for each in rounds),
        "CPU ms a point": spread(each.points_cpu_s / points * 1000 for each in rounds),
        "nats-server CPU s": spread(each.nats_cpu_s for each in rounds),
    }


def run(options: argparse.Namespace) -> int:
    """Print one point beside many; 1 where a point did not take a change in time."""
    rows = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dpd-site-scale-")))
        for points in (1, options.points):
            with NatsServer(home / str(points)) as nats, ExitStack() as one:
                try:
                    rounds = asyncio.run(measure(nats, points, options, one))
                except BaseExceptionGroup as error:
                    if error.subgroup(TimeoutError) is None:
                        raise
                    print(f"MISSED  {points} points: not all held a change within {PATIENCE_S:.0f} s")
                    return 1
            rows.append(row(points, rounds))
    print(f"\n{options.rounds} changes of one computer each; median [lowest-highest round]\n")
    print(table(rows) + "\n")
    print(f"met     {options.points} points on one nats-server each took every change and its hash was right")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--computers", type=int, default=4000)
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause-s", type=float, default=2.0, help="between two changes")
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    parser.add_argument("--be-points", nargs=3, metavar=("URL", "FIRST", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_points:
        url, first, count = options.be_points
        asyncio.run(be_points(url, int(first), int(count)))
        return 0
    if NATS_SERVER is None:
        raise SystemExit("missing: nats-server")
    options.rounds = 2 if options.quick else options.rounds
    print_facts()
    print(f"{'nats-server':>14}: {version_of('nats-server', '--version')}")
    model = len(encode_model(make_model(options.computers, options.collections)))
    print(f"{'model':>14}: {options.computers} computers, {options.collections} collections, {model >> 10} KiB of JSON")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
