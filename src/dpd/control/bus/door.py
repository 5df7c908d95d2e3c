# SPDX-License-Identifier: Apache-2.0
"""The bus as a door of the API: a private Unix socket with the same application, and the caller whom the site server names.

Only this process knows the secret that makes such a caller believed, whoever else could open the socket.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from aiohttp import web

from dpd.bus.messages import Ask, BusCaller
from dpd.control.access.callers import Caller, CallerUnknown, Door, Role
from dpd.control.access.listener import serve
from dpd.errors import BusError, ServiceError

DOOR = "bus"
SOCKET_NAME = "bus.sock"
_NAME, _ROLE, _SECRET = "X-Dpd-Caller", "X-Dpd-Role", "X-Dpd-Secret"
MAX_NAME_CHARACTERS = 100


class BusDoor:
    """`open` serves the application; `request` is one request by it."""

    def __init__(self, directory: Path, site: str) -> None:
        self._path = directory / SOCKET_NAME
        self._site = site
        self._secret = secrets.token_urlsafe(32)
        self._short_path = ""
        self._session: aiohttp.ClientSession | None = None

    def caller(self, request: web.Request) -> Caller:
        """The door, as the application asks it. Raises CallerUnknown."""
        given = request.headers.get(_SECRET, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._secret.encode()):
            raise CallerUnknown("this socket is dpd's own, for what comes over the bus; ask by control.socket")
        try:
            role = Role(request.headers.get(_ROLE, ""))
        except ValueError:
            raise CallerUnknown("the site server named no role of dpd's for its caller") from None
        return Caller(f"{request.headers.get(_NAME, '')} by site {self._site}", role, DOOR)

    async def open(self, stack: AsyncExitStack, make: Callable[[Door], web.Application]) -> None:
        """Until the stack unwinds. Raises ServiceError."""
        try:
            sock = self._bind(stack)
        except OSError as error:
            raise ServiceError(
                f"bus ({self._path}): {error.strerror}; dpd needs to write in daemon.state_dir"
            ) from None
        await serve(stack, make(self.caller), sock)
        connector = aiohttp.UnixConnector(self._short_path, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )
        stack.push_async_callback(self._session.close)

    def _bind(self, stack: AsyncExitStack) -> socket.socket:
        """Through the directory's descriptor, since a state directory may be longer than a socket's address."""
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        self._short_path = f"/proc/self/fd/{directory}/{SOCKET_NAME}"
        self._path.unlink(missing_ok=True)  # an earlier dpd's: the library's lock keeps two from running here
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.callback(sock.close)
        sock.bind(self._short_path)
        os.chmod(self._short_path, 0o600)  # nobody can have connected before it listens
        stack.callback(self._path.unlink, missing_ok=True)
        sock.listen(128)
        return sock

    async def request(self, ask: Ask) -> aiohttp.ClientResponse:
        """The answer of the API, whose body is still to be read. Raises BusError for what is no request."""
        if self._session is None:
            raise BusError("the door of the bus is not open")
        return await self._session.request(
            ask.method,
            _checked_target(ask.target),
            data=ask.body.encode() if ask.body else None,
            headers=self._headers(ask.caller, ask),
            allow_redirects=False,
        )

    def _headers(self, caller: BusCaller | None, ask: Ask) -> dict[str, str]:
        if caller is None:
            raise BusError("the ask names no caller; is the site server older than this dpd?")
        name = "".join(c if c.isprintable() and c.isascii() else "?" for c in caller.name)[:MAX_NAME_CHARACTERS]
        headers = {_NAME: name, _ROLE: caller.role, _SECRET: self._secret}
        return headers | ({"Content-Type": ask.content_type} if ask.body else {})


def _checked_target(target: str) -> str:
    if not (target.startswith("/v1/") or target == "/openapi.json") or not target.isascii() or not target.isprintable():
        raise BusError(f"target {target[:80]!r}: expected a path of the API such as /v1/status")
    return f"http://dpd{target}"
