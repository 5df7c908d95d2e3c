# SPDX-License-Identifier: Apache-2.0
"""One `dpd site serve`: open the stores and doors, say READY, connect to the bus for ever, run until told to stop, drain.

It begins and serves without the bus: the model can be changed meanwhile, and points take it when there is a way to them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING

from dpd.bus.connection import BusConnection, Work
from dpd.bus.link import Link
from dpd.bus.messages import Hello, PolicyHead, decode
from dpd.bus.subjects import Subjects, point_of
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import serve_routes
from dpd.control.bus.memory import BusMemory
from dpd.control.bus.runs import SharedRuns
from dpd.control.console.page import Console
from dpd.control.lifetime import check_state_dir, run_in_loop, run_until_drained, serve_metrics
from dpd.control.signals import signals_handled
from dpd.errors import BusError, SettingsError
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.store import SiteStore
from dpd.site_server.api import ROUTES, SiteApi
from dpd.site_server.archive import Archive
from dpd.site_server.assignments import Assignments
from dpd.site_server.collecting import OWN_READER, Collector, OwnMessages
from dpd.site_server.database import SiteServerError, open_database
from dpd.site_server.layout import ensure_layout
from dpd.site_server.lease import Lease, LeaseState
from dpd.site_server.operations import SiteParts, SiteServerOperations
from dpd.site_server.points import Points, Presence
from dpd.site_server.publisher import Publisher
from dpd.site_server.succession import Succession
from dpd.telemetry.events import EventLog
from dpd.telemetry.metrics import LoopLag, MetricsRegistry
from dpd.telemetry.spool import Spool

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

WRITE_POINTS_S = 30.0
LOOK_AT_POINTS_S = 1.0
DRAIN_PUBLISH_S = 5.0
NAME = "site"  # of the connection, and in what the site server says of runs


def main(settings: Settings, config_path: Path | None = None) -> int:
    """Run as a process of its own. Raises DpdError where the start fails."""
    return run_in_loop(settings, lambda: run(settings, config_path))


async def run(settings: Settings, config_path: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT, then drain. Returns 0. Raises DpdError where the start fails, all closed again."""
    async with AsyncExitStack() as stack:
        server = SiteServer(settings, config_path)
        await server.open(stack)
        await server.run()
    log.info("stopped")
    return 0


class SiteServer:
    """What is open while a site server runs."""

    operations: SiteServerOperations

    def __init__(self, settings: Settings, config_path: Path | None) -> None:
        self._settings = settings
        self._config_path = config_path
        self._loop_lag = LoopLag()
        self._layout_lock = asyncio.Lock()
        self._laid_out: Link | None = None
        self._reloaded = asyncio.Event()

    async def open(self, stack: AsyncExitStack) -> None:
        """Open stores and doors. What was opened is closed by the stack, in reverse order."""
        settings = self._settings
        if not settings.bus.url:
            raise SettingsError(
                f'{settings.path or "defaults"}: bus.url = "": expected the NATS server of the site, such as "nats://127.0.0.1:4222"'
            )
        state_dir = Path(settings.daemon.state_dir)
        check_state_dir(state_dir)
        self._open_parts(stack, state_dir)
        stack.enter_context(signals_handled(self.operations))
        make = partial(serve_routes, SiteApi(self.operations), ROUTES)
        self._control = ControlListener(settings.control, make)
        stack.push_async_callback(self._control.stop)
        await self._control.start()
        self._console = Console(settings.console, settings.control, make)
        stack.push_async_callback(self._console.stop)
        await self._console.start()
        self.operations.at_reload += [self._control.read_again, self._console.read_again, self._reloaded.set]
        if settings.metrics.listen:
            await serve_metrics(stack, settings.metrics.listen, self._registry())

    def _open_parts(self, stack: AsyncExitStack, state_dir: Path) -> None:
        settings, site = self._settings, self._settings.bus.site
        store = SiteStore(state_dir / "site.db")
        stack.callback(store.close)
        database = open_database(state_dir)
        stack.callback(database.close)
        memory = BusMemory(state_dir / "bus.db")
        stack.callback(memory.close)
        self._spool = Spool(state_dir / "messages.db", readers=(OWN_READER,))
        stack.push_async_callback(asyncio.to_thread, self._spool.close)
        self._events = EventLog(spool=self._spool)
        store.tell_changes(self._events)
        connection = BusConnection(settings.bus, name=NAME, tell=self._events.note)
        publisher = Publisher(
            store,
            site,
            held=lambda: points.highest_held,
            told=self._tell_published,
            note_out=lambda sha256: self._succession.note_out(sha256),
            confirm=lambda link: lease.confirm(link),
        )
        points = Points(database, lambda: list(store.points.values()), lambda: publisher.version)
        stack.callback(points.write)
        loop = asyncio.get_running_loop()

        def heard() -> None:
            loop.call_soon_threadsafe(publisher.wake)

        store.watch(heard)
        assignments, archive = Assignments(database, points, site), Archive(database, settings.site.keep_events_days)
        self._succession = Succession(store, database, assignments, site, tell=self._events.note)
        lease = Lease(
            site,
            archive.epoch,
            succeed=self._succession.succeed,
            begin=self._succession.begin,
            tell=self._events.note,
        )
        self._parts = SiteParts(
            store=store,
            policy=BootPolicy(settings, store=store),
            archive=archive,
            points=points,
            assignments=assignments,
            publisher=publisher,
            connection=connection,
            lease=lease,
            events=self._events,
        )
        self._runs = SharedRuns(store, memory, site, NAME, is_mirror=False)
        self._collector = Collector(self._parts.archive, site, tell=self._events.note)
        self._own_messages = OwnMessages(self._spool, self._parts.archive)
        self.operations = SiteServerOperations(settings, self._parts, self._config_path)

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        parts = self._parts
        lone = (self._hear, parts.lease.attend, self._follow)
        steering = (
            self._keep_layout,
            parts.publisher.publish,
            parts.publisher.keep_saying,
            self._runs.attend,
            parts.assignments.keep_telling,
            self._collector.collect,
        )
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(parts.connection.run([*lone, *map(self._steering, steering)])),
                tasks.create_task(self._collector.keep_trimming()),
                tasks.create_task(self._collector.keep_settling()),
                tasks.create_task(self._own_messages.keep_collecting()),
                tasks.create_task(self._keep_watching_points()),
            ]
            ports = {"control": self._control.ports, "page": self._console.ports}
            await run_until_drained(self.operations, ports, self._drained, self._loop_lag)
            for task in background:
                task.cancel()

    async def _drained(self) -> None:
        """What was said last is on the bus, where there is one, and another site server need not wait."""
        parts = self._parts
        if parts.connection.link is not None and parts.lease.state is LeaseState.HELD:
            await parts.publisher.wait_published(DRAIN_PUBLISH_S)
        if (link := parts.connection.link) is not None:
            try:
                await parts.lease.give_back(link)
            except Exception as error:  # it expires
                log.warning("lease of the site not given back", extra={"error": str(error)})

    async def _follow(self, link: Link) -> None:
        """While another server steers the site."""

        async def follow() -> None:
            model = self.operations.site.model
            model.followed_site = self._settings.bus.site
            try:
                await self._succession.follow(link)
            finally:
                model.followed_site = ""

        await self._parts.lease.during(LeaseState.WAITING, follow)

    def _steering(self, work: Work) -> Work:
        """The same work, done while this server steers the site."""
        behind = self._behind_layout(work)

        @wraps(work)
        async def steering(link: Link) -> None:
            await self._parts.lease.during(LeaseState.HELD, lambda: behind(link))

        return steering

    def _behind_layout(self, work: Work) -> Work:
        """The same work, begun when streams and buckets are there."""

        @wraps(work)
        async def behind(link: Link) -> None:
            async with self._layout_lock:
                if self._laid_out is not link:
                    await ensure_layout(link, self.operations.settings)
                    self._laid_out = link
            try:
                await work(link)
            except Exception:
                self._laid_out = None  # it may be that somebody took a bucket away
                raise

        return behind

    async def _keep_layout(self, link: Link) -> None:
        """Until the link breaks: as the settings say after each reload."""
        while True:
            await self._reloaded.wait()
            self._reloaded.clear()
            await ensure_layout(link, self.operations.settings)

    async def _hear(self, link: Link) -> None:
        """Until the link breaks: points that say that they are there."""
        async with link.subscribed(Subjects(self._settings.bus.site).hello("*"), self._take_hello):
            await link.broken.wait()

    async def _take_hello(self, message: Msg) -> None:
        try:
            hello = decode(Hello, message.data)
        except BusError as error:
            log.warning("hello not readable", extra={"subject": message.subject, "error": str(error)})
            return
        if hello.point != point_of(message.subject):
            return
        heard = self._parts.points.hear(hello)
        if heard.is_named_twice:
            self._events.note("point.named_twice", point=hello.point)
        if heard.copy_of:
            self._events.note("point.cloned", point=hello.point, other=heard.copy_of)

    async def _keep_watching_points(self) -> None:
        """For ever: who comes and goes is told, and on disk a while later."""
        points, written_at = self._parts.points, time.monotonic()
        while True:
            for name, state in points.changes():
                if state is Presence.PRESENT:
                    self._events.note("point.present", point=name)
                else:
                    silent_s = round(time.time() - points.one(name).last_seen_at)
                    self._events.note("point.away", point=name, silent_s=silent_s)
            if time.monotonic() - written_at >= WRITE_POINTS_S:
                written_at = time.monotonic()
                try:
                    await points.keep_on_disk()
                except SiteServerError as error:
                    log.warning("what points said last is not written", extra={"error": str(error)})
            await asyncio.sleep(LOOK_AT_POINTS_S)

    def _tell_published(self, head: PolicyHead) -> None:
        self._events.note("policy.published", version=head.version, bytes=head.size_bytes)

    def _registry(self) -> MetricsRegistry:
        parts, registry = self._parts, MetricsRegistry()
        registry.add("control_loop", self._loop_lag)
        registry.add("bus", parts.connection.stats)
        registry.add("site_policy", parts.publisher.stats)
        registry.add("site_archive", parts.archive.stats)
        registry.add("site_collector", self._collector.stats)
        registry.add("site_lease", parts.lease.stats)
        registry.add("site_runs", self._runs.stats)
        registry.add("spool", self._spool.stats)
        registry.add_read("site", parts.points.read_stats)
        return registry
