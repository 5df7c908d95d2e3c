# SPDX-License-Identifier: Apache-2.0
"""1000 machines switched on at once: `python -m bench.pxe_storm [--quick]`, as root.

dpd and dnsmasq (proxyDHCP and TFTP) take turns on a LAN of namespaces: the server on one core, all machines in one process
on the others. Each machine is a model of EDK2: DISCOVER by broadcast, REQUEST to port 4011 from its own address, the loader by
TFTP, first with tsize and given up, then for good, all with EDK2's time-outs. Two figures come out:

- the storm: whether anybody had to ask twice, and when the last machine had its loader;
- decisions: answers in a second with 64 machines asking at any time, DISCOVER and REQUEST in turn.

dpd decides by policy (each machine is a known computer with a deployment), issues a ticket for each boot and writes down why.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.machine import Spread, print_facts, ratio, spread, table
from bench.netns import Lan, missing
from bench.pxe_machines import Powered, Room, pin_away_from
from bench.pxe_servers import CORE, LOADER, SERVERS, PxeServer

MACHINES = 1000
IN_FLIGHT = 64
MIN_RATIO = 0.5
STORM_LIMIT_S = 60.0


def storm_row(name: str, runs: list[Powered]) -> dict[str, object]:
    """One line of the first table; times are those of the worst machine."""

    def worst(attribute: str) -> Spread:
        return spread(max(getattr(machine, attribute) for machine in run.machines) for run in runs)

    return {
        "server": name,
        "OFFER s": worst("offer_s"),
        "4011 ACK s": worst("ack_s"),
        "TFTP answer s": worst("tftp_answer_s"),
        "last has its loader s": spread(run.seconds for run in runs),
        "asked again": ", ".join(f"{count} {what}" for what, count in again(runs).items()) or "nobody",
        "without loader": sum(run.failed for run in runs),
    }


def again(runs: list[Powered]) -> Counter[str]:
    """Questions that machines had to repeat, by kind."""
    return sum((run.retries for run in runs), Counter[str]())


def verdicts(storms: dict[str, list[Powered]], decisions: dict[str, list[float]]) -> Iterator[tuple[bool, str]]:
    """The targets: nobody asks dpd twice, and it decides at least half as fast as dnsmasq."""
    retries = again(storms["dpd"]).total() + sum(run.failed for run in storms["dpd"])
    yield (
        retries == 0,
        f"dpd: {MACHINES} machines at once, {retries} questions asked again or never answered, at most 0",
    )
    if "dnsmasq" in decisions:
        share = spread(decisions["dpd"]).median / spread(decisions["dnsmasq"]).median
        yield share >= MIN_RATIO, f"dpd: {share:.2f} of dnsmasq's decisions a second, at least {MIN_RATIO}"


def measure(server: PxeServer, room: Room, options: argparse.Namespace) -> tuple[Powered, float, float]:
    """One storm; then decisions a second, and the server's CPU seconds for each."""
    server.forget_boots()
    powered = room.power_on(STORM_LIMIT_S)
    before = server.cpu_s()
    answers, seconds = room.ask_without_pause(IN_FLIGHT, options.seconds)
    return powered, answers / seconds, (server.cpu_s() - before) / max(answers, 1)


def run(options: argparse.Namespace) -> int:
    """Alternate and print; 1 where a target is missed."""
    storms: dict[str, list[Powered]] = {}
    decisions: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with ExitStack() as cleanup:
        home = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="dpd-storm-")))
        home.chmod(0o755)
        rooms = [cleanup.enter_context(make_room(kind, home)) for kind in SERVERS]
        for _ in range(options.rounds):
            for server, room in rooms:
                powered, rate, cost = measure(server, room, options)
                storms.setdefault(server.name, []).append(powered)
                decisions.setdefault(server.name, []).append(rate)
                cpu.setdefault(server.name, []).append(cost * 1e6)
    print(f"\n{options.rounds} alternating storms of {MACHINES} machines, loader of {LOADER.stat().st_size} bytes\n")
    print(table([storm_row(name, runs) for name, runs in storms.items()]))
    print(f"\nDecisions, {IN_FLIGHT} machines asking at any time, {options.seconds:.0f} s each\n")
    print(table([decision_row(name, decisions, cpu) for name in decisions]) + "\n")
    found = list(verdicts(storms, decisions))
    for met, text in found:
        print("met   " if met else "MISSED", "", text)
    return int(not all(met for met, _ in found))


def decision_row(name: str, decisions: dict[str, list[float]], cpu: dict[str, list[float]]) -> dict[str, object]:
    ours = spread(decisions["dpd"])
    return {
        "server": name,
        "decisions/s": spread(decisions[name]),
        "dpd / this": ratio(ours, spread(decisions[name])),
        "server CPU us each": spread(cpu[name]),
    }


class make_room:
    """A context manager: a LAN with a server that answers, and the room of machines opposite."""

    def __init__(self, kind: type[PxeServer], home: Path) -> None:
        self._kind, self._home = kind, home
        self._stack = ExitStack()

    def __enter__(self) -> tuple[PxeServer, Room]:
        lan = self._stack.enter_context(Lan("server", "machines"))
        folder = self._home / self._kind.name
        (folder / "boot").mkdir(parents=True)
        shutil.copy(LOADER, folder / "boot" / LOADER.name)
        room = Room(lan, MACHINES, LOADER.read_bytes())
        self._stack.callback(room.close)
        server = self._kind(lan, folder, [machine.mac for machine in room.machines])
        room.ask_each_once()
        return server, room

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 2.0
    absent = missing("dnsmasq") + ([] if LOADER.is_file() else [str(LOADER)])
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    for kind in SERVERS:
        print(f"{kind.name:>14}: {kind.version()}")
    pin_away_from(CORE)
    began = time.monotonic()
    status = run(options)
    print(f"\n{time.monotonic() - began:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
