# SPDX-License-Identifier: Apache-2.0
"""A site with a branch, on loopback and all of it real: a hub, a leaf node behind a line that can be cut, `dpd site serve`, a
point at the hub and one at the leaf node; and machines that ask for a network boot as firmware does."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.line import Line
from tests.nats_server import HUB_DOMAIN, NatsServer, free_port
from tests.site_process import SITE, LoopbackSite, PointProcess, SiteServerProcess

from dpd.cli.client import Client
from dpd.protocol.pxe.client import PxeClient

HQ, BRANCH = "hq", "b1"
BRANCH_DOMAIN = "branch"
LOADER = "ipxe.efi"
ASK_AGAIN_S, LOOK_S, PATIENCE_S = 2.0, 0.2, 180.0
PAGE = 1000
# A server notices a line that swallows everything after three seconds instead of six minutes.
QUICK_PINGS = 'ping_interval: "1s"\nping_max: 2'
COMINGS = {"point.present", "point.away"}


@dataclass
class BranchSite(LoopbackSite):
    """`nats` is the hub, `line` what lies between it and the leaf node; `hq_line` between it and the point `hq`."""

    leaf: NatsServer
    line: Line
    hq_line: Line

    def until(self, what: str, look: Callable[[], Any]) -> Any:
        """Look again until it is so; what came of the look. A hub looks after its sources each half a minute only."""
        until = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < until, f"{what}: not within {PATIENCE_S:.0f} s"
            time.sleep(LOOK_S)
        return found

    def boots(self, point: str, mac: str) -> dict[str, Any]:
        """A machine asks and is told its loader; what policy decided."""
        decided, loader = self.asks(point, mac)
        assert loader == LOADER, decided
        return decided

    def asks(self, point: str, mac: str) -> tuple[dict[str, Any], str]:
        """A machine asks until it is answered, as firmware does: what policy decided, and what it is told to load."""
        client = self.directly(point)
        services = {each["name"]: each["ports"] for each in client.get("status")["services"]}
        machine = PxeClient(mac=mac, relay="127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(ASK_AGAIN_S)
            until, told = time.monotonic() + PATIENCE_S, None
            while told is None:
                assert time.monotonic() < until, f"{mac} was told nothing by {point}"
                xid = secrets.randbits(32)
                sock.sendto(machine.discover(xid), ("127.0.0.1", services["pxe"]["port"]))
                try:
                    told = machine.read(sock.recv(2048), xid)
                except TimeoutError:
                    continue
        decided: dict[str, Any] = self.until("the decision is in the journal", lambda: _last_decision(client, mac))
        return decided, told.loader

    def knows_runs(self, ask: Client, deployment: int, machines: set[str]) -> bool:
        """Whether this daemon knows that these machines were given this deployment, and no others."""
        return {run["machine"] for run in ask.get("deployments", str(deployment))["runs"]} == machines

    def wait_archived_once(self) -> dict[str, list[dict[str, Any]]]:
        """Until the site has every status message of every point; fails where one is there twice, or one too many."""
        found: dict[str, list[dict[str, Any]]] = {}

        def is_whole() -> bool:
            archived = _messages(self.client)
            of_points = {
                each["event"] for each in archived if each["event"].startswith("point.")
            }  # the site server's word
            assert of_points <= COMINGS, "messages are missing, or two hosts have one name"
            archived = [each for each in archived if each["event"] not in COMINGS]
            for point in self.points:
                own = sorted(map(_name, _messages(self.directly(point))))
                found[point] = [each for each in archived if each["fields"].get("point") == point]
                told = sorted(map(_name, found[point]))
                assert len(told) == len(set(told)), f"a message of {point} is in the archive twice"
                if told != own:
                    return False
            return True

        self.until("each status message is in the archive", is_whole)
        return found


def _last_decision(client: Client, mac: str) -> dict[str, Any] | None:
    events = client.get("pxe", "machines", mac)["events"]
    return next((each["fields"] for each in reversed(events) if each["event"] == "decision"), None)


def _messages(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    position: Any = "0"
    while True:
        page = client.get("messages", after=position, limit=PAGE)
        if not page["messages"]:
            return found
        found += page["messages"]
        position = page["position"]


def _name(message: dict[str, Any]) -> tuple[float, str, str]:
    """A message by what it says, since its number is another one in the archive."""
    fields = {name: value for name, value in message["fields"].items() if name != "point"}
    return message["at"], message["event"], repr(sorted(fields.items()))


@contextmanager
def branch_site(home: Path, *, metrics_port: int = 0, quiet: bool = False) -> Iterator[BranchSite]:
    """Started, and both points heard. `quiet`: their log stays within what a pipe holds that nobody reads. `metrics_port` is of the
    branch's point."""
    with ExitStack() as stack:
        leaf_port = free_port()
        line = stack.enter_context(Line(("127.0.0.1", leaf_port)))
        hub = NatsServer(home / "nats", domain=HUB_DOMAIN, leaf_port=leaf_port, leaf_by=line.port)
        stack.enter_context(hub)
        hq_line = stack.enter_context(Line(("127.0.0.1", hub.port)))
        leaf_of = f"nats-leaf://127.0.0.1:{line.port}"
        leaf = stack.enter_context(
            NatsServer(home / "nats", name="leaf", domain=BRANCH_DOMAIN, leaf_of=leaf_of, extra=QUICK_PINGS)
        )
        server = SiteServerProcess(home / "site", hub.url)
        _append(server.config, f'[site]\nleaf_domains = ["{BRANCH_DOMAIN}"]')
        points = {
            HQ: PointProcess(home / HQ, f"nats://127.0.0.1:{hq_line.port}", HQ),
            BRANCH: PointProcess(home / BRANCH, leaf.url, BRANCH),
        }
        _append(points[BRANCH].config, f'domain = "{BRANCH_DOMAIN}"')
        _replace(points[BRANCH].config, 'listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{metrics_port}"')
        for each in points.values():
            (each.state / "boot").mkdir()
            (each.state / "boot" / LOADER).write_bytes(b"MZ a loader")
        if quiet:
            for daemon in (server, *points.values()):
                _replace(daemon.config, "[daemon]", '[daemon]\nlog_level = "error"')
        for daemon in (server, *points.values()):
            stack.enter_context(daemon.ready())
        site = BranchSite(hub, server, points, leaf, line, hq_line)
        site.wait_present()
        assert site.client.get("status")["site"] == SITE
        yield site


def _append(config: Path, text: str) -> None:
    config.write_text(f"{config.read_text()}{text}\n")


def _replace(config: Path, what: str, by: str) -> None:
    config.write_text(config.read_text().replace(what, by))
