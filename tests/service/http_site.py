# SPDX-License-Identifier: Apache-2.0
"""The HTTP service on loopback: a real listener, a real library, and a client that shows each header."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.errors import ContentNotFound, MalformedMessage, SessionError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings
from dpd.telemetry.journal import BootJournal

IMAGE = random.Random(1).randbytes(3_000_001)
LOADER = random.Random(2).randbytes(5_000)
LARGE_BYTES = 64 << 20  # sparse; more than both socket buffers hold
MAC = "52:54:00:00:00:01"


@dataclass
class Door:
    """The other side of the seam: remembers what it was asked, refuses by name."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    secure: list[bool] = field(default_factory=list)

    def join(
        self,
        package_id: str,
        source_version: int | None,
        request: Mapping[str, Any],
        client_address: str,
        *,
        is_secure: bool = False,
    ) -> dict[str, Any]:
        self.secure.append(is_secure)
        self.asked.append((package_id, source_version, dict(request), client_address))
        if package_id == "UNKNOWN":
            raise ContentNotFound("package UNKNOWN is not in the library")
        if "member" not in request:
            raise MalformedMessage("member", "is missing, expected 16 hexadecimal digits")
        return {"session_id": "s1", "group": "239.192.0.1"}

    def progress(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if session_id != "s1":
            raise SessionError(f"no session {session_id}")
        return {"heard": dict(request)}

    def complete(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if session_id != "s1":
            raise SessionError(f"no session {session_id}")
        return {"ok": True}


@dataclass
class Site:
    """A running service and what it serves."""

    service: HttpService
    library: Library
    directory: Path
    journal: BootJournal
    door: Door

    @property
    def port(self) -> int:
        return self.service.ports["http"]

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on its own connection; header names with _ for -."""
        return await asyncio.to_thread(self._ask, path, method, body, headers)

    def _ask(
        self, path: str, method: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = client.getresponse()
            return response.status, response.headers, response.read()
        finally:
            client.close()

    async def talk(self, *pieces: bytes) -> bytes:
        """Send raw bytes, return what came back until the service closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def opened_site(tmp_path: Path, *, certificate: str = "", private_key: str = "") -> AsyncIterator[Site]:
    boot = tmp_path / "boot"
    (boot / "Boot").mkdir(parents=True)
    (boot / "grubx64.efi").write_bytes(LOADER)
    (boot / "Boot" / "BCD").write_bytes(b"hive")
    (boot / "empty.img").write_bytes(b"")
    with open(boot / "large.iso", "wb") as large:
        large.truncate(LARGE_BYTES)
    (tmp_path / "secret").write_text("not for clients")
    (tmp_path / "image.bin").write_bytes(IMAGE)
    journal = BootJournal()
    journal.bind("127.0.0.1", MAC)
    door = Door()
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        library.publish(tmp_path / "image.bin", "LAB00001", 3)
        settings = HttpSettings(
            listen="127.0.0.1",
            port=0,
            tls_port=0,
            certificate=certificate,
            private_key=private_key,
            max_connections=4,
        )
        service = HttpService(
            settings, library=library, boot_tree=BootTree(BootFiles(boot), journal), multicast=door, journal=journal
        )
        await service.start()
        yield Site(service, library, tmp_path, journal, door)
        await service.stop()


async def begin_large_download(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that reads the head and then rests; its small buffer makes the service wait for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", site.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    writer.write(b"GET /boot/large.iso HTTP/1.1\r\nHost: dp\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    return reader, writer


async def read_all(reader: asyncio.StreamReader) -> int:
    """How many bytes came before the service closed or cut the connection."""
    received = 0
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            while chunk := await reader.read(1 << 20):
                received += len(chunk)
    return received
