# SPDX-License-Identifier: Apache-2.0
"""A decision of boot policy at a site of 4,000 computers with 200 collections beside one at a site of ten.

    python -m bench.policy_scale [--quick] [--computers N] [--collections N] [--rounds N]

Each site lives in a process of its own, with a store on the disk: computers of three NICs, half of the collections by name and
half by rule, a deployment to each of them, so that every computer of both sites has the same two. The processes take turns;
in each round machines ask in random order, each by any of its NICs.

Three figures. *Bytecodes*: what the interpreter executes for one decision; it grows with whatever is looked through. *Ten ask*:
CPU time of a decision while ten machines ask, at both sites; it grows with whatever a larger site makes slower. *All ask*:
the same while every machine asks; the large site's are in no cache then, so that its memory is measured, some 20 lines of it for each decision.
Gates (exit code 1): at most 1.2 times the small site's bytecodes, and at most 1.2 times its time while ten ask.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.machine import Spread, print_facts, ratio, spread, table  # noqa: E402

from dpd.settings import parse_settings  # noqa: E402
from dpd.site.decision import BootRequest, Outcome  # noqa: E402
from dpd.site.model import SiteModel  # noqa: E402
from dpd.site.policy import BootPolicy  # noqa: E402
from dpd.site.records import (  # noqa: E402
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Purpose,
    Run,
)
from dpd.site.store import SiteStore  # noqa: E402

GATE = 1.2
NICS = 3
SMALL = 10, 2
NOW = 1_800_000_000.0


@dataclass(frozen=True)
class Size:
    computers: int
    collections: int

    def __str__(self) -> str:
        return f"{self.computers} computers, {self.collections} collections"


def main() -> None:
    arguments = _arguments()
    print_facts()
    with tempfile.TemporaryDirectory() as place:
        small = _Site(Size(*SMALL), Path(place) / "small.db")
        large = _Site(Size(arguments.computers, arguments.collections), Path(place) / "large.db")
        worst = _compare(small, large, arguments.rounds)
        print(table(large.ask("changes")))
        for site in (small, large):
            site.end()
    if worst > GATE:
        sys.exit(f"a decision at the large site costs {worst:.2f} x that of the small one; at most {GATE} is expected")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument("--computers", type=int, default=4000)
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds //= 5
    return arguments


def _compare(small: _Site, large: _Site, rounds: int) -> float:
    """Prints a table; the worst ratio of medians that has a gate."""
    rows, worst = [], 0.0
    for how, case in ((how, case) for how in HOW for case in CASES):
        took: dict[_Site, list[float]] = {small: [], large: []}
        for number in range(3 if how == BYTECODES else rounds + 3):
            for site in (small, large) if number % 2 else (large, small):
                us = site.ask((how, case))
                if number >= 3 or how == BYTECODES:  # the first ones warm caches up
                    took[site].append(us)
        ours, theirs = spread(took[large]), spread(took[small])
        if how != ALL_ASK:
            worst = max(worst, ours.median / theirs.median)
        rows.append({"a decision": how, "about a": case, str(small.size): _shown(theirs), str(large.size): _shown(ours), "ratio": ratio(ours, theirs)})  # fmt: skip
    print(table(rows))
    return worst


def _shown(found: Spread) -> str:
    return f"{found.median:.2f} [{found.low:.2f}-{found.high:.2f}] n={found.runs}"


class _Site:
    """A policy in a process of its own that does what it is asked."""

    def __init__(self, size: Size, path: Path) -> None:
        self.size = size
        spawned = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawned.Pipe()
        self._process = spawned.Process(target=_serve, args=(theirs, size, path))
        self._process.start()
        assert self.ask("ready") == "ready"

    def ask(self, what: object) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.send("")
        self._process.join()


def _serve(pipe: Connection, size: Size, path: Path) -> None:
    store = SiteStore(path, clock=lambda: NOW)
    store.replace_model(_model(size), "bench")
    bench = _Bench(BootPolicy(parse_settings("", "bench"), store=store, clock=lambda: NOW), size)
    while what := pipe.recv():
        pipe.send("ready" if what == "ready" else bench.changes() if what == "changes" else bench.take(*what))
    store.close()


def _macs(number: int) -> tuple[str, ...]:
    return tuple(
        f"52:54:{nic:02x}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}" for nic in range(NICS)
    )


def _model(size: Size) -> SiteModel:
    """Every computer belongs to one room, which names it, and to one branch, whose rule finds it."""
    half = size.collections // 2
    computers = tuple(Computer(f"B{n % half:03d}-{n:05d}", _macs(n), added_at=NOW) for n in range(size.computers))
    rooms = [Collection(f"room-{r:03d}", tuple(c.name for c in computers[r::half]), added_at=NOW) for r in range(half)]
    rule = MemberKind.NAME
    branches = [
        Collection(f"branch-{b:03d}", (), (MembershipRule(rule, f"b{b:03d}-*"),), added_at=NOW) for b in range(half)
    ]
    deployments = [
        *(Deployment(0, f"collection:{c.name}", "REQ", Purpose.REQUIRED, 5, added_at=NOW) for c in branches),
        *(Deployment(0, f"collection:{c.name}", "AVA", Purpose.AVAILABLE, 0, added_at=NOW) for c in rooms),
    ]
    return SiteModel(computers, (*rooms, *branches), tuple(deployments))


class _Bench:
    """`take` gives what one decision costs."""

    def __init__(self, policy: BootPolicy, size: Size) -> None:
        self.policy, self.size = policy, size
        self._random = random.Random(size.computers)
        self._case = ""

    def take(self, how: str, case: str) -> float:
        self._let_all_be(case)
        among = self.size.computers if how == ALL_ASK else SMALL[0]
        macs = [
            self._random.choice(_macs(self._random.randrange(among))) for _ in range(100 if how == BYTECODES else 4000)
        ]
        macs = ["02" + mac[2:] for mac in macs] if case == UNKNOWN else macs
        requests = [BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", at=NOW) for mac in macs]
        return (_bytecodes if how == BYTECODES else _time)(self._decide, requests)

    def _decide(self, request: BootRequest) -> None:
        assert self.policy.decide(request).outcome is not Outcome.ABORT

    def _let_all_be(self, case: str) -> None:
        """Every computer was given the required deployment of its branch: in this boot, or in one before."""
        if case == self._case or case == UNKNOWN:
            return
        self._case, began = case, NOW if case == REQUIRED else NOW - 9000
        ended = NOW - 8000 if case == HAS_RUN else 0.0
        store = self.policy.store
        ids = {each.target.removeprefix("collection:branch-"): each.id for each in store.deployments.values()}
        computers = store.computers.by_name.values()
        runs = [Run(ids[each.name[1:4]], each.name.lower(), each.macs[0], began, ended) for each in computers]
        store.runs.take(runs)

    def changes(self) -> list[dict[str, str]]:
        """What a change of policy takes, which no decision waits for."""
        store = self.policy.store
        first = next(iter(store.membership.collections.values()))
        name = next(iter(store.computers.by_name.values())).name
        return [
            _timed("a computer is added", lambda: store.add_computer(Computer("NEW-1", ("06:00:00:00:00:01",)), "bench")),
            _timed("a collection is made, by rule", lambda: store.add_collection(Collection("new", (), (MembershipRule(MemberKind.NAME, "*-0001*"),)), "bench")),
            _timed("a computer is named in a collection", lambda: store.change_collection(Collection(first.name, (*first.computers, name)), "bench")),
            _timed("a deployment is added", lambda: store.add_deployment(Deployment(0, "collection:new", "", Purpose.AVAILABLE), "bench")),
            _timed("the whole model is taken from a site", lambda: store.mirror("hq", 1, store.model(), NOW)),
        ]  # fmt: skip


def _bytecodes(one: Callable[[BootRequest], None], asked: list[BootRequest]) -> float:
    counted = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal counted
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        for each in asked:
            one(each)
    finally:
        sys.settrace(None)
    return counted / len(asked)


def _time(one: Callable[[BootRequest], None], asked: list[BootRequest]) -> float:
    begun = time.process_time_ns()
    for each in asked:
        one(each)
    return (time.process_time_ns() - begun) / 1000 / len(asked)


def _timed(what: str, work: Callable[[], object]) -> dict[str, str]:
    begun = time.monotonic()
    work()
    return {"change of the large site": what, "ms": f"{(time.monotonic() - begun) * 1000:.0f}"}


UNKNOWN, REQUIRED, HAS_RUN = "unknown machine", "required", "required, has run: the available one"
CASES = (UNKNOWN, REQUIRED, HAS_RUN)
BYTECODES, TEN_ASK, ALL_ASK = "bytecodes", "us while ten ask", "us while all ask"
HOW = (BYTECODES, TEN_ASK, ALL_ASK)

if __name__ == "__main__":
    main()
