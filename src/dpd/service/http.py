# SPDX-License-Identifier: Apache-2.0
"""HTTP for the machines being deployed: content, boot files, manifests, and the door to multicast sessions.

It has its own thread with a plain asyncio loop. A page that is not in memory makes sendfile wait for the disk, and
that must not delay a PXE answer; and uvloop has no sendfile, which costs 3.6 x the CPU for each byte.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.errors import ServiceError
from dpd.service.connections import Connections
from dpd.service.routes import HttpStats, MulticastDoor, Routes
from dpd.service.udp import explain_bind
from dpd.settings import HttpSettings, Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.metrics import LoopLag, watch_loop_lag

__all__ = ["HttpService", "HttpStats", "MulticastDoor"]

log = logging.getLogger(__name__)

BACKLOG = 1024  # a room that powers on at once; the kernel cuts it to net.core.somaxconn

JOIN_S = 10.0

T = TypeVar("T")


class HttpService:
    """The listener. start, drain and stop belong to the control loop; requests are answered in the service's thread."""

    name = "http"

    def __init__(
        self,
        settings: HttpSettings,
        *,
        library: Library,
        boot_files: BootFiles,
        multicast: MulticastDoor | None,
        journal: BootJournal,
    ) -> None:
        self.stats = HttpStats()
        self.loop_lag = LoopLag()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._routes = Routes(library, boot_files, multicast, journal, self.stats)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server
        self._connections: Connections
        self._stopping: asyncio.Event

    async def start(self) -> None:
        """Bind and serve. Raises ServiceError that says what stands in the way."""
        listener = _open_listener(self._settings.listen, self._settings.port)
        self.ports = {self.name: listener.getsockname()[1]}
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="dpd-http", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(ready)
        log.info("HTTP serves", extra={"address": self._settings.listen, "port": self.ports[self.name]})

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

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _run(self, listener: socket.socket, ready: Future[None]) -> None:
        try:
            # Not the policy's loop, which may be uvloop.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve(listener, ready))
        except Exception as error:
            log.critical("the HTTP thread ended", exc_info=True)
            if not ready.done():
                ready.set_exception(error)

    async def _serve(self, listener: socket.socket, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._connections = Connections(self._routes.handle, self.stats, self._settings.max_connections)
        self._server = await self._loop.create_server(self._connections, sock=listener, backlog=BACKLOG)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(watch_loop_lag(self.loop_lag))
            ready.set_result(None)
            await self._stopping.wait()
            self._server.close()
            await self._connections.abandon()
            watch.cancel()

    async def _drain(self) -> None:
        self._server.close()
        await self._connections.drain()


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
