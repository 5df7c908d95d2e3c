# SPDX-License-Identifier: Apache-2.0
"""HTTP for the machines being deployed: content, boot files, manifests, and the door to multicast sessions; and the same
over TLS on a port of its own, where there is a certificate.

It has its own thread with a plain asyncio loop. A page that is not in memory makes sendfile wait for the disk, and
that must not delay a PXE answer; and uvloop has no sendfile, which costs 3.6 x the CPU for each byte.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dpd.content.library import Library
from dpd.errors import ServiceError, SettingsError
from dpd.service.boot_tree import BootTree
from dpd.service.certificate import Certificate
from dpd.service.http.connections import Connections
from dpd.service.http.doors import FetchDoor, MulticastDoor, ProbeDoor, TargetDoor
from dpd.service.http.file_answers import HttpStats
from dpd.service.http.routes import Routes
from dpd.service.network.udp import explain_bind
from dpd.settings import HttpSettings, Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.metrics import LoopLag, watch_loop_lag

__all__ = ["HttpService", "HttpStats", "MulticastDoor"]

log = logging.getLogger(__name__)

BACKLOG = 1024  # a room that powers on at once; the kernel cuts it to net.core.somaxconn

JOIN_S = 10.0
HANDSHAKE_S = 10.0  # also for the farewell; a connection counts for the limit only from the end of its handshake on

TLS_NAME = "https"

T = TypeVar("T")


class HttpService:
    """The listener. start, drain and stop belong to the control loop; requests are answered in the service's thread."""

    name = "http"

    def __init__(
        self,
        settings: HttpSettings,
        *,
        library: Library,
        boot_tree: BootTree,
        multicast: MulticastDoor | None,
        journal: BootJournal,
        probe: ProbeDoor | None = None,
        fetch: FetchDoor | None = None,
        closed: Callable[[], str] = lambda: "",
        target: TargetDoor | None = None,
    ) -> None:
        self.stats = HttpStats()
        self.loop_lag = LoopLag()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._routes = Routes(library, boot_tree, multicast, journal, self.stats, probe, fetch, closed, target)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._servers: list[asyncio.Server] = []
        self._certificate: Certificate | None = None
        self._connections: Connections
        self._stopping: asyncio.Event

    async def start(self) -> None:
        """Bind and serve. Raises ServiceError or SettingsError that says what stands in the way."""
        settings = self._settings
        if settings.certificate:
            self._certificate = Certificate("http", settings.certificate, settings.private_key)
        listeners = _open_listeners(settings, with_tls=self._certificate is not None)
        self.ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(listeners, ready), name="dpd-http", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(ready)
        log.info("HTTP serves", extra={"address": settings.listen, **{f"{name}_port": port for name, port in self.ports.items()}})  # fmt: skip

    async def drain(self) -> None:
        """Take no new connection; returns when the requests under way are answered."""
        await self._in_thread(self._drain())

    async def stop(self) -> None:
        """Break off everything and end the thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            await asyncio.to_thread(thread.join, JOIN_S)
            if thread.is_alive():  # a worker waits for a disk that does not answer; the thread ends with the process
                log.warning("the HTTP thread does not end", extra={"waited_s": JOIN_S})

    def apply(self, settings: Settings) -> None:
        """Settings after a reload; connections that are open stay."""
        self._settings = settings.http
        if self._thread is not None:
            self._connections.max_connections = settings.http.max_connections
        if self._certificate is not None:
            try:
                self._certificate.read_again()
            except SettingsError as error:
                log.error("certificate kept as it was", extra={"error": str(error)})

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _run(self, listeners: dict[str, socket.socket], ready: Future[None]) -> None:
        try:
            # Not the policy's loop, which may be uvloop.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve(listeners, ready))
        except Exception as error:
            log.critical("the HTTP thread ended", exc_info=True)
            if not ready.done():
                ready.set_exception(error)

    async def _serve(self, listeners: dict[str, socket.socket], ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._connections = Connections(self._routes.handle, self.stats, self._settings.max_connections)
        self._servers = [await self._listen(name, listener) for name, listener in listeners.items()]
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(watch_loop_lag(self.loop_lag))
            ready.set_result(None)
            await self._stopping.wait()
            self._close_servers()
            await self._connections.abandon()
            watch.cancel()

    async def _listen(self, name: str, listener: socket.socket) -> asyncio.Server:
        if name != TLS_NAME or self._certificate is None:
            return await self._loop.create_server(self._connections, sock=listener, backlog=BACKLOG)
        return await self._loop.create_server(
            self._connections,
            sock=listener,
            backlog=BACKLOG,
            ssl=self._certificate.context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=HANDSHAKE_S,
        )

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()

    async def _drain(self) -> None:
        self._close_servers()
        await self._connections.drain()


def _open_listeners(settings: HttpSettings, *, with_tls: bool) -> dict[str, socket.socket]:
    """All of them, or none."""
    listeners = {HttpService.name: _open_listener(settings.listen, settings.port)}
    try:
        if with_tls:
            listeners[TLS_NAME] = _open_listener(settings.listen, settings.tls_port)
    except ServiceError:
        listeners[HttpService.name].close()
        raise
    return listeners


def _open_listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is every address, of both families
        listener.setblocking(False)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServiceError(explain_bind(error, f"HTTP ({address} TCP {port})", "tcp", port)) from None
    return listener
