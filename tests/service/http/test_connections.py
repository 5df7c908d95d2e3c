# SPDX-License-Identifier: Apache-2.0
"""Peers that misbehave: malformed, silent, slow, gone, too many."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.service.http_site import (
    LARGE_BYTES,
    LOADER,
    MAC,
    Site,
    begin_large_download,
    opened_site,
    read_all,
)
from tests.service.waiting import until

from dpd.service.http import connections
from dpd.settings import HttpSettings, Settings


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as site:
        yield site


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

    async def test_no_descriptor_left_ends_the_download_alone(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(_: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patch:
            patch.setattr("dpd.service.http.connections.os.dup", full)
            answer = await site.talk(b"GET /grubx64.efi HTTP/1.1\r\nHost: dp\r\n\r\n")
        assert answer.partition(b"\r\n\r\n")[2] == b""
        assert (site.service.stats.downloads, site.service.stats.broken) == (0, {"unreadable": 1})
        assert "Too many open files" in str([vars(record).get("reason") for record in caplog.records])
        assert (await site.ask("/grubx64.efi"))[2] == LOADER

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
