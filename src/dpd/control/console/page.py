# SPDX-License-Identifier: Apache-2.0
"""The page to look at: its files and the API, on one origin, for browsers.

Who comes without a token looks on as a viewer, unless the settings want a token for that too. A browser is a program that
also runs what strangers wrote, so: requests under a foreign host name are refused (a name that an attacker lets lead here would
be the same origin as the attacker's page), no other page may frame or embed this one, and scripts and styles come from its
own files alone, which cannot turn text into markup (Trusted Types).
"""

from __future__ import annotations

import hashlib
import html
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from dpd.bus_settings import ConsoleSettings
from dpd.control.access.callers import Caller, CallerUnknown, Door, Role
from dpd.control.access.listener import TcpDoor
from dpd.control.access.network_door import NetworkDoor
from dpd.control.api.messages.message import Failure
from dpd.control.api.refusals import refuse
from dpd.service.certificate import Certificate
from dpd.settings import ControlSettings

FOLDER = Path(__file__).with_name("files")
DOOR = "console"
ANONYMOUS = "anonymous"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page, in memory."""

    content: bytes
    content_type: str
    etag: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or that the browser's copy is still right: a new version of dpd shows at once and the old one is never mixed in."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.content, content_type=self.content_type, charset="utf-8", headers=headers)


class Console:
    """The listener of [console]. `make` gives the API's application for a door; `ports` tells the real port."""

    def __init__(
        self, settings: ConsoleSettings, control: ControlSettings, make: Callable[[Door], web.Application]
    ) -> None:
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._control = control
        self._make = make
        self._door: TcpDoor | None = None
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """Listen, where the settings say where. Raises ServiceError, SettingsError; then nothing is open."""
        if not self._settings.listen:
            return
        try:
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close it, giving open requests a moment; idempotent."""
        await self._open.aclose()

    def read_again(self) -> None:
        """At a reload: the certificate, and whose tokens count."""
        if self._door is not None:
            self._door.read_again()

    async def _listen(self) -> None:
        settings, certificate = self._settings, None
        known = NetworkDoor(self._control, DOOR)
        if settings.certificate:
            certificate = Certificate("console", settings.certificate, settings.private_key)
        application = self._make(ConsoleDoor(known, anonymous=settings.anonymous))
        dress(application, names_of(settings))
        door = TcpDoor(known, certificate)
        self.ports["tcp"] = await door.serve(self._open, application, settings.listen, "page")
        self._door = door


class ConsoleDoor:
    """Who brings a token is whom the API's door on TCP knows by it; who brings none is a viewer, where that is allowed.

    A token counts only where nobody between can have read it: over TLS, or from this very host."""

    def __init__(self, known: Door, *, anonymous: bool) -> None:
        self._known = known
        self._anonymous = anonymous

    def __call__(self, request: web.Request) -> Caller:
        """Who asks. Raises CallerUnknown."""
        if self._anonymous and "Authorization" not in request.headers:
            return Caller(ANONYMOUS, Role.VIEWER, DOOR)
        if not _is_private(request):
            raise CallerUnknown(
                "signing in needs TLS: set console.certificate and console.private_key, or look at the page on the server itself"
            )
        return self._known(request)


def _is_private(request: web.Request) -> bool:
    return request.secure or ipaddress.ip_address(request.remote or "::").is_loopback


def names_of(settings: ConsoleSettings) -> frozenset[str]:
    """The names, beside plain addresses, under which the page may be asked for."""
    return frozenset(name.lower().rstrip(".") for name in ("localhost", socket.gethostname(), *settings.names))


def dress(application: web.Application, names: Collection[str]) -> None:
    """Put the page in front of an API that is not served yet."""
    files = read_files()

    @web.middleware
    async def show(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_own_host(host, names):
            sentence = f"{host[:100]!r} is no name of this page; ask by its address, or put the name into console.names"
            return refuse(421, Failure("other_host", sentence))
        file = files.get(request.path)
        if file is None:
            return await handler(request)
        if request.method not in ("GET", "HEAD"):
            return refuse(405, Failure("http_405", f"{request.path}: can only be read"), {"Allow": "GET, HEAD"})
        return file.answer(request)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        if request.secure:  # browsers heed it over TLS alone, and complain of it elsewhere
            response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")

    application.middlewares.insert(0, show)
    application.on_response_prepare.append(add_headers)


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Whether the header `Host` names this server: by an address, which nobody can let lead elsewhere, or by a name of it."""
    name = _without_port(host).rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def read_files(folder: Path = FOLDER) -> Mapping[str, PageFile]:
    """The page's files by the path that they are asked for by. The page says on which host it is, also where it has no other name."""
    host = html.escape(socket.gethostname()).encode()
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes().replace(b'data-host=""', b'data-host="%b"' % host)
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[f"/{path.name}"] = PageFile(content, _TYPES[path.suffix], etag)
    return found | {"/": found["/index.html"]}
