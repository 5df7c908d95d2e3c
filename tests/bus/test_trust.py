# SPDX-License-Identifier: Apache-2.0
"""How the bus is known, and dpd to it: TLS with client certificates, by a real nats-server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.bus.conftest import linked
from tests.bus.site_side import until
from tests.interop.tls_authority import TlsAuthority
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.connection import BusConnection
from dpd.bus.trust import client_tls, demands_tls, read_secrets
from dpd.bus_settings import BusSettings
from dpd.errors import SettingsError

TLS = 'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{ca}", verify: true }}'


class Files:
    """An authority, its server, and a client that it knows."""

    def __init__(self, folder: Path) -> None:
        authority = TlsAuthority()
        folder.mkdir(exist_ok=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        for name in ("server", "client"):
            (folder / name).mkdir(parents=True)
        self.server, self.server_key = authority.issue(folder / "server", "127.0.0.1")
        self.client, self.client_key = authority.issue(folder / "client", "127.0.0.1")

    @property
    def tls(self) -> str:
        return TLS.format(cert=self.server, key=self.server_key, ca=self.ca)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Of another authority."""
    return Files(tmp_path_factory.mktemp("others"))


class TestAgainstAServer:
    pytestmark = needs_nats

    async def test_a_client_certificate_lets_dpd_in(self, files: Files, tmp_path: Path) -> None:
        with NatsServer(tmp_path, extra=files.tls) as hub:
            known = {"ca_file": str(files.ca), "certificate": str(files.client), "private_key": str(files.client_key)}
            async with linked(f"tls://127.0.0.1:{hub.port}", **known) as link:
                await link.client.flush()

    @pytest.mark.parametrize(
        ("authority", "certificate", "words"),
        [("files", "", "bus.certificate"), ("files", "others", "bus.certificate"), ("others", "files", "bus.ca_file")],
    )
    async def test_who_is_not_known_is_told_so(
        self, files: Files, others: Files, tmp_path: Path, authority: str, certificate: str, words: str
    ) -> None:
        both = {"files": files, "others": others}
        shown = both.get(certificate)
        keys = {} if shown is None else {"certificate": str(shown.client), "private_key": str(shown.client_key)}
        with NatsServer(tmp_path, extra=files.tls) as hub:
            url = f"tls://127.0.0.1:{hub.port}"
            settings = BusSettings(url=url, ca_file=str(both[authority].ca), **keys)  # type: ignore[arg-type]
            connection = BusConnection(settings, name="test")
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(connection.run([]))
                await until(lambda: words in connection.trouble, f"{words} in {connection.trouble!r}")
                running.cancel()


def test_tls_is_wanted_where_anything_says_so() -> None:
    assert not demands_tls(BusSettings(url="nats://h:1"))
    assert client_tls(BusSettings(url="nats://h:1")) is None
    assert demands_tls(BusSettings(url="tls://h:1"))
    assert demands_tls(BusSettings(url="nats://h:1", ca_file="/ca"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ca_file": "{folder}/none.pem"}, 'bus.ca_file = "'),
        ({"certificate": "{folder}/none.pem", "private_key": "/k"}, 'bus.certificate = ".*no such file'),
        ({"certificate": "{here}", "private_key": "{here}"}, "expected a PEM chain"),
        ({"token_file": "{folder}/none"}, 'bus.token_file = ".*No such file'),
        ({"token_file": "{here}"}, "expected one line"),
        ({"token_file": "{open}"}, "readable by everyone"),
        ({"credentials_file": "{folder}/none"}, 'bus.credentials_file = "'),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    here, opened = tmp_path / "here", tmp_path / "open"
    here.write_text("two\nlines\n")
    here.chmod(0o600)
    opened.write_text("a-token")
    opened.chmod(0o644)
    given = {key: value.format(folder=tmp_path, here=here, open=opened) for key, value in settings.items()}
    bus = BusSettings(url="nats://h:1", **given)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=message):
        _ = client_tls(bus), read_secrets(bus)
