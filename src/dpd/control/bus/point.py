# SPDX-License-Identifier: Apache-2.0
"""The whole of the bus at a distribution point, opened, run and looked at as one. dpd serves the same with and without it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial, wraps
from pathlib import Path

from aiohttp import web

from dpd import __version__
from dpd.bus.connection import BusConnection, Work
from dpd.bus.edge import ensure_edge
from dpd.bus.link import Link
from dpd.bus.messages import Hello, encode
from dpd.bus.subjects import Subjects
from dpd.bus.together import run_together
from dpd.bus_settings import BusSettings, is_name
from dpd.control.access.callers import Door
from dpd.control.bus.asks import AskDesk
from dpd.control.bus.desired import DesiredContent
from dpd.control.bus.door import BusDoor
from dpd.control.bus.memory import BusMemory
from dpd.control.bus.policy import PolicyFollower
from dpd.control.bus.runs import SharedRuns
from dpd.control.bus.status import READER, StatusShipper
from dpd.control.operations.bus import BusStatus
from dpd.control.operations.verbs import Operations, ServiceStatus
from dpd.errors import SettingsError
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog
from dpd.telemetry.metrics import MetricsRegistry
from dpd.telemetry.spool import Spool

log = logging.getLogger(__name__)

HELLO_S = 10.0
POLICY_LOOK_S = 0.5
FAULT_PAUSE_S = 5.0  # before a part that ended by a fault of dpd begins again


class PointBus:
    """`open` before READY, `run` for as long as dpd runs."""

    def __init__(
        self, settings: BusSettings, state_dir: Path, operations: Operations, store: SiteStore, events: EventLog, spool: Spool
    ) -> None:  # fmt: skip
        """Raises SettingsError where the settings cannot be, such as without nats-py; BusError where its file cannot."""
        self._settings = settings
        self._operations = operations
        self._spool = spool
        self.point = settings.point or _host_name()
        site, point = settings.site, self.point
        hub_domain = settings.hub_domain if settings.domain else ""
        self._subjects = Subjects(site)
        self._connection = BusConnection(settings, name=f"dpd {point}", who=point, tell=events.keep)
        self._memory = BusMemory(state_dir / "bus.db")
        self._door = BusDoor(state_dir, site)
        self._asks = AskDesk(self._door, self._memory, site, point, self._connection.stats)
        self._policy = PolicyFollower(store, site, tell=events.keep)
        self._status = StatusShipper(spool, site, point, behind_leaf=bool(settings.domain))
        self._runs = SharedRuns(store, self._memory, site, point, is_mirror=True, hub_domain=hub_domain)
        self._desired = DesiredContent(operations.jobs, self._memory, site, point)
        self._edge_lock = asyncio.Lock()
        self._edge_of: Link | None = None

    async def open(self, stack: AsyncExitStack, make: Callable[[Door], web.Application]) -> None:
        """The private door. Raises ServiceError."""
        stack.callback(self._memory.close)
        await self._door.open(stack, make)
        self._operations.bus.source = self.status
        self._operations.site.model.followed_site = self._settings.site

    async def run(self) -> None:
        """Until cancelled; nothing that happens here ends dpd."""
        works = (
            self._asks.attend,
            self._policy.attend,
            self._status.attend,
            self._runs.attend,
            self._desired.attend,
            self._greet,
        )
        await run_together(
            _for_ever(partial(self._connection.run, [self._behind_edge(work) for work in works])),
            _for_ever(self._asks.run),
            _for_ever(self._desired.follow),
        )

    def _behind_edge(self, work: Work) -> Work:
        """The same work, begun when the leaf node has what it needs."""
        if not self._settings.domain:
            return work

        @wraps(work)
        async def behind(link: Link) -> None:
            async with self._edge_lock:
                if self._edge_of is not link:
                    await ensure_edge(link, self._subjects, self._settings.hub_domain)
                    self._edge_of = link
            await work(link)

        return behind

    # ---- presence

    async def _greet(self, link: Link) -> None:
        """Until the link breaks: each HELLO_S, and at once when the policy that is held is another one."""
        while True:
            said = self._policy.version
            await link.publish(self._subjects.hello(self.point), encode(self._hello()))
            until = time.monotonic() + HELLO_S
            while time.monotonic() < until and self._policy.version == said:  # noqa: ASYNC110 - nobody wakes us
                await asyncio.sleep(POLICY_LOOK_S)

    def _hello(self) -> Hello:
        status = self._operations.status()
        counts = {
            "contents": status.contents,
            "sessions": len(status.sessions),
            "machines": status.machines,
            "jobs": status.jobs,
            "pending": len(self._operations.site.unknown().pending),
        }
        return Hello(
            self.point,
            self._settings.site,
            __version__,
            status.state,
            status.started_at,
            self._policy.version,
            self._policy.age_s,
            self._spool.epoch,
            self._status.backlog,
            _content_url(status.services),
            counts,
        )

    # ---- looking

    def status(self) -> BusStatus:
        """Plain reads, no waiting."""
        connection, link = self._connection, self._connection.link
        stats = connection.stats
        return BusStatus(
            state="away" if link is None else "connected",
            url=self._settings.url,
            site=self._settings.site,
            point=self.point,
            domain=self._settings.domain,
            server="" if link is None else link.server,
            since=connection.since,
            trouble=connection.trouble,
            policy_version=self._policy.version,
            policy_age_s=self._policy.age_s,
            policy_refusal=self._policy.refusal,
            status_epoch=self._spool.epoch,
            status_latest=self._spool.latest,
            status_confirmed=self._spool.confirmed(READER),
            status_backlog=self._status.backlog,
            desired_packages=self._desired.stats.packages,
            desired_missing=self._desired.stats.missing,
            counted={
                "connections": stats.connections,
                "sent": stats.sent,
                "acked": stats.acked,
                "failures": stats.failures,
                "asks": sum(stats.asks.values()),
            },
        )

    def add_metrics(self, registry: MetricsRegistry) -> None:
        """All of the bus's, on a page of its daemon."""
        registry.add("bus", self._connection.stats)
        registry.add("bus_policy", self._policy.stats)
        registry.add("bus_status", self._status.stats)
        registry.add("bus_runs", self._runs.stats)
        registry.add("bus_desired", self._desired.stats)
        registry.add_gauge(
            "bus_status", "backlog", "Status messages that the site does not have yet", lambda: self._status.backlog
        )
        registry.add_gauge(
            "bus_policy", "version", "The site's policy that is held here, 0 for none", lambda: self._policy.version
        )
        registry.add_gauge(
            "bus_policy", "age_seconds", "Since the site's policy was last heard to hold", lambda: self._policy.age_s
        )


async def _for_ever(part: Callable[[], Awaitable[None]]) -> None:
    """A fault of one part of the bus ends neither dpd nor the others."""
    while True:
        began_at = time.monotonic()
        try:
            await part()
        except Exception:
            log.exception("a part of the bus failed; it begins again")
        await asyncio.sleep(max(0.0, FAULT_PAUSE_S - (time.monotonic() - began_at)))


def _content_url(services: Iterable[ServiceStatus]) -> str:
    """Where this host hands out content, by its own name; "" where it does not."""
    ports = {service.name: service.ports for service in services}.get("http", {})
    return f"http://{socket.gethostname()}:{ports['http']}" if "http" in ports else ""


def _host_name() -> str:
    """Raises SettingsError where it is no name for a point."""
    name = socket.gethostname().partition(".")[0]
    if not is_name(name):
        raise SettingsError(
            f'bus.point = "": the host\'s name {name[:63]!r} is no name of a point; set bus.point to 1 to 63 of [A-Za-z0-9_-]'
        )
    return name
