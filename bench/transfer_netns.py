# SPDX-License-Identifier: Apache-2.0
"""One file to N receivers: dpd's multicast beside udpcast, UFTP, NORM, nginx and the bare pump, in network namespaces.

    python -m bench.transfer_netns                          both labs, N = 1, 4, 8, no limit but the processors: 12 minutes
    python -m bench.transfer_netns --quick                  N = 4 alone: 2 minutes
    python -m bench.transfer_netns --line 100               a line of 100 Mbit/s, N = 8; --line 1000: N = 2
    python -m bench.transfer_netns --labs wire --receivers 8 --loss 5 --systems dpd udpcast --runs 5

Runs alternate between the systems. Two labs, which are never compared with each other: on the *wire* trains are cut at the
sender's port and the switch loses datagram by datagram; *whole* trains cross the switch, which shows what endpoints with
segmentation offload cost. What the figures mean is in bench/README.md. Needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.machine import facts, print_facts, table
from bench.netns import Lan, missing
from bench.transfer_arena import Arena
from bench.transfer_peers import Norm, Udpcast, Uftp
from bench.transfer_results import MULTICAST_PEERS, Lab, Mode, Run, rows
from bench.transfer_systems import Dpd, Nginx, NginxHashed, System
from bench.transfer_targets import is_met, verdicts

SHM = Path("/dev/shm")
SYSTEMS: dict[str, type[System]] = {system.name: system for system in (Dpd, Udpcast, Uftp, Norm, Nginx, NginxHashed)}
START_DELAY_S = 0.1  # udpcast knows how many receivers will come; dpd waits this long for a further one
# MiB for dpd and unicast; the multicast peers, slower by the factors below and without a start worth naming, get a share.
SIZES = {"wire": {1: 1024, 4: 1024, 8: 512}, "whole": {1: 1024, 4: 1024, 8: 1024}}
PEERS_SHARE = {"wire": 8, "whole": 8}
LINE_MIB = {
    100: 512,
    1000: 1024,
}  # else 128: the start of eight interpreters on two cores would be 5 % of a shorter run
LINE_START_DELAY_S = 0.3  # they do not all join within 0.1 s, and who comes late gets the first slabs once more
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")  # of the whole machine
RECEIVE_BUFFER_BYTES = 8 << 20  # what the peers' options ask for
SNOOPING_S = (
    12.0  # until the bridge has learnt its groups every port hears everything, and the first pump is much too slow
)
LINE_RECEIVERS = {100: 8, 1000: 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """One mode to measure, and the MiB that fast systems and multicast peers send in it."""

    mode: Mode
    mib: int
    peer_mib: int

    def mib_of(self, system: str) -> int:
        return self.peer_mib if system in MULTICAST_PEERS else self.mib


def plans(options: argparse.Namespace) -> Iterator[Plan]:
    """What the options ask for, in order."""
    if options.line:
        yield from _line_plans(options)
        return
    for lab in options.labs:
        for receivers in options.receivers or (1, 4, 8):
            mib = options.size_mib or SIZES[lab].get(receivers, 256)
            peer_mib = options.size_mib or max(mib // PEERS_SHARE[lab], 1)
            for loss in _losses(options, lab, receivers):
                yield Plan(Mode(lab, receivers, loss, 0.0, lab == "wire" and options.gro == "on"), mib, peer_mib)


def _losses(options: argparse.Namespace, lab: Lab, receivers: int) -> list[float]:
    if lab == "whole":
        return [0.0]  # what is lost there are whole trains, as on no wire
    return options.loss or ([0.0, 1.0, 5.0] if receivers == 8 else [0.0, 1.0])


def _start_delay_s(options: argparse.Namespace) -> float:
    given: float | None = options.start_delay
    return given if given is not None else LINE_START_DELAY_S if options.line else START_DELAY_S


def _line_plans(options: argparse.Namespace) -> Iterator[Plan]:
    mib = options.size_mib or LINE_MIB.get(int(options.line), 128)
    for receivers in options.receivers or [LINE_RECEIVERS.get(int(options.line), 4)]:
        for loss in options.loss or ([0.0, 1.0, 5.0] if receivers == 8 else [0.0, 1.0]):
            yield Plan(Mode("wire", receivers, loss, options.line, options.gro == "on"), mib, mib)


@contextmanager
def receive_buffers_allowed(size: int) -> Iterator[None]:
    """So much for whoever asks for it, meanwhile: the peers cannot force it, as dpd does where it may."""
    before = RMEM_MAX.read_text()
    RMEM_MAX.write_text(str(max(size, int(before))))
    try:
        yield
    finally:
        RMEM_MAX.write_text(before)


def compare(options: argparse.Namespace) -> list[Run]:
    """All modes, all systems, all runs."""
    wanted = list(plans(options))
    names = ["server", *(f"r{i}" for i in range(max(plan.mode.receivers for plan in wanted)))]
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory(dir=SHM, prefix="dpd-bench-") as directory,
        Lan(*names, checksum_offload=True) as lan,
        receive_buffers_allowed(RECEIVE_BUFFER_BYTES),
    ):
        made_at = time.monotonic()
        arena = Arena(lan, Path(directory), start_delay_s=_start_delay_s(options))
        systems = [SYSTEMS[name](arena.stage) for name in options.systems]
        for system in systems:
            print(f"{system.name:>14}: {system.version()}")
        time.sleep(max(made_at + SNOOPING_S - time.monotonic(), 0.0))
        for plan in wanted:
            for run in _measure(arena, plan, systems, options):
                print(f"# {run}", file=sys.stderr, flush=True)
                runs.append(run)
        arena.stage.wire.close()
    return runs


def _measure(arena: Arena, plan: Plan, systems: list[System], options: argparse.Namespace) -> Iterator[Run]:
    """The pump first, then the systems in turn, run after run."""
    mode = plan.mode
    if options.pump:
        yield arena.pump(mode)
    arena.arrange(mode)
    for number in range(options.runs):
        for system in systems:
            if number and mode.line_mbit_s and system.name.startswith("nginx"):
                continue  # N times the file on a slow line: once says it
            yield arena.run(mode, system, plan.mib_of(system.name))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", nargs="+", choices=["wire", "whole"], default=["wire", "whole"])
    parser.add_argument("--receivers", nargs="+", type=int, help="default 1 4 8; with --line 100 8, with --line 1000 2")
    parser.add_argument("--loss", nargs="+", type=float, help="percent in the wire lab; default 0 1, and 5 at N = 8")
    parser.add_argument("--line", type=float, default=0, metavar="MBIT", help="limit the sender's line; wire lab only")
    parser.add_argument("--size-mib", type=int, help="for every system; default by lab and N, less for slow peers")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--gro", choices=["off", "on"], default="on", help="at the receivers' devices, wire lab")
    parser.add_argument("--start-delay", type=float, help="dpd's multicast.start_delay_s; default 0.1, on a line 0.3")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--no-pump", dest="pump", action="store_false", help="without the lab's own limit")
    parser.add_argument("--quick", action="store_true", help="N = 4, 128 MiB, one run")
    parser.add_argument("--json", type=Path, help="write every run into this file")
    options = parser.parse_args()
    if options.quick:
        options.receivers, options.size_mib, options.runs = options.receivers or [4], options.size_mib or 128, 1
    return options


def main() -> None:
    options = parse_arguments()
    programs = sorted({program for name in options.systems for program in SYSTEMS[name].programs})
    absent = missing("nft", "tc", "curl", "cc", *programs)
    if absent:
        raise SystemExit("missing: " + ", ".join(absent))
    print_facts()
    runs = compare(options)
    print(f"\n{options.runs} runs, median [lowest-highest]\n")
    print(table(list(rows(runs))))
    lines = list(verdicts(runs))
    print("", *lines, sep="\n")
    print(f"\n{sum(map(is_met, lines))} of {len(lines)} targets met")
    if options.json:
        document = {"facts": facts(), "runs": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
