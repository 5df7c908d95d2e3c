# SPDX-License-Identifier: Apache-2.0
"""TCP connections of HTTP clients: how many there may be, how long they may idle, how the bytes of a file leave.

aiohttp parses and frames. What it leaves open is closed here: a limit of connections, clients that never send or never
read, and one traceback per malformed request in the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dpd.errors import ContentCorrupt
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

IDLE_S = 30.0  # for the next request's head to be complete, from the connection or the answer before
STALL_S = 60.0  # nginx's send_timeout
STALL_BYTES = 65536  # what a reading client takes in STALL_S at the least: 1 KiB/s
SPARE_CONNECTIONS = 256  # above the limit: these are still told 503, any further one is closed unheard
# By one sendfile, so that a fast reader cannot keep the loop from the others: 4 ms at 2 GiB/s. CPU beside nginx with its
# sendfile_max_chunk 2m: 0.85 x with 2 MiB here, 0.70 x with 8 MiB, no better with 64 (bench/http_files.py).
PIECE_BYTES = 8 << 20
LINGER_S = 2.0  # for the rest of a body that was refused, so that the client gets to read why
GONE = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOTCONN}
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class ConnectionStats:
    """What the connections count."""

    connections: int = gauge("Connections open now")
    downloads: int = gauge("Files being sent now")
    sent_bytes: int = counter("Bytes of files sent")
    refused: int = counter("Connections refused since max_connections were open")
    malformed: int = counter("Requests that were no HTTP")
    broken: dict[str, int] = counts("Downloads that did not end, by reason", "reason")


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """The one shape of every error."""
    fields = {"Server": "dpd", **(headers or {})}
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=fields)


def is_tls(transport: asyncio.Transport) -> bool:
    """Whether what the peer reads from this connection is secret."""
    return transport.get_extra_info("ssl_object") is not None


class Connection(web.RequestHandler):
    """One client's connection; `over_limit` ones get 503 to whatever they ask, `answering` ones have a request."""

    over_limit = False
    answering = False

    def __init__(self, server: Connections, stats: ConnectionStats, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._stats = stats

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP; our own errors never come here, see Routes.handle."""
        self._stats.malformed += 1
        reason = (message or "not HTTP").partition("\n")[0].rstrip(": ")
        log.debug("malformed HTTP request", extra={"peer": request.remote, "reason": reason})
        response = error_response(status, "bad_request", f"{reason}; expected an HTTP/1.1 request")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that breaks off or cannot be parsed after its answer is the peer's fault."""
        if isinstance(kw.get("exc_info"), (HttpProcessingError, web.RequestPayloadError)):
            self._stats.malformed += 1
        else:
            super().log_exception(*args, **kw)


class Connections(web.Server):
    """Every connection of one listener. `busy` holds the tasks that answer a request now."""

    def __init__(self, handler: Handler, stats: ConnectionStats, max_connections: int) -> None:
        super().__init__(self._track(handler))
        self.max_connections = max_connections
        self.busy: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._stats = stats

    def __call__(self) -> Connection:
        # auto_decompress off: no request needs it, and a small body must not become a large one.
        options = {
            "keepalive_timeout": IDLE_S,
            "access_log": None,
            "lingering_time": LINGER_S,
            "auto_decompress": False,
        }
        return Connection(self, self._stats, **options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        # drain() then waits until the kernel has every byte of the head. asyncio's TLS pauses where its buffer holds "not
        # less than" the limit, so that with 0 an empty one would pause it for ever.
        transport.set_write_buffer_limits(high=1 if is_tls(transport) else 0)
        self._stats.connections += 1
        # A download may outlive its connection where the client closed its sending half.
        excess = max(self._stats.connections, self._stats.downloads) - self.max_connections
        if excess > 0 and isinstance(handler, Connection):
            handler.over_limit = True
            self._stats.refused += 1
            if excess > SPARE_CONNECTIONS:
                transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._stats.connections -= 1

    async def drain(self) -> None:
        """Close what is idle, return when every request is answered."""
        for connection in self.connections:
            if isinstance(connection, Connection) and connection.answering:
                connection.close()  # after the answer
            else:
                connection.force_close()
        while self.busy:
            self._idle.clear()
            await self._idle.wait()

    async def abandon(self) -> None:
        """Break off whatever is under way."""
        for task in self.busy:
            task.cancel()
        await asyncio.gather(*self.busy, return_exceptions=True)
        await self.shutdown(0.1)

    def _track(self, handler: Handler) -> Handler:
        async def tracked(request: web.BaseRequest) -> web.StreamResponse:
            task, connection = asyncio.current_task(), request.protocol
            assert task is not None
            assert isinstance(connection, Connection)
            self.busy.add(task)
            connection.answering = True
            try:
                return await handler(request)
            finally:
                connection.answering = False
                self.busy.discard(task)
                self._idle.set()

        return tracked


async def send_extent(
    request: web.BaseRequest, descriptor: int, offset: int, length: int, stats: ConnectionStats
) -> None:
    """Send `length` bytes of a file after the head. Cuts the connection, since the head has promised a length, and
    raises ConnectionError when the client is gone or does not read, ContentCorrupt when the file does not have them."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    stats.downloads += 1
    try:
        async with asyncio.timeout(STALL_S):
            await request.writer.drain()
        if is_tls(transport):
            await _send_through_tls(request, descriptor, offset, length, stats)
        else:
            await _send_by_kernel(transport, descriptor, offset, length, stats)
    except (ConnectionError, TimeoutError) as error:
        transport.abort()
        bump(stats.broken, "stalled" if isinstance(error, TimeoutError) else "disconnected")
        raise ConnectionResetError(str(error)) from None
    except ContentCorrupt:
        transport.abort()
        bump(stats.broken, "unreadable")
        raise
    finally:
        stats.downloads -= 1


async def _send_through_tls(
    request: web.BaseRequest, descriptor: int, offset: int, length: int, stats: ConnectionStats
) -> None:
    """Encrypt here: the kernel has no key. A client that takes less than STALL_BYTES in STALL_S is cut."""
    buffer, end = memoryview(bytearray(min(length, STALL_BYTES))), offset + length
    while offset < end:
        piece = await _read_piece(descriptor, buffer[: end - offset], offset)
        _open_transport(request).write(piece)
        async with asyncio.timeout(STALL_S):
            await request.writer.drain()  # until all of it is encrypted: then the buffer may be filled again
        stats.sent_bytes += len(piece)
        offset += len(piece)
        await asyncio.sleep(0)  # a fast reader never makes drain() wait, and others have their turn, too
    _open_transport(request)  # or the last piece went nowhere


async def _read_piece(descriptor: int, view: memoryview, offset: int) -> memoryview:
    """What of the view the file could fill, at least a byte. In a worker where the disk is to be waited for; a hop to one
    for what is in memory costs more than reading it. Raises ContentCorrupt."""
    try:
        try:
            count = os.preadv(descriptor, [view], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
            count = await asyncio.to_thread(os.preadv, descriptor, [view], offset)
    except OSError as error:
        raise ContentCorrupt(f"cannot be read: {error.strerror}") from None
    if count == 0:
        raise ContentCorrupt(f"file ends at {offset}")
    return view[:count]


def _open_transport(request: web.BaseRequest) -> asyncio.Transport:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    return transport


async def _send_by_kernel(
    transport: asyncio.Transport, descriptor: int, offset: int, length: int, stats: ConnectionStats
) -> None:
    try:
        extent = _Extent(transport, descriptor, offset, length, stats)
    except OSError as error:  # no descriptor left for the duplicate
        raise ContentCorrupt(f"cannot be sent: {error.strerror}") from None
    try:
        await extent.send()
    finally:
        extent.close()


class _Extent:
    """A piece of a file on its way, pushed by the kernel's "writable".

    `loop.sendfile` costs the CPU no more, but shows no progress by which a client that stopped reading could be told from
    a slow one, and lets a fast one keep the loop. The socket is duplicated since the loop refuses a second writer on a
    transport's own descriptor; thereby a client that has closed its sending half still gets the rest.
    """

    def __init__(
        self, transport: asyncio.Transport, descriptor: int, offset: int, length: int, stats: ConnectionStats
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._file = descriptor
        self._offset = offset
        self._end = offset + length
        self._stats = stats
        self._checked_at = offset
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def send(self) -> None:
        self._send_piece()
        if not self._done.done():
            self._loop.add_writer(self._socket, self._send_piece)
            self._timer = self._loop.call_later(STALL_S, self._check_pace)
        await self._done

    def close(self) -> None:
        self._loop.remove_writer(self._socket)
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._socket)

    def _send_piece(self) -> None:
        if self._done.done():
            return
        try:
            sent = os.sendfile(self._socket, self._file, self._offset, min(self._end - self._offset, PIECE_BYTES))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if sent == 0:
            self._done.set_exception(ContentCorrupt(f"file ends at {self._offset}, expected {self._end} bytes"))
            return
        self._offset += sent
        self._stats.sent_bytes += sent
        if self._offset == self._end:
            self._done.set_result(None)

    def _fail(self, error: OSError) -> None:
        gone = error.errno in GONE
        reason = ConnectionResetError(error.strerror) if gone else ContentCorrupt(f"cannot be read: {error.strerror}")
        self._done.set_exception(reason)

    def _check_pace(self) -> None:
        if self._done.done():
            return
        if self._offset - self._checked_at < STALL_BYTES:
            self._done.set_exception(TimeoutError(f"took less than {STALL_BYTES} bytes in {STALL_S:.0f} s"))
            return
        self._checked_at = self._offset
        self._timer = self._loop.call_later(STALL_S, self._check_pace)
