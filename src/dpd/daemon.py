# SPDX-License-Identifier: Apache-2.0
"""One `dpd serve`: open everything, say READY, run until told to stop, drain, close everything.

Whatever was opened is closed in reverse order by one exit stack, whether the start fails half-way or the daemon ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from dpd import __version__
from dpd.boot.boot_images import BootImageStore
from dpd.boot.chain_guard import ChainGuard
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.listener import ControlListener, bind_tcp, serve
from dpd.control.operations import MulticastSender, Operations, Service
from dpd.control.signals import signals_handled
from dpd.distribution.opening import OpenDistribution
from dpd.errors import SettingsError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_desk import BootDesk
from dpd.service.boot_tree import BootTree
from dpd.service.conflict_watch import ConflictWatch
from dpd.service.http import HttpService
from dpd.service.multicast import MulticastService
from dpd.service.neighbours import mac_at
from dpd.service.probe import ProbeService
from dpd.service.pxe import PxeService
from dpd.service.pxe6 import Pxe6Service
from dpd.service.querier import QuerierService
from dpd.service.tftp import TftpService
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.store import SiteStore
from dpd.telemetry import log as logs
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.metrics import CONTENT_TYPE, LoopLag, MetricsRegistry, watch_loop_lag
from dpd.telemetry.systemd import sd_notify, watchdog_interval_s

log = logging.getLogger(__name__)

STOP_MARGIN_S = 30.0  # systemd waits this much longer than the drain before it kills


@dataclass(frozen=True, slots=True)
class Stores:
    """What the services share."""

    library: Library
    boot_files: BootFiles
    journal: BootJournal
    chain: ChainGuard
    policy: BootPolicy
    images: BootImageStore
    events: EventLog
    distribution: OpenDistribution


@dataclass(frozen=True, slots=True)
class Services:
    """The listeners in the order of their start; `multicast` is one of them, or None where it is off."""

    all: Sequence[Service]
    multicast: MulticastSender | None = None


Build: TypeAlias = Callable[[Settings, Stores], Services]


def build_services(settings: Settings, stores: Stores) -> Services:
    """The services that the settings enable."""
    library, boot_files, journal = stores.library, stores.boot_files, stores.journal
    desk = BootDesk(settings, stores.policy, stores.images)
    boot_tree = BootTree(boot_files, journal, desk=stores.policy, images=stores.images, context_of=desk.context)
    multicast = None
    if settings.multicast.enabled:
        multicast = MulticastService(
            settings.multicast, library=library, epoch=library.next_epoch(), events=stores.events
        )
        stores.distribution.removed = multicast.forget
    services: list[Service] = [desk] if multicast is None else [desk, multicast]
    probe = None if multicast is None else ProbeService(settings.multicast, taken=partial(_groups_of, multicast))
    if probe is not None and settings.multicast.querier:
        services.append(QuerierService(settings.multicast))
    if settings.http.enabled:
        services += [] if probe is None else [probe]
        http = HttpService(
            settings.http,
            library=library,
            boot_tree=boot_tree,
            multicast=multicast,
            journal=journal,
            probe=probe,
            fetch=stores.distribution.fetch,
            closed=lambda: stores.distribution.core.maintenance.reason,
        )
        services.append(http)
    if settings.tftp.enabled:
        services.append(TftpService(settings.tftp, boot_tree, journal=journal, subnets=settings.pxe.subnet))
    if settings.pxe.enabled:
        services.append(ConflictWatch(settings, journal=journal))
        # Last, so that no client is sent to a server that does not listen yet.
        services += _network_boot(settings, stores)
    return Services(services, multicast)


def _network_boot(settings: Settings, stores: Stores) -> list[Service]:
    """proxyDHCP for IPv4, and where it is wanted for IPv6."""
    tools: dict[str, Any] = {
        "http_port": settings.http.port,
        "https_port": settings.http.tls_port,
        "journal": stores.journal,
        "policy": stores.policy,
        "images": stores.images,
        "refusal_of": stores.boot_files.refusal,
    }
    six = [Pxe6Service(settings.pxe, **tools)] if settings.pxe.ipv6 else []
    return [*six, PxeService(settings.pxe, **tools)]


def _groups_of(multicast: MulticastSender) -> set[str]:
    return {session.group for session in multicast.sessions()}


def main(settings: Settings, config_path: Path | None = None) -> int:
    """Set up the log and run on uvloop where it is installed. Raises DpdError where the start fails."""
    logs.setup(settings.daemon.log_format, settings.daemon.log_level)
    gc.freeze()  # 66,000 objects of imported modules: to look through them stopped both loops for tens of milliseconds
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run(settings, config_path))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def run(settings: Settings, config_path: Path | None = None, *, build: Build = build_services) -> int:
    """Run until SIGTERM or SIGINT, then drain. Returns 0. Raises DpdError where the start fails, all closed again."""
    async with AsyncExitStack() as stack:
        daemon = Daemon(settings, config_path, build)
        await daemon.open(stack)
        await daemon.run()
    log.info("stopped")
    return 0


class Daemon:
    """What is open while dpd runs."""

    operations: Operations
    _distribution: OpenDistribution

    def __init__(self, settings: Settings, config_path: Path | None, build: Build) -> None:
        self._settings = settings
        self._config_path = config_path
        self._build = build
        self._services: Sequence[Service] = ()
        self._loop_lag = LoopLag()

    async def open(self, stack: AsyncExitStack) -> None:
        """Open the stores, then bind every socket. What was opened is closed by the stack, in reverse order."""
        stores = _open_stores(stack, self._settings)
        services = self._build(self._settings, stores)
        self._services = services.all
        self._distribution = stores.distribution
        self.operations = Operations(
            self._settings,
            library=stores.library,
            boot_files=stores.boot_files,
            journal=stores.journal,
            chain=stores.chain,
            services=services.all,
            policy=stores.policy,
            images=stores.images,
            multicast=services.multicast,
            opened=stores.distribution,
            events=stores.events,
            config_path=self._config_path,
        )
        stack.callback(self.operations.close)
        stack.enter_context(signals_handled(self.operations))
        for service in services.all:
            stack.push_async_callback(service.stop)  # first, since a start that fails may leave half open
            await service.start()
        control = ControlListener(self._settings.control, self.operations)
        stack.push_async_callback(control.stop)
        await control.start()
        stores.distribution.start()
        if self._settings.metrics.listen:
            await _serve_metrics(stack, self._settings.metrics.listen, self._registry(stores))

    async def run(self) -> None:
        """Say READY, beat the watchdog, wait for the end and drain."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(watch_loop_lag(self._loop_lag))]
            interval_s = watchdog_interval_s()
            if interval_s is not None:
                background.append(tasks.create_task(_beat(interval_s)))
            self._say_ready()
            await self.operations.draining.wait()
            await self._drain()
            for task in background:
                task.cancel()

    def _say_ready(self) -> None:
        if not self.operations.draining.is_set():
            self.operations.state = "ready"
        ports = {service.name: service.ports for service in self._services if service.ports}
        shown = ", ".join(" ".join([name, *map(str, numbers.values())]) for name, numbers in ports.items())
        sd_notify(f"READY=1\nSTATUS=serving {shown}")
        log.info("ready", extra={"version": __version__, "pid": os.getpid(), "settings": self._settings.path, "serving": shown})  # fmt: skip

    async def _drain(self) -> None:
        """Let what runs end, for as long as the settings allow or until a second signal."""
        timeout_s = self.operations.settings.daemon.drain_timeout_s
        log.info("draining", extra={"timeout_s": timeout_s})
        stop_usec = int((timeout_s + STOP_MARGIN_S) * 1e6)
        sd_notify(f"STOPPING=1\nSTATUS=draining for at most {timeout_s:g} s\nEXTEND_TIMEOUT_USEC={stop_usec}")
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(self._everything_drained())
            ending = tasks.create_task(self.operations.ending.wait())
            await asyncio.wait([drained, ending], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not drained.done():
                cause = "second signal" if ending.done() else "drain timeout"
                log.warning("ending with work under way", extra={"cause": cause})
            drained.cancel()
            ending.cancel()

    async def _everything_drained(self) -> None:
        """HTTP last: through it receivers say that they have everything."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.operations.jobs_done())
            tasks.create_task(asyncio.to_thread(self._distribution.drain))
            for service in self._services:
                if not isinstance(service, HttpService):
                    tasks.create_task(_drain_service(service))
        for service in self._services:
            if isinstance(service, HttpService):
                await _drain_service(service)

    def _registry(self, stores: Stores) -> MetricsRegistry:
        registry = MetricsRegistry()
        for service in self._services:
            registry.add(service.name, service.stats)
            if isinstance(service, HttpService):
                registry.add("http_loop", service.loop_lag)
        registry.add("control_loop", self._loop_lag)
        boot_files = stores.boot_files
        stores.distribution.add_metrics(registry)
        registry.add_gauge(
            "boot_files", "refused", "Boot files of a broken Secure Boot chain", boot_files.refused_count
        )
        return registry


async def _drain_service(service: Service) -> None:
    """A fault in one service must not cut off the transfers of the others."""
    try:
        await service.drain()
    except Exception:
        log.exception("drain failed", extra={"service": service.name})


async def _beat(interval_s: float) -> None:
    """As long as the loop runs this, systemd knows that it is alive."""
    while True:
        sd_notify("WATCHDOG=1", wait=False)
        await asyncio.sleep(interval_s)


def _open_stores(stack: AsyncExitStack, settings: Settings) -> Stores:
    state_dir = Path(settings.daemon.state_dir)
    _check_state_dir(state_dir)
    library = Library(state_dir / "library", slab_bytes=SLAB_BYTES)
    stack.push_async_callback(asyncio.to_thread, library.close)  # it waits for publishes to notice
    directory = Path(settings.boot.directory)
    boot_files = BootFiles(directory)
    if not boot_files.files():
        log.warning("no boot files; network boots will find nothing", extra={"directory": str(directory)})
    chain = ChainGuard(settings.boot.chain_manifest, boot_files)
    chain.check()
    journal = BootJournal()
    images = BootImageStore(state_dir / "boot-images", is_public=lambda name: boot_files.lookup(name) is not None)
    store = SiteStore(state_dir / "site.db")
    stack.callback(store.close)
    policy = BootPolicy(settings, store=store, journal=journal, archs_of=images.arches, mac_at=mac_at)
    events = EventLog()
    distribution = OpenDistribution(settings, library, state_dir, events)
    stack.push_async_callback(asyncio.to_thread, distribution.stop)  # before the library, which its jobs use
    return Stores(library, boot_files, journal, chain, policy, images, events, distribution)


def _check_state_dir(path: Path) -> None:
    wrong = f'daemon.state_dir = "{path}"'
    if not os.path.isdir(path):  # unlike Path.is_dir, False too where a parent may not be searched
        raise SettingsError(f"{wrong}: no such directory; make it with `install -d -m 750 {path}`, as the user of dpd")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise SettingsError(f"{wrong}: not writable by user {os.geteuid()}; `chown` it to the user of dpd")


async def _serve_metrics(stack: AsyncExitStack, endpoint: str, registry: MetricsRegistry) -> None:
    async def page(request: web.Request) -> web.Response:
        text = await asyncio.to_thread(registry.render)  # 24 ms for 2000 series would hold PXE answers up
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", page)
    sock = bind_tcp(endpoint, "metrics")
    stack.callback(sock.close)
    await serve(stack, application, sock)
