# SPDX-License-Identifier: Apache-2.0
"""Where the API listens: the Unix socket always, TCP with token and TLS where the settings ask for it."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dpd.control.access.actor import local_user
from dpd.control.access.callers import Door
from dpd.control.access.network_door import NetworkDoor
from dpd.errors import ServiceError, SettingsError
from dpd.service.certificate import Certificate
from dpd.service.network.udp import explain_bind
from dpd.setting_rules import split_endpoint
from dpd.settings import ControlSettings

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 2.0
MAX_CONNECTIONS = 1000  # by one door: who opens more takes no file from those who serve machines
SILENT_S = 75.0  # of a connection without a request
TELL_AGAIN_S = 60.0
MAX_TARGET_BYTES = 256 << 10  # of a request's first line; 60000 characters may name the packages of a bundle
READ_BUFFER_BYTES = 1 << 20  # uploads arrive in pieces of at most this, so that a piece is worth its thread hop
SOCKET_MODE = 0o660


class ControlListener:
    """The doors of the API, an application behind each, as `make` makes it. `ports` tells the real TCP port."""

    def __init__(self, settings: ControlSettings, make: Callable[[Door], web.Application]) -> None:
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._make = make
        self._door: TcpDoor | None = None
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """Open every door. Raises ServiceError, SettingsError; then none is open."""
        try:
            await self._open_unix()
            if self._settings.listen:
                await self._open_tcp()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every door, giving open requests a moment; idempotent."""
        await self._open.aclose()

    def read_again(self) -> None:
        """At a reload, as `TcpDoor` has it."""
        if self._door is not None:
            self._door.read_again()

    async def _open_unix(self) -> None:
        path = Path(self._settings.socket)
        sock, inode = _bind_unix(path, self._settings.socket_group)
        self._open.callback(_unlink, path, inode)
        self._open.callback(sock.close)
        await serve(self._open, self._make(local_user), sock)

    async def _open_tcp(self) -> None:
        settings, certificate = self._settings, None
        known = NetworkDoor(settings)
        if settings.certificate:
            certificate = Certificate("control", settings.certificate, settings.private_key, settings.client_ca_file)
        door = TcpDoor(known, certificate)
        self.ports["tcp"] = await door.serve(self._open, self._make(known), settings.listen, "control API")
        self._door = door


class TcpDoor:
    """An address, over TLS where there is a certificate, and who is known there."""

    def __init__(self, known: NetworkDoor, certificate: Certificate | None) -> None:
        self._known = known
        self._certificate = certificate

    async def serve(self, stack: AsyncExitStack, application: web.Application, endpoint: str, purpose: str) -> int:
        """The port at which it is served until the stack unwinds. Raises ServiceError."""
        sock = bind_tcp(endpoint, purpose)
        stack.callback(sock.close)
        port = int(sock.getsockname()[1])
        tls = self._certificate.context if self._certificate is not None else None
        await serve(stack, application, sock, tls)
        return port

    def read_again(self) -> None:
        """At a reload: the certificate, the authority of clients' and who may ask. Open connections go on; what cannot be
        read is told, and stays as it was."""
        self._known.read_again()
        try:
            if self._certificate is not None:
                self._certificate.read_again()
        except SettingsError as error:
            log.error("certificate kept as it was", extra={"error": str(error)})


async def serve(
    stack: AsyncExitStack, application: web.Application, sock: socket.socket, tls: ssl.SSLContext | None = None
) -> None:
    """Serve an application on a bound socket until the stack unwinds."""
    runner = web.AppRunner(
        application,
        access_log=None,
        read_bufsize=READ_BUFFER_BYTES,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=SILENT_S,
        max_line_size=MAX_TARGET_BYTES,
        logger=_wire_log(),
    )
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    assert runner.server is not None
    _bound_connections(runner.server)
    await web.SockSite(runner, sock, ssl_context=tls).start()


def _bound_connections(server: web.Server) -> None:
    """Close those that come beyond MAX_CONNECTIONS."""
    made, tell_at = server.connection_made, 0.0

    def made_within_bound(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        nonlocal tell_at
        made(handler, transport)
        if len(server.connections) <= MAX_CONNECTIONS:
            return
        transport.abort()
        if time.monotonic() >= tell_at:
            tell_at = time.monotonic() + TELL_AGAIN_S
            log.warning("connection to the API closed, as many as may are open", extra={"connections": MAX_CONNECTIONS})

    server.connection_made = made_within_bound  # type: ignore[method-assign]


def _wire_log() -> logging.Logger:
    """aiohttp's log of what is no HTTP, less what it quotes: that may be of a header with a token, or of a URL with one."""
    wire = logging.getLogger(f"{__name__}.wire")
    wire.filters = [_unquoted]
    return wire


def _unquoted(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "API request that is no HTTP", (), None
        record.reason = type(error).__name__
    return True


def bind_tcp(endpoint: str, purpose: str) -> socket.socket:
    """A listening address for TCP. Raises ServiceError."""
    host, port = split_endpoint(endpoint)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)  # here, not later: a second listener's error is then found before READY
    except OSError as error:
        sock.close()
        raise ServiceError(explain_bind(error, f"{purpose} ({host} TCP {port})", "tcp", port)) from None
    return sock


def _bind_unix(path: Path, group: str) -> tuple[socket.socket, int]:
    """A socket and its inode. Bound beside its place and moved there with mode and group right, so no moment lets others in. Replaces a dead
    socket, never a live one."""
    _refuse_if_alive(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = path.with_name(f".{os.getpid()}.sock")
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        _bind_at(sock, new)
        os.chmod(new, SOCKET_MODE)
        if group:
            _give_to_group(new, group)
        inode = new.stat().st_ino
        os.replace(new, path)
    except OSError as error:
        sock.close()
        new.unlink(missing_ok=True)
        raise ServiceError(
            f"control API ({path}): {error.strerror}; create {path.parent} for the user of dpd, or set control.socket elsewhere"
        ) from None
    except SettingsError:
        sock.close()
        new.unlink(missing_ok=True)
        raise
    return sock, inode


def _bind_at(sock: socket.socket, path: Path) -> None:
    """Bind by a path through the directory's descriptor, which is short however long the directory's name is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _refuse_if_alive(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise ServiceError(
            f"control API ({path}): exists and is no socket; move it away, or set control.socket elsewhere"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise ServiceError(f"control API ({path}): another dpd answers there; stop it, or set control.socket elsewhere")


def _unlink(path: Path, inode: int) -> None:
    """Remove our socket, unless another daemon has put its own there."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except OSError:
        pass


def _give_to_group(path: Path, group: str) -> None:
    wrong = f'control.socket_group = "{group}"'
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise SettingsError(f"{wrong}: no such group; `groupadd --system {group}` makes it") from None
    except PermissionError:
        raise SettingsError(
            f"{wrong}: the user of dpd is no member; `usermod -aG {group} dpd` makes it one at the next start"
        ) from None
