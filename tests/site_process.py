# SPDX-License-Identifier: Apache-2.0
"""A site on loopback: `dpd site serve` and distribution points as processes of their own, on a real NATS server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon_process import DaemonProcess
from tests.nats_server import NatsServer

from dpd.cli.client import AIM, Aim, Client

PATIENCE_S = 60.0
SITE = "lab"

SITE_SETTINGS = """
[daemon]
state_dir = "{state}"
log_format = "json"
drain_timeout_s = 5
[control]
socket = "{state}/control.sock"
[bus]
url = "{url}"
site = "lab"
[metrics]
listen = "127.0.0.1:{metrics_port}"
"""
BUS_SETTINGS = """
[bus]
url = "{url}"
site = "lab"
point = "{point}"
"""


class SiteServerProcess(DaemonProcess):
    """`dpd site serve`."""

    def __init__(self, state: Path, url: str, *, metrics_port: int = 0) -> None:
        super().__init__(state, command=("site", "serve"))
        self.config.write_text(SITE_SETTINGS.format(state=state, url=url, metrics_port=metrics_port))


class PointProcess(DaemonProcess):
    """`dpd serve` as a point of the site."""

    def __init__(self, state: Path, url: str, point: str) -> None:
        super().__init__(state)
        with self.config.open("a") as file:
            file.write(BUS_SETTINGS.format(url=url, point=point))


@dataclass
class LoopbackSite:
    """All of it, running."""

    nats: NatsServer
    server: SiteServerProcess
    points: dict[str, PointProcess]

    @property
    def client(self) -> Client:
        """Of the site server."""
        return Client(self.server.control_socket)

    def at(self, point: str) -> Client:
        """Of a point, through the site server."""
        token = AIM.set(Aim(self.server.control_socket, point))
        try:
            return Client("")
        finally:
            AIM.reset(token)

    def directly(self, point: str) -> Client:
        """Of a point, at its own socket."""
        return Client(self.points[point].control_socket)

    def until(self, what: str, look: Callable[[], Any]) -> Any:
        """Look again until it is so; what came of the look."""
        until = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < until, f"{what}: not within {PATIENCE_S:.0f} s"
            time.sleep(0.05)
        return found

    def wait_present(self, *names: str) -> None:
        def all_there() -> bool:
            states = {each["name"]: each["state"] for each in self.client.get("points")["points"]}
            return all(states.get(name) == "present" for name in names or self.points)

        self.until("the points are there", all_there)

    def wait_followed(self, *names: str) -> None:
        """Each of these points holds all that the site says."""

        def followed() -> bool:
            status = self.client.get("status")
            points = {each["name"]: each for each in self.client.get("points")["points"]}
            held = [points[name]["policy_version"] for name in names or self.points]
            return bool(status["policy_is_out"]) and all(version == status["policy_version"] for version in held)

        self.until("the points follow", followed)


@contextmanager
def loopback_site(home: Path, *points: str) -> Iterator[LoopbackSite]:
    """Started, and every point heard."""
    with ExitStack() as stack:
        nats = stack.enter_context(NatsServer(home / "nats"))
        server = stack.enter_context(SiteServerProcess(home / "site", nats.url).ready())
        found = {name: stack.enter_context(PointProcess(home / name, nats.url, name).ready()) for name in points}
        site = LoopbackSite(nats, server, found)
        site.wait_present()
        yield site
