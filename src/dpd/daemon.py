# SPDX-License-Identifier: Apache-2.0
"""One `dpd serve`: open everything, say READY, run until told to stop, drain, close everything.

Whatever was opened is closed in reverse order by one exit stack, whether the start fails half-way or the daemon ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from dpd import __version__
from dpd.boot.boot_images import BootImageStore
from dpd.boot.chain_guard import ChainGuard
from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.boot_watch import BootWatch
from dpd.control.bus.point import PointBus
from dpd.control.console.page import Console
from dpd.control.lifetime import check_state_dir, run_in_loop, run_until_drained, serve_metrics
from dpd.control.operations.verbs import MulticastSender, Operations, Service
from dpd.control.signals import signals_handled
from dpd.deployment.opening import OpenDeployments
from dpd.deployment.resume_book import ResumeBook
from dpd.deployment.signed_sequences import SignedSequences
from dpd.deployment.target_desk import Books, TargetDesk
from dpd.distribution.opening import OpenDistribution
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_desk import BootDesk
from dpd.service.boot_tree import BootTree
from dpd.service.diagnosis.probe import ProbeService
from dpd.service.diagnosis.querier import QuerierService
from dpd.service.http.server import HttpService
from dpd.service.multicast.service import MulticastService
from dpd.service.network.neighbours import mac_at
from dpd.service.pxe.conflict_watch import ConflictWatch
from dpd.service.pxe.dhcp6 import Pxe6Service
from dpd.service.pxe.proxy_dhcp import PxeService
from dpd.service.tftp.server import TftpService
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.metrics import LoopLag, MetricsRegistry
from dpd.telemetry.spool import Spool

log = logging.getLogger(__name__)

SITE_READER = "site"  # who ships status messages over the bus


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
    deployments: OpenDeployments
    sequences: SignedSequences
    targets: TargetDesk
    spool: Spool


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
            target=stores.targets,
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
    """Run as a process of its own. Raises DpdError where the start fails."""
    return run_in_loop(settings, lambda: run(settings, config_path))


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
    _bus: PointBus | None = None
    _console: Console
    _distribution: OpenDistribution
    _spool: Spool

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
        self._spool = stores.spool
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
            deployments=stores.deployments,
            sequences=stores.sequences,
            events=stores.events,
            config_path=self._config_path,
        )
        stack.callback(self.operations.close)
        boot_watch = BootWatch(stores.journal, stores.events, self.operations.why.surroundings)
        stack.push_async_callback(asyncio.to_thread, boot_watch.stop)
        boot_watch.start()
        stack.enter_context(signals_handled(self.operations))
        for service in services.all:
            stack.push_async_callback(service.stop)  # first, since a start that fails may leave half open
            await service.start()
        make = partial(make_application, self.operations)
        control = ControlListener(self._settings.control, make)
        stack.push_async_callback(control.stop)
        await control.start()
        self.operations.at_reload.append(control.read_again)
        self._console = Console(self._settings.console, self._settings.control, make)
        stack.push_async_callback(self._console.stop)
        await self._console.start()
        self.operations.at_reload.append(self._console.read_again)
        if self._settings.bus.url:
            state_dir = Path(self._settings.daemon.state_dir)
            self._bus = PointBus(
                self._settings.bus, state_dir, self.operations, stores.policy.store, stores.events, stores.spool
            )
            await self._bus.open(stack, make)
        stores.distribution.start()
        stores.deployments.start()
        if self._settings.metrics.listen:
            await serve_metrics(stack, self._settings.metrics.listen, self._registry(stores))

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        self._spool.put("daemon.ready", {"version": __version__})
        ports = {service.name: service.ports for service in self._services} | {"page": self._console.ports}
        async with asyncio.TaskGroup() as tasks:
            bus = None if self._bus is None else tasks.create_task(self._bus.run())
            await run_until_drained(self.operations, ports, self._everything_drained, self._loop_lag)
            if bus is not None:
                bus.cancel()

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
        stores.deployments.add_metrics(registry)
        registry.add("spool", stores.spool.stats)
        registry.add("target", stores.targets.stats)
        if self._bus is not None:
            self._bus.add_metrics(registry)
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


def _open_stores(stack: AsyncExitStack, settings: Settings) -> Stores:
    state_dir = Path(settings.daemon.state_dir)
    check_state_dir(state_dir)
    spool = Spool(state_dir / "messages.db", readers=(SITE_READER,) if settings.bus.url else ())
    stack.push_async_callback(asyncio.to_thread, spool.close)  # last, since whatever ends may have something to tell
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
    events = EventLog(spool=spool)
    store.tell_changes(events)
    distribution = OpenDistribution(settings, library, state_dir, events)
    stack.push_async_callback(asyncio.to_thread, distribution.stop)  # before the library, which its jobs use
    deployments = OpenDeployments(
        settings,
        library,
        state_dir,
        events,
        refuse_new_content=distribution.core.maintenance.refuse_new_content,
        arrived=distribution.core.noticed,
    )
    stack.push_async_callback(asyncio.to_thread, deployments.stop)
    sequences = SignedSequences(store.sequences.find, library.public_key(), library.sign)
    resumes = ResumeBook(state_dir / "resumes.db")
    stack.push_async_callback(asyncio.to_thread, resumes.close)
    books = Books(deployments.book, resumes, deployments.logs, deployments.captures)
    targets = TargetDesk(policy, sequences, books, journal=journal)
    return Stores(
        library,
        boot_files,
        journal,
        chain,
        policy,
        images,
        events,
        distribution,
        deployments,
        sequences,
        targets,
        spool,
    )
