# SPDX-License-Identifier: Apache-2.0
"""The API's doors: who may use the socket, what a stale one means, token and TLS on TCP."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from dpd.control.access import listener as listener_module
from dpd.control.access.listener import ControlListener, bind_tcp
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.errors import DpdError, ServiceError, SettingsError
from dpd.settings import MAX_SOCKET_PATH_BYTES, ControlSettings, Settings

TOKEN = "0123456789abcdef"


@asynccontextmanager
async def listening(settings: ControlSettings, operations: Operations) -> AsyncIterator[ControlListener]:
    listener = ControlListener(settings, partial(make_application, operations))
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


async def test_the_socket_is_for_owner_and_group_alone_and_goes_at_the_end(
    settings: Settings, operations: Operations, tmp_path: Path
) -> None:
    path = Path(settings.control.socket)
    async with listening(settings.control, operations):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert [p.name for p in tmp_path.glob("*.sock")] == ["control.sock"]
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to a group")
async def test_the_socket_belongs_to_the_group_of_the_settings(settings: Settings, operations: Operations) -> None:
    group = grp.getgrgid(1)
    async with listening(replace(settings.control, socket_group=group.gr_name), operations):
        assert os.stat(settings.control.socket).st_gid == group.gr_gid


async def test_a_dead_socket_is_replaced(settings: Settings, operations: Operations) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(settings.control.socket)
    async with listening(settings.control, operations):
        connector = aiohttp.UnixConnector(settings.control.socket)
        async with (
            aiohttp.ClientSession("http://dpd", connector=connector) as client,
            client.get("/v1/status") as reply,
        ):
            assert reply.status == 200


async def test_a_live_socket_is_left_alone(settings: Settings, operations: Operations) -> None:
    async with listening(settings.control, operations):
        with pytest.raises(ServiceError) as caught:
            await ControlListener(settings.control, partial(make_application, operations)).start()
        assert Path(settings.control.socket).exists()
    assert str(caught.value) == (
        f"control API ({settings.control.socket}): another dpd answers there; stop it, or set control.socket elsewhere"
    )


async def test_a_socket_of_a_newer_daemon_is_not_removed(settings: Settings, operations: Operations) -> None:
    path = Path(settings.control.socket)
    async with listening(settings.control, operations):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as newer:
            newer.bind(str(path))
    assert path.exists()


async def test_a_path_of_the_full_length_works(settings: Settings, operations: Operations, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * (MAX_SOCKET_PATH_BYTES - len(f"{tmp_path}//s")))
    path = directory / "s"
    assert len(str(path)) == MAX_SOCKET_PATH_BYTES
    async with listening(replace(settings.control, socket=str(path)), operations):
        assert path.is_socket()


async def test_what_stands_in_the_way_is_told(settings: Settings, operations: Operations, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    cases = {
        "file": f"control API ({tmp_path}/file): exists and is no socket; move it away, or set control.socket elsewhere",
        "no/such/dir": f"control API ({tmp_path}/no/such/dir): No such file or directory; create {tmp_path}/no/such for the user of dpd, or set control.socket elsewhere",
    }
    for name, message in cases.items():
        with pytest.raises(ServiceError) as caught:
            await ControlListener(
                replace(settings.control, socket=str(tmp_path / name)), partial(make_application, operations)
            ).start()
        assert str(caught.value) == message
    assert (tmp_path / "file").read_text() == "precious"


async def test_an_unknown_group_is_told_and_nothing_is_left(
    settings: Settings, operations: Operations, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        await ControlListener(
            replace(settings.control, socket_group="nobodys"), partial(make_application, operations)
        ).start()
    assert str(caught.value) == 'control.socket_group = "nobodys": no such group; `groupadd --system nobodys` makes it'
    assert list(tmp_path.glob("*.sock")) == []


async def test_no_more_connections_than_may_be_and_none_that_says_nothing_for_long(
    settings: Settings, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(listener_module, "SILENT_S", 5.0)
    async with listening(settings.control, operations), asyncio.timeout(60):
        silent = [await asyncio.open_unix_connection(settings.control.socket) for _ in range(3)]
        silent[0][1].write(b"GET /v1/caller HTTP/1.1\r\nHost: ")
        reader, writer = await asyncio.open_unix_connection(settings.control.socket)
        assert await _read_all(reader) == b""
        writer.close()
        assert [await _read_all(reader) for reader, _ in silent] == [b"", b"", b""]
        for _, each in silent:
            each.close()
        connector = aiohttp.UnixConnector(settings.control.socket)
        async with (
            aiohttp.ClientSession("http://dpd", connector=connector) as client,
            client.get("/v1/caller") as response,
        ):
            assert response.status == 200


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_a_port_in_use_is_told_with_the_command_that_names_its_owner() -> None:
    with bind_tcp("127.0.0.1:0", "metrics") as first:
        port = first.getsockname()[1]
        with pytest.raises(ServiceError) as caught:
            bind_tcp(f"127.0.0.1:{port}", "metrics")
    assert str(caught.value).startswith(f"metrics (127.0.0.1 TCP {port}): port {port} is in use; `ss -Htlpn")


# ---- TLS


@pytest.fixture
def tls_settings(settings: Settings, tmp_path: Path) -> ControlSettings:
    """TCP on loopback with a token and a certificate made for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dp")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "dp.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "dp.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "secret.key").write_bytes(secret)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    return replace(
        settings.control,
        listen="127.0.0.1:0",
        token_file=str(tmp_path / "token"),
        certificate=str(tmp_path / "dp.pem"),
        private_key=str(tmp_path / "dp.key"),
    )


def trusting(settings: ControlSettings, maximum: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.certificate)
    context.maximum_version = maximum
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tcp_serves_over_tls_who_has_the_token(
    tls_settings: ControlSettings, operations: Operations, version: ssl.TLSVersion
) -> None:
    async with listening(tls_settings, operations) as listener:
        connector = aiohttp.TCPConnector(ssl=trusting(tls_settings, version))
        base = f"https://localhost:{listener.ports['tcp']}"
        async with aiohttp.ClientSession(base, connector=connector) as client:
            async with client.get("/v1/status") as response:
                assert response.status == 401
            async with client.get("/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
                assert response.status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_older_tls_is_refused(tls_settings: ControlSettings, operations: Operations) -> None:
    """The same client gets in as soon as it may speak 1.2, so it is the server that refuses 1.1."""
    async with listening(tls_settings, operations) as listener:
        context = trusting(tls_settings, ssl.TLSVersion.TLSv1_2)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        _, writer = await asyncio.open_connection("localhost", listener.ports["tcp"], ssl=context)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.close()
        await writer.wait_closed()
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ConnectionResetError):
            await asyncio.open_connection("localhost", listener.ports["tcp"], ssl=context)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("certificate", "none.pem", 'control.certificate = "{path}": no such file, or not readable by dpd'),
        ("private_key", "none.key", 'control.private_key = "{path}": no such file, or not readable by dpd'),
        ("certificate", "token", "expected a PEM chain that fits control.private_key, without a passphrase"),
        ("private_key", "secret.key", "without a passphrase: the private key has a passphrase"),
    ],
)
async def test_files_that_are_no_pair_are_told_and_no_door_stays_open(
    tls_settings: ControlSettings, operations: Operations, tmp_path: Path, key: str, value: str, message: str
) -> None:
    path = tmp_path / value
    with pytest.raises(DpdError) as caught:
        await ControlListener(replace(tls_settings, **{key: str(path)}), partial(make_application, operations)).start()
    assert message.format(path=path) in str(caught.value)
    assert not Path(tls_settings.socket).exists()
