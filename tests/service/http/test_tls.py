# SPDX-License-Identifier: Apache-2.0
"""The same routes over TLS: what curl and openssl get, what is refused, and who hears that a request was secret."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest
import pytest_asyncio
from tests.service.certificates import write_certificate
from tests.service.http_site import IMAGE, LARGE_BYTES, Site, opened_site
from tests.service.waiting import until

from dpd.content.boot_files import BootFiles
from dpd.errors import ServiceError, SettingsError
from dpd.service.boot_tree import BootTree
from dpd.service.http import connections
from dpd.service.http.server import HttpService
from dpd.settings import Settings

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    pem, key = write_certificate(tmp_path)
    async with opened_site(tmp_path, certificate=str(pem), private_key=str(key)) as site:
        yield site


def url(site: Site, path: str) -> str:
    return f"https://localhost:{site.service.ports['https']}{path}"


async def run(*command: str, given: bytes = b"") -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, errors = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out, errors.decode(errors="replace")


async def curl(site: Site, *arguments: str) -> tuple[int, bytes, str]:
    pem = str(site.directory / "dp.pem")
    return await run("curl", "-sS", "--noproxy", "*", "--cacert", pem, *arguments)


@needs_curl
@pytest.mark.interop
class TestCurl:
    @pytest.mark.parametrize("version", ["--tls-max=1.2", "--tlsv1.3"])
    async def test_gets_a_whole_file(self, site: Site, version: str) -> None:
        options = ["--tls-max", "1.2"] if "1.2" in version else ["--tlsv1.3"]
        code, body, errors = await curl(site, *options, url(site, "/content/LAB00001"))
        assert (code, body == IMAGE) == (0, True), errors

    async def test_gets_a_range_and_takes_up_a_broken_download(self, site: Site) -> None:
        code, body, _ = await curl(site, "-r", "1000-70000", url(site, "/content/LAB00001"))
        assert (code, body) == (0, IMAGE[1000:70001])
        part = site.directory / "part"
        part.write_bytes(IMAGE[:123_456])
        code, _, errors = await curl(site, "-C", "-", "-o", str(part), url(site, "/content/LAB00001"))
        assert (code, part.read_bytes() == IMAGE) == (0, True), errors

    async def test_downloads_more_than_any_buffer_on_one_connection_after_another(self, site: Site) -> None:
        out = site.directory / "large"
        arguments = [url(site, "/boot/large.iso"), "-o", str(out), url(site, "/healthz"), "-o", "-"]
        code, health, errors = await curl(site, "-w", "%{num_connects}", *arguments)
        assert code == 0, errors
        assert out.stat().st_size == LARGE_BYTES
        assert b'{"status": "ok"}' in health
        assert site.service.stats.sent_bytes == LARGE_BYTES
        await until(lambda: site.service.stats.downloads == 0)

    async def test_the_door_hears_who_joined_in_secret(self, site: Site) -> None:
        join = ["-d", '{"member":"00"}', "-H", "X-Forwarded-Proto: https"]
        path = "/mc/sessions/LAB00001/join"
        assert (await curl(site, *join, url(site, path)))[0] == 0
        assert (await curl(site, *join, f"http://127.0.0.1:{site.port}{path}"))[0] == 0
        assert site.door.secure == [True, False]

    async def test_refuses_a_certificate_it_does_not_know(self, site: Site) -> None:
        code, _, errors = await run("curl", "-sS", "--noproxy", "*", url(site, "/healthz"))
        assert code == 60, errors
        assert (await curl(site, url(site, "/healthz")))[0] == 0


@needs_openssl
@pytest.mark.interop
class TestOpenSsl:
    async def client(self, site: Site, *arguments: str) -> tuple[int, str]:
        place = f"127.0.0.1:{site.service.ports['https']}"
        request = b"GET /healthz HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n\r\n"
        command = ["openssl", "s_client", "-connect", place, "-ign_eof", *arguments]
        code, out, errors = await run(*command, given=request)
        return code, out.decode(errors="replace") + errors

    @pytest.mark.parametrize("version", ["1_2", "1_3"])
    async def test_speaks_current_versions(self, site: Site, version: str) -> None:
        code, said = await self.client(site, f"-tls{version}")
        assert code == 0, said
        assert '{"status": "ok"}' in said
        assert f"TLSv{version.replace('_', '.')}" in said

    async def test_is_refused_below_1_2(self, site: Site) -> None:
        """The same client gets in as soon as it may speak 1.2, so it is the service that refuses 1.1."""
        any_cipher = ["-cipher", "ALL:@SECLEVEL=0"]
        code, said = await self.client(site, "-tls1_1", *any_cipher)
        assert code != 0
        assert "CONNECTED" in said
        assert "unexpected eof" in said or "alert protocol version" in said
        assert (await self.client(site, "-tls1_2", *any_cipher))[0] == 0

    async def test_may_not_renegotiate(self, site: Site) -> None:
        place = f"127.0.0.1:{site.service.ports['https']}"
        _, out, errors = await run("openssl", "s_client", "-connect", place, "-tls1_2", given=b"R\n")
        assert "no renegotiation" in errors + out.decode(errors="replace")


class TestCertificate:
    async def shown(self, site: Site) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", site.service.ports["https"], ssl=context)
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return ssl.DER_cert_to_PEM_cert(shown)

    async def test_a_renewed_one_is_shown_after_a_reload_and_open_connections_stay(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.directory / "dp.pem"))
        reader, writer = await asyncio.open_connection("localhost", site.service.ports["https"], ssl=context)
        before = await self.shown(site)
        for path in write_certificate(site.directory, "new"):
            path.rename(path.with_stem("dp"))
        site.service.apply(Settings(http=site.service._settings))
        assert await self.shown(site) == (site.directory / "dp.pem").read_text() != before
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()

    async def test_one_that_cannot_be_used_is_told_and_the_old_one_stays(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = await self.shown(site)
        (site.directory / "dp.key").write_text("no key")
        site.service.apply(Settings(http=site.service._settings))
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.message == "certificate kept as it was"
        assert "fits http.private_key" in record.__dict__["error"]
        assert await self.shown(site) == before

    async def test_the_start_fails_where_it_cannot_be_used_or_its_port_is_taken(self, site: Site) -> None:
        def service(**changes: Any) -> HttpService:
            settings = replace(site.service._settings, **changes)
            boot_tree = BootTree(BootFiles(site.directory / "boot"), site.journal)
            return HttpService(
                settings, library=site.library, boot_tree=boot_tree, multicast=None, journal=site.journal
            )

        with pytest.raises(SettingsError, match=r'http\.certificate = "/none": no such file'):
            await service(certificate="/none").start()
        taken = site.service.ports["https"]
        with pytest.raises(ServiceError, match=f"port {taken} is in use"):
            await service(tls_port=taken).start()


class TestPeersThatMisbehave:
    async def test_bytes_that_are_no_tls_end_without_a_word_in_the_log(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        for said in (b"GET / HTTP/1.1\r\nHost: dp\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(3000), b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.service.ports["https"])
            writer.write(said)
            writer.write_eof()
            async with asyncio.timeout(10):
                with suppress(ConnectionResetError):
                    await reader.read()
            writer.close()
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert (await site.ask("/healthz"))[0] == 200

    async def begin_download(self, site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=str(site.directory / "dp.pem"))
        reader, writer = await asyncio.open_connection(
            "localhost", site.service.ports["https"], ssl=context, limit=65536
        )
        writer.write(b"GET /boot/large.iso HTTP/1.1\r\nHost: dp\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        return reader, writer

    async def test_a_client_that_does_not_read_is_cut(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "STALL_S", 0.2)
        _, writer = await self.begin_download(site)
        await until(lambda: site.service.stats.broken.get("stalled") == 1)
        assert site.service.stats.downloads == 0
        assert site.service.stats.sent_bytes < LARGE_BYTES
        writer.transport.abort()

    async def test_a_client_that_goes_away_ends_its_download(self, site: Site) -> None:
        _, writer = await self.begin_download(site)
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: site.service.stats.broken.get("disconnected") == 1)
        assert site.service.stats.downloads == 0
        await until(lambda: site.service.stats.connections == 0)

    async def test_a_file_that_became_shorter_cuts_the_connection(self, site: Site) -> None:
        reader, writer = await self.begin_download(site)
        with open(site.directory / "boot" / "large.iso", "r+b") as large:
            large.truncate(LARGE_BYTES // 2)
        received = 0
        with suppress(ConnectionResetError, ssl.SSLError):
            while chunk := await reader.read(1 << 20):
                received += len(chunk)
        assert received < LARGE_BYTES
        await until(lambda: site.service.stats.broken.get("unreadable") == 1)
        writer.transport.abort()

    async def test_drain_waits_for_a_download_over_tls(self, site: Site) -> None:
        reader, writer = await self.begin_download(site)
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(site.service.drain())
            await until(lambda: not any(server.is_serving() for server in site.service._servers))
            assert not draining.done()
            received = 0
            while chunk := await reader.read(1 << 20):
                received += len(chunk)
        assert received == LARGE_BYTES
        writer.close()
