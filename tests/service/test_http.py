# SPDX-License-Identifier: Apache-2.0
"""The HTTP service on loopback: a real listener, a real library, and a client that shows each header."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.content.manifest import decode_signed
from dpd.errors import ContentNotFound, MalformedMessage, ServiceError, SessionError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service import connections, routes
from dpd.service.http import HttpService
from dpd.settings import HttpSettings, Settings
from dpd.telemetry.journal import BootJournal

IMAGE = random.Random(1).randbytes(3_000_001)
LOADER = random.Random(2).randbytes(5_000)
LARGE_BYTES = 64 << 20  # sparse; more than both socket buffers hold
MAC = "52:54:00:00:00:01"


@dataclass
class Door:
    """The other side of the seam: remembers what it was asked, refuses by name."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def join(
        self, package_id: str, source_version: int | None, request: Mapping[str, Any], client_address: str
    ) -> dict[str, Any]:
        self.asked.append((package_id, source_version, dict(request), client_address))
        if package_id == "UNKNOWN":
            raise ContentNotFound("package UNKNOWN is not in the library")
        if "member" not in request:
            raise MalformedMessage("member", "is missing, expected 16 hexadecimal digits")
        return {"session_id": "s1", "group": "239.192.0.1"}

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


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
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
        settings = HttpSettings(listen="127.0.0.1", port=0, max_connections=4)
        service = HttpService(settings, library=library, boot_files=BootFiles(boot), multicast=door, journal=journal)
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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the service's own thread."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


class TestFiles:
    async def test_content_comes_whole_with_its_hash_as_validator(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001")
        assert (status, body) == (200, IMAGE)
        assert headers["ETag"] == f'"{hashlib.sha256(IMAGE).hexdigest()}"'
        assert headers["Content-Length"] == str(len(IMAGE))
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Location"] == "/content/LAB00001/3"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Last-Modified"].endswith("GMT")
        assert headers["Server"] == "dpd"
        assert "Transfer-Encoding" not in headers

    async def test_a_version_is_asked_by_its_number(self, site: Site) -> None:
        assert (await site.ask("/content/LAB00001/3"))[2] == IMAGE
        assert (await site.ask("/content/LAB00001/4"))[0] == 404
        status, _, body = await site.ask("/content/LAB00001/new")
        assert status == 400
        assert json.loads(body)["error"] == {
            "code": "bad_request",
            "message": 'source_version = "new": expected a whole number from 1 to 2147483647',
        }

    async def test_head_tells_what_get_would(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", method="HEAD", Range="bytes=5-9")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(IMAGE)))
        _, of_get, _ = await site.ask("/content/LAB00001")
        del headers["Date"], of_get["Date"]
        assert headers.items() == of_get.items()

    async def test_a_range_is_a_part(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", Range="bytes=1000-2001000")
        assert (status, body) == (206, IMAGE[1000:2001001])
        assert headers["Content-Range"] == f"bytes 1000-2001000/{len(IMAGE)}"
        assert headers["Content-Length"] == "2000001"

    async def test_the_end_is_a_suffix(self, site: Site) -> None:
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=-7")
        assert (status, body) == (206, IMAGE[-7:])

    async def test_a_list_of_ranges_gets_the_whole(self, site: Site) -> None:
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=0-1,5-6")
        assert (status, body) == (200, IMAGE)

    async def test_behind_the_end_is_nothing(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001", Range=f"bytes={len(IMAGE)}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(IMAGE)}")
        assert json.loads(body)["error"]["code"] == "range_not_satisfiable"

    async def test_a_resume_goes_on_only_with_the_same_bytes(self, site: Site) -> None:
        etag = f'"{hashlib.sha256(IMAGE).hexdigest()}"'
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=100-", If_Range=etag)
        assert (status, body) == (206, IMAGE[100:])
        status, _, body = await site.ask("/content/LAB00001", Range="bytes=100-", If_Range='"of another image"')
        assert (status, body) == (200, IMAGE)

    async def test_firmware_resumes_by_if_match(self, site: Site) -> None:
        assert (await site.ask("/content/LAB00001", Range="bytes=1-", If_Match='"other"'))[0] == 412

    async def test_what_the_client_has_is_not_sent_and_the_connection_stays(self, site: Site) -> None:
        _, headers, _ = await site.ask("/grubx64.efi")
        again = f"GET /grubx64.efi HTTP/1.1\r\nHost: dp\r\nIf-None-Match: {headers['ETag']}\r\n\r\n".encode()
        last = b"HEAD /grubx64.efi HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n\r\n"
        heads = (await site.talk(again + last)).split(b"\r\n\r\n")
        assert heads[0].startswith(b"HTTP/1.1 304 Not Modified\r\n")
        assert b"content-length" not in heads[0].lower()
        assert heads[1].startswith(b"HTTP/1.1 200 OK\r\n")

    @pytest.mark.parametrize(
        "path",
        [
            "/boot/grubx64.efi",
            "//grubx64.efi",  # shim, loaded from the root
            "/boot//grubx64.efi",
            "//boot///GRUBX64.EFI",
            "/boot/grubx64.efi?mac=52:54:00:00:00:01",
            "/boot/grubx64%2Eefi",
        ],
    )
    async def test_boot_files_by_any_spelling(self, site: Site, path: str) -> None:
        status, headers, body = await site.ask(path)
        assert (status, body) == (200, LOADER)
        assert headers["Content-Type"] == "application/efi"

    @pytest.mark.parametrize("path", ["/Boot/BCD", "/boot/BCD", "/boot/boot/bcd", "/boot/Boot%5CBCD", "/%5CBoot%5CBCD"])
    async def test_windows_spellings(self, site: Site, path: str) -> None:
        assert (await site.ask(path))[2] == b"hive"

    @pytest.mark.parametrize(
        ("name", "media_type"), [("large.iso", "application/vnd.efi-iso"), ("empty.img", "application/vnd.efi-img")]
    )
    async def test_firmware_is_told_the_kind_of_image(self, site: Site, name: str, media_type: str) -> None:
        _, headers, _ = await site.ask(f"/boot/{name}", method="HEAD")
        assert headers["Content-Type"] == media_type

    async def test_an_empty_file_is_empty(self, site: Site) -> None:
        status, headers, body = await site.ask("/empty.img")
        assert (status, headers["Content-Length"], body) == (200, "0", b"")

    @pytest.mark.parametrize(
        "path",
        ["/boot/../secret", "/..%2fsecret", "/%2e%2e/secret", "/boot/..%5csecret", "/", "/boot/", "/boot/" + "x" * 999],
    )
    async def test_nothing_else_is_served(self, site: Site, path: str) -> None:
        status, _, body = await site.ask(path)
        assert status == 404
        assert json.loads(body)["error"]["code"] == "not_found"

    async def test_a_file_that_changed_since_it_was_indexed_is_refused(self, site: Site) -> None:
        (site.directory / "boot" / "grubx64.efi").write_bytes(b"half a copy")
        status, _, body = await site.ask("/grubx64.efi")
        assert status == 500
        assert "reload" in json.loads(body)["error"]["message"]

    async def test_a_removed_image_still_arrives_where_it_was_begun(self, site: Site) -> None:
        os.link(site.directory / "boot" / "large.iso", site.directory / "large")
        site.library.publish(site.directory / "large", "LARGE")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /content/LARGE HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        site.library.remove("LARGE")
        assert await read_all(reader) == LARGE_BYTES
        writer.close()


class TestManifestAndSessions:
    async def test_the_manifest_is_signed_and_of_this_version(self, site: Site) -> None:
        status, headers, body = await site.ask("/content/LAB00001/3/manifest")
        manifest = decode_signed(body, site.library.public_key())
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert (manifest.package_id, manifest.source_version, manifest.size_bytes) == ("LAB00001", 3, len(IMAGE))

    async def test_no_manifest_without_content(self, site: Site) -> None:
        status, _, body = await site.ask("/content/OTHER/1/manifest")
        assert (status, json.loads(body)["error"]["code"]) == (404, "content_not_found")

    async def test_join_passes_what_it_was_told(self, site: Site) -> None:
        path = "/mc/sessions/LAB00001/join"
        status, _, body = await site.ask(f"{path}?source_version=3", method="POST", body=b'{"member": "a1"}')
        assert (status, json.loads(body)) == (200, {"session_id": "s1", "group": "239.192.0.1"})
        await site.ask(path, method="POST", body=b'{"member": "a2"}')
        assert site.door.asked == [
            ("LAB00001", 3, {"member": "a1"}, "127.0.0.1"),
            ("LAB00001", None, {"member": "a2"}, "127.0.0.1"),
        ]

    async def test_complete(self, site: Site) -> None:
        status, _, body = await site.ask("/mc/sessions/s1/complete", method="POST", body=b"{}")
        assert (status, json.loads(body)) == (200, {"ok": True})

    @pytest.mark.parametrize(
        ("path", "body", "status", "code", "message"),
        [
            ("UNKNOWN/join", b"{}", 404, "content_not_found", "UNKNOWN"),
            ("P/join", b"", 400, "bad_request", "member: is missing"),
            ("P/join", b"[1]", 400, "bad_request", "Expected `object`"),
            ("P/join", b"{", 400, "bad_request", "no JSON object"),
            ("P/join", b"\xff", 400, "bad_request", "no JSON object"),
            ("P/join?source_version=-1", b"{}", 400, "bad_request", 'source_version = "-1"'),
            ("P/join", b" " * 65537, 413, "body_too_large", "65536"),
            ("s2/complete", b"{}", 409, "session_refused", "no session s2"),
        ],
    )
    async def test_refusals(self, site: Site, path: str, body: bytes, status: int, code: str, message: str) -> None:
        answered, _, text = await site.ask(f"/mc/sessions/{path}", method="POST", body=body)
        error = json.loads(text)["error"]
        assert (answered, error["code"]) == (status, code)
        assert message in error["message"]

    async def test_a_client_that_waits_for_100_continue_is_not_left_waiting(self, site: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = "POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: dp\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()

    async def test_a_body_that_does_not_come_is_not_awaited_for_ever(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routes, "BODY_S", 0.05)
        monkeypatch.setattr(connections, "LINGER_S", 0.05)
        answer = await site.talk(b"POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: dp\r\nContent-Length: 9\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")

    async def test_without_multicast_joining_is_refused(self, site: Site) -> None:
        boot_files = BootFiles(site.directory / "boot")
        service = HttpService(
            HttpSettings(listen="127.0.0.1", port=0),
            library=site.library,
            boot_files=boot_files,
            multicast=None,
            journal=site.journal,
        )
        await service.start()
        other = Site(service, site.library, site.directory, site.journal, site.door)
        status, _, body = await other.ask("/mc/sessions/LAB00001/join", method="POST", body=b"{}")
        assert (status, json.loads(body)["error"]["code"]) == (409, "session_refused")
        await service.stop()


class TestOthers:
    async def test_health(self, site: Site) -> None:
        status, _, body = await site.ask("/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/content/LAB00001", "GET, HEAD"),
            ("GET", "/mc/sessions/s1/join", "POST"),
            ("DELETE", "/", "GET, HEAD"),
        ],
    )
    async def test_other_methods(self, site: Site, method: str, path: str, allowed: str) -> None:
        status, headers, _ = await site.ask(path, method=method)
        assert (status, headers["Allow"]) == (405, allowed)

    async def test_what_is_counted(self, site: Site) -> None:
        await site.ask("/content/LAB00001", Range="bytes=0-99")
        await site.ask("/grubx64.efi")
        await site.ask("/missing")
        await site.ask("/healthz")
        await site.service.drain()
        stats = site.service.stats
        assert stats.requests == {"content": 1, "boot": 2, "other": 1}
        assert stats.responses == {"2xx": 3, "4xx": 1}
        assert (stats.sent_bytes, stats.ranges, stats.downloads) == (100 + len(LOADER), 1, 0)

    async def test_a_machines_story_tells_what_it_fetched(self, site: Site) -> None:
        await site.ask("/boot/GRUBX64.efi")
        await site.ask("/boot/revocations.efi")
        await site.ask("/content/LAB00001", method="HEAD")
        await site.service.drain()
        whole = {"kind": "boot", "offset": 0, "bytes": len(LOADER)}
        assert [(event.event, event.fields) for event in site.journal.story(MAC)] == [
            ("http", {"file": "grubx64.efi", "step": "started", **whole}),
            ("http", {"file": "grubx64.efi", "step": "finished", **whole}),
            ("http", {"file": "revocations.efi", "step": "missing"}),
        ]


MALFORMED = [
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9 x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS hello
    b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nHost: \xff\r\nRange: bytes=\xff-\r\nConnection: close\r\n\r\n",
    b"POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /mc/sessions/s1/complete HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


class TestPeersThatMisbehave:
    @pytest.mark.parametrize("request_bytes", MALFORMED)
    async def test_malformed_requests_end_without_a_traceback(
        self, site: Site, request_bytes: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "IDLE_S", 0.2)
        monkeypatch.setattr(connections, "LINGER_S", 0.1)
        with caplog.at_level(logging.DEBUG):
            answer = await site.talk(request_bytes)
            assert (await site.ask("/healthz"))[0] == 200
        assert answer == b"" or answer.startswith(b"HTTP/1.")
        assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]

    async def test_malformed_requests_are_told_why_and_counted(self, site: Site) -> None:
        head, _, body = (await site.talk(b"GET / HTTP/9.9 x\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400")
        assert json.loads(body)["error"]["code"] == "bad_request"
        assert site.service.stats.malformed == 1

    async def test_a_client_that_asks_nothing_is_closed(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "IDLE_S", 0.1)
        assert await site.talk() == b""
        assert await site.talk(b"GET /grubx64.efi HTTP/1.1\r\nHost:") == b""

    async def test_a_client_that_does_not_read_is_cut(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "STALL_S", 0.2)
        _, writer = await begin_large_download(site)
        await until(lambda: site.service.stats.broken == {"stalled": 1})
        assert site.service.stats.downloads == 0
        assert site.journal.story(MAC)[-1].fields["step"] == "broken"
        writer.close()

    async def test_a_slow_client_that_reads_is_served(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "STALL_S", 0.1)
        reader, writer = await begin_large_download(site)
        received, checks = 0, 0.0
        while received < LARGE_BYTES:
            received += len(await reader.read(1 << 20))
            if received / LARGE_BYTES > checks:  # 20 short rests, together longer than STALL_S
                checks += 0.05
                await asyncio.sleep(0.02)
        assert site.service.stats.broken == {}
        writer.close()

    async def test_a_client_that_leaves_is_counted(self, site: Site) -> None:
        _, writer = await begin_large_download(site)
        writer.transport.abort()
        await until(lambda: site.service.stats.broken == {"disconnected": 1})
        await until(lambda: site.service.stats.connections == 0)

    async def test_a_client_that_closed_its_sending_half_gets_the_whole(self, site: Site) -> None:
        reader, writer = await begin_large_download(site)
        writer.write_eof()
        assert await read_all(reader) == LARGE_BYTES
        writer.close()

    async def test_a_file_that_shrinks_ends_the_connection_and_is_logged(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader, writer = await begin_large_download(site)
        os.truncate(site.directory / "boot" / "large.iso", 1000)
        assert await read_all(reader) < LARGE_BYTES
        await until(lambda: site.service.stats.broken == {"unreadable": 1})
        writer.close()
        await until(lambda: any("file ends at" in vars(record).get("reason", "") for record in caplog.records))

    async def test_too_many_connections_are_told_to_come_back(self, site: Site) -> None:
        held = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(4)]
        await until(lambda: site.service.stats.connections == 4)
        status, headers, body = await site.ask("/healthz")
        assert (status, headers["Retry-After"], headers["Connection"]) == (503, "5", "close")
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        assert site.service.stats.refused == 1
        site.service.apply(Settings(http=HttpSettings(max_connections=5)))
        assert (await site.ask("/healthz"))[0] == 200
        for _, writer in held:
            writer.close()
        await until(lambda: site.service.stats.connections == 0)
        site.service.apply(Settings(http=HttpSettings(max_connections=1)))
        assert (await site.ask("/healthz"))[0] == 200


class TestLifecycle:
    async def test_a_port_in_use_is_explained(self, site: Site) -> None:
        second = HttpService(
            HttpSettings(listen="127.0.0.1", port=site.port),
            library=site.library,
            boot_files=BootFiles(site.directory),
            multicast=None,
            journal=site.journal,
        )
        with pytest.raises(ServiceError, match=rf"port {site.port} is in use; `ss -Htlpn 'sport = :{site.port}'`"):
            await second.start()
        await second.stop()

    async def test_drain_lets_a_download_end_and_takes_no_new_one(self, site: Site) -> None:
        reader, writer = await begin_large_download(site)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", site.port)
        await until(lambda: site.service.stats.connections == 2)
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(site.service.drain())
            assert await read_all(idle_reader) == 0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", site.port)
            assert not draining.done()
            received = await read_all(reader)
        assert received == LARGE_BYTES
        writer.close()
        idle_writer.close()

    async def test_stop_breaks_off_and_may_be_called_again(self, site: Site) -> None:
        reader, writer = await begin_large_download(site)
        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await site.service.drain()
            await site.service.stop()
            await site.service.stop()
        assert await read_all(reader) < LARGE_BYTES
        assert site.service.stats.downloads == 0
        writer.close()

    def test_a_uvloop_daemon_still_gets_a_plain_loop_for_content(self, tmp_path: Path) -> None:
        (tmp_path / "boot").mkdir()
        (tmp_path / "boot" / "x.efi").write_bytes(LOADER)
        journal = BootJournal()

        async def scenario(library: Library) -> bytes:
            settings = HttpSettings(listen="127.0.0.1", port=0)
            boot_files = BootFiles(tmp_path / "boot")
            service = HttpService(settings, library=library, boot_files=boot_files, multicast=None, journal=journal)
            await service.start()
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            assert isinstance(service._loop, asyncio.SelectorEventLoop)
            _, _, body = await Site(service, library, tmp_path, journal, Door()).ask("/x.efi")
            await service.stop()
            return body

        with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
            assert uvloop.run(scenario(library)) == LOADER

    async def test_ipv6_and_dual_stack(self, site: Site) -> None:
        service = HttpService(
            HttpSettings(listen="::", port=0),
            library=site.library,
            boot_files=BootFiles(site.directory / "boot"),
            multicast=site.door,
            journal=site.journal,
        )
        await service.start()
        other = Site(service, site.library, site.directory, site.journal, site.door)
        await other.ask("/mc/sessions/LAB00001/join", method="POST", body=b"{}")
        assert site.door.asked[-1][3] == "127.0.0.1"  # as DHCP knows it, not ::ffff:127.0.0.1
        await service.stop()
