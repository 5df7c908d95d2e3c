# SPDX-License-Identifier: Apache-2.0
"""A site on a LAN of namespaces: a hub with its NATS server and the site server, a branch with a leaf node, three points.

`hq` is connected to the hub itself, `b1` and `b2` to the branch's leaf node. Everything that may be asked of a point can be
asked by each of its doors, which are the same to a test: (method, path, body) or the words of a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.netns import Host, Lan
from tests.interop.daemon import DPD, Daemon
from tests.nats_server import HUB_DOMAIN, NatsServer
from tests.site_server.at_work import at_work

from dpd.bus.asking import ask
from dpd.bus.connection import BusConnection
from dpd.bus.messages import Ask, BusCaller
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings

SITE = "lab"
BRANCH_DOMAIN = "branch"
POINTS = ("hq", "b1", "b2")
PACKAGE = "LAB00001"
PATIENCE_S = 60.0
TOKEN = "a-token-for-the-tests-of-the-site"
TCP = "127.0.0.1:9443"
NATS_PORT, LEAF_PORT = 4222, 7422

# Of every point that machines boot at; [boot] goes on behind it.
BOOT_SETTINGS = """
[pxe]
unknown_computers = "pending"
[[pxe.rule]]
name = "x64"
client_arch = [7, 9]
loader = "ipxe.efi"
[multicast]
interface = "eth0"
[boot]
directory = "{boot}"
"""
POINT_SETTINGS = """
[distribution]
attempts = 3
{source}
[bus]
url = "{url}"
site = "lab"
point = "{name}"
domain = "{domain}"
[metrics]
listen = ""
"""
SOURCE = """
[[distribution.source]]
name = "hq"
url = "http://{address}:8080"
"""
SITE_SETTINGS = """
[bus]
url = "{url}"
site = "lab"
[site]
leaf_domains = ["branch"]
[metrics]
listen = ""
"""


class Point(Daemon):
    """A distribution point with a door on loopback TCP, too."""

    def __init__(self, directory: Path, settings: str, host: Host, control: str = "") -> None:
        directory.mkdir()
        token = directory / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        super().__init__(directory, settings, host, f'listen = "{TCP}"\ntoken_file = "{token}"\n{control}')


class SiteServerProcess(Daemon):
    """`dpd site serve`."""

    command = ("site", "serve")

    def __init__(self, directory: Path, settings: str, host: Host, control: str = "") -> None:
        directory.mkdir()
        super().__init__(directory, settings, host, control)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door said: the status where the door has one, and the reply."""

    ok: bool
    reply: Any


@dataclass
class Stage:
    """All of it, running. `fresh_mac` gives each test a machine of its own."""

    lan: Lan
    hub: NatsServer
    leaf: NatsServer
    site: SiteServerProcess
    points: dict[str, Point]
    loader: Path
    _macs: int = 0

    # ---- doors of a point

    def by_api(self, point: str, method: str, path: str, body: Any = None) -> Answer:
        """The point's own API over TCP, with a token."""
        words = ("-H", f"Authorization: Bearer {TOKEN}", f"http://{TCP}/v1/{path}")
        return self._curl(self.lan[point], method, words, body)

    def by_relay(self, point: str, method: str, path: str, body: Any = None) -> Answer:
        """The site server's API."""
        words = ("--unix-socket", str(self.site.socket), f"http://site/v1/points/{point}/{path}")
        return self._curl(self.lan["hub"], method, words, body)

    def by_bus(self, point: str, method: str, path: str, body: Any = None) -> Answer:
        """A request over NATS, as the site server makes it."""
        with ThreadPoolExecutor(1) as thread:  # its loop is not that of a browser's driver, nor its namespace ours
            return thread.submit(asyncio.run, self._ask(point, method, path, body)).result()

    def at_site(self, method: str, path: str, body: Any = None) -> Answer:
        """The site server's own API."""
        words = ("--unix-socket", str(self.site.socket), f"http://site/v1/{path}")
        return self._curl(self.lan["hub"], method, words, body)

    def by_cli(self, point: str, *words: str) -> Answer:
        """The command at the point itself."""
        return self._dpd(self.lan[point], ("--socket", str(self.points[point].socket)), *words)

    def by_site_cli(self, point: str, *words: str) -> Answer:
        """`dpd --dp POINT …` at the site server's host."""
        return self._dpd(self.lan["hub"], (), "--dp", point, *words)

    def site_cli(self, *words: str) -> Answer:
        """`dpd …` at the site server's host."""
        return self._dpd(self.lan["hub"], (), *words)

    def _dpd(self, host: Host, last: tuple[str, ...], *words: str) -> Answer:
        environment = ("env", f"DPD_SITE_SOCKET={self.site.socket}")
        marked = ("sh", "-c", '"$@" 2>&1; echo "status $?"', "sh", *environment, str(DPD), *words, *last, "--json")
        said, _, status = host.run(*marked).rstrip().rpartition("status ")
        text = said.strip()
        return Answer(status == "0", json.loads(text) if text.startswith(("{", "[")) else text)

    def _curl(self, host: Host, method: str, words: tuple[str, ...], body: Any) -> Answer:
        sent = () if body is None else ("-H", "Content-Type: application/json", "-d", json.dumps(body))
        said = host.run("curl", "-s", "-X", method, "-w", "\n%{http_code}", "--max-time", "60", *sent, *words)
        text, _, status = said.rpartition("\n")
        return Answer(status == "200", json.loads(text.splitlines()[-1]))

    async def _ask(self, point: str, method: str, path: str, body: Any) -> Answer:
        text = "" if body is None else json.dumps(body)
        request = Ask(f"test-{time.monotonic_ns():x}", method, f"/v1/{path}", text, caller=BusCaller("test", "admin"))
        with self.lan["hub"].inside():
            connection = BusConnection(BusSettings(url=self.hub.url, site=SITE), name="test")
            async with asyncio.timeout(PATIENCE_S), at_work(connection.run([])):
                await connection.connected.wait()
                assert connection.link is not None
                answers = ask(connection.link, Subjects(SITE).ask(point), request, timeout_s=30)
                async with contextlib.aclosing(answers):
                    parts = [part async for part in answers]
        return Answer(parts[0].status == 200, json.loads("".join(part.body for part in parts).splitlines()[-1]))

    # ---- machines

    def fresh_mac(self) -> str:
        self._macs += 1
        return f"52:54:00:91:00:{self._macs:02x}"

    def boot(self, point: str, mac: str) -> str:
        """A machine asks this point, as behind a relay, and fetches what it is told; how that ended."""
        machine, server = self.lan["machine"], self.lan[point].address
        words = (f"--mac={mac}", "--arch=uefi-x64", "--timeout=5", f"--relay={machine.address}", f"--server={server}")
        lines = machine.run(sys.executable, "-m", "dpd_probe", *words, check=False).splitlines()
        last: dict[str, Any] = json.loads(lines[-1])
        return str(last.get("reason") or last["step"])

    def decision(self, point: str, mac: str) -> dict[str, Any]:
        """What this point decided last of a machine."""
        story = self.by_api(point, "GET", f"pxe/machines/{mac}").reply["events"]
        fields: dict[str, Any] = [event["fields"] for event in story if event["event"] == "decision"][-1]
        return fields

    # ---- waiting

    def until(self, what: str, look: Callable[[], Any]) -> Any:
        """Look again until it is so; what came of the look."""
        until = time.monotonic() + PATIENCE_S
        while True:
            if found := look():
                return found
            assert time.monotonic() < until, f"{what}: not within {PATIENCE_S:.0f} s"
            time.sleep(0.2)

    def wait_until_points_follow(self, *names: str) -> None:
        """Each of these points holds the policy that the site has published last."""

        def follow() -> bool:
            site = self.at_site("GET", "status").reply
            points = self.at_site("GET", "points").reply["points"]
            held = {each["name"]: each["policy_version"] for each in points}
            return site["policy_is_out"] and all(held.get(name) == site["policy_version"] for name in names or POINTS)

        self.until("points follow", follow)

    def job_done(self, ask: Callable[..., Answer], point: str, job: int) -> dict[str, Any]:
        """The job when it has ended, as this door tells it."""

        def ended() -> dict[str, Any] | None:
            shown: dict[str, Any] = ask(point, "GET", f"jobs/{job}").reply
            return shown if shown["state"] in ("done", "failed", "cancelled") else None

        found: dict[str, Any] = self.until(f"job {job} ends", ended)
        return found


@contextmanager
def make_stage(home: Path, loader: bytes, more: str = "", control: str = "") -> Iterator[Stage]:
    """The site, started; everything ends with the block. `more` settings are everybody's, `control` of [control]."""
    boot = home / "boot"
    boot.mkdir()
    (boot / "ipxe.efi").write_bytes(loader)
    with ExitStack() as stack:
        lan = stack.enter_context(Lan("hub", "leaf", *POINTS, "machine"))
        hub = NatsServer(
            home / "nats-hub",
            host=lan["hub"].address,
            port=NATS_PORT,
            leaf_port=LEAF_PORT,
            domain=HUB_DOMAIN,
            wrapper=lan["hub"].command(),
        )
        leaf = NatsServer(
            home / "nats-leaf",
            name="leaf",
            host=lan["leaf"].address,
            port=NATS_PORT,
            leaf_port=LEAF_PORT,
            domain=BRANCH_DOMAIN,
            leaf_of=hub.leaf_url,
            wrapper=lan["leaf"].command(),
        )
        stack.enter_context(hub)
        stack.enter_context(leaf)
        site = SiteServerProcess(home / "site", SITE_SETTINGS.format(url=hub.url) + more, lan["hub"], control)
        stack.enter_context(site)
        points = {}
        for name in POINTS:
            is_hq = name == "hq"
            settings = POINT_SETTINGS.format(
                name=name,
                url=hub.url if is_hq else leaf.url,
                domain="" if is_hq else BRANCH_DOMAIN,
                source="" if is_hq else SOURCE.format(address=lan["hq"].address),
            )
            settings = BOOT_SETTINGS.format(boot=boot) + settings + more
            points[name] = stack.enter_context(Point(home / name, settings, lan[name], control))
        stage = Stage(lan, hub, leaf, site, points, boot / "ipxe.efi")
        stage.until("all points are heard", lambda: stage.at_site("GET", "status").reply["points"]["present"] == 3)
        yield stage
