# SPDX-License-Identifier: Apache-2.0
"""Who is known on TCP: by token, by certificate, now and after a reload."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.control.authority import Authority

from dpd.control.access.callers import CallerUnknown, Role
from dpd.control.access.listener import ControlListener
from dpd.control.access.network_door import NetworkDoor, read_token
from dpd.control.access.roles_file import add_token, remove_token
from dpd.control.api.application import make_application
from dpd.control.operations.verbs import Operations
from dpd.errors import SettingsError
from dpd.settings import ControlSettings, Settings
from dpd.telemetry.spool import Spool

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (None, 0, "No such file or directory; `openssl rand -hex 32` makes one"),
        (TOKEN, 0o644, "readable by everyone; `chmod o= {path}`"),
        ("short", 0o600, "expected one line of at least 16 characters without blanks; `openssl rand -hex 32` makes one"),
        (f"{TOKEN}\n{TOKEN}", 0o600, "expected one line of at least 16 characters without blanks; `openssl rand -hex 32` makes one"),
        ("é" * 16, 0o600, "expected one line of ASCII; `openssl rand -hex 32` makes one"),
    ],
)  # fmt: skip
def test_a_token_file_that_cannot_be_used_is_told(tmp_path: Path, content: str | None, mode: int, problem: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        read_token(path)
    assert str(caught.value) == f'control.token_file = "{path}": {problem.format(path=path)}'


class Place:
    """A listener with TLS, its roles and its authorities."""

    def __init__(self, folder: Path, settings: Settings, operations: Operations) -> None:
        self.servers = Authority(folder / "servers", "Servers")
        self.clients = Authority(folder / "clients", "Clients")
        self.roles = folder / "roles.toml"
        self.operator = add_token(self.roles, "bea", Role.OPERATOR)
        with self.roles.open("a") as file:
            file.write('[[certificate]]\nname = "site.example"\nrole = "admin"\n')
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        self.token_file.chmod(0o600)
        self.certificate, self.key = self.servers.issue("dp")
        self.listener = ControlListener(
            ControlSettings(
                socket=settings.control.socket,
                listen="127.0.0.1:0",
                token_file=str(self.token_file),
                roles_file=str(self.roles),
                certificate=self.certificate,
                private_key=self.key,
                client_ca_file=str(self.clients.file),
            ),
            partial(make_application, operations),
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.listener.ports['tcp']}"

    def context(self, *pair: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.servers.file))
        if pair:
            context.load_cert_chain(*pair)
        return context

    @asynccontextmanager
    async def client(self, *pair: str, token: str = "") -> AsyncIterator[aiohttp.ClientSession]:
        """With this certificate and key, or none."""
        connector = aiohttp.TCPConnector(ssl=self.context(*pair))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(self.url, connector=connector, headers=headers) as client:
            yield client

    async def asked(self, *pair: str, token: str = "") -> Any:
        """Who the door says that is: the caller, or the refusal."""
        async with self.client(*pair, token=token) as client:
            return await who(client)


async def who(client: aiohttp.ClientSession) -> Any:
    async with client.get("/v1/caller") as response:
        body = await response.json()
        return body if response.status == 200 else (response.status, body["error"]["message"])


@pytest.fixture
async def place(settings: Settings, operations: Operations, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path, settings, operations)
    await place.listener.start()
    yield place
    await place.listener.stop()


async def test_a_token_has_the_role_that_the_file_gives_it(place: Place) -> None:
    assert await place.asked(token=place.operator) == {"name": "token bea", "role": "operator", "door": "tcp"}
    assert await place.asked(token=TOKEN) == {"name": "token from 127.0.0.1", "role": "admin", "door": "tcp"}


async def test_an_operator_may_not_do_what_an_admin_may_and_is_told(place: Place) -> None:
    async with place.client(token=place.operator) as client, client.delete("/v1/computers/PC-1") as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (403, "forbidden")
    assert error["message"] == (
        "DELETE /v1/computers/PC-1: needs the role admin, and token bea is operator; ask as somebody who is admin"
    )


async def test_a_token_that_is_taken_back_opens_nothing_from_the_next_request_on(place: Place) -> None:
    async with place.client(token=place.operator) as client:
        assert (await who(client))["name"] == "token bea"
        remove_token(place.roles, "bea")
        status, message = await who(client)
        assert (status, message) == (401, "nobody is known by this token; `dpd token add NAME` makes one that is")
        again = add_token(place.roles, "bea", Role.VIEWER)
        assert (await who(client))[0] == 401
    assert await place.asked(token=again) == {"name": "token bea", "role": "viewer", "door": "tcp"}


async def test_a_stream_ends_when_its_token_is_taken_back(place: Place, spool: Spool) -> None:
    async with place.client(token=place.operator) as client, client.get("/v1/events/stream") as response:
        begin = await response.content.readline()
        assert begin.startswith(b"retry:")
        spool.put("job.done", {"job": 1, "kind": "pull"})
        async with asyncio.timeout(30):
            while b"job.done" not in await response.content.readline():
                pass
        remove_token(place.roles, "bea")
        spool.put("job.failed", {"job": 2, "kind": "pull"})
        async with asyncio.timeout(30):
            assert b"job.failed" not in await response.read()


async def test_a_roles_file_that_breaks_is_told_once_and_who_was_known_stays(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.roles.write_text("[[token]]\nname = 'x'\n")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert (await place.asked(token=place.operator))["name"] == "token bea"
    problems = [record.problem for record in caplog.records if record.message == "roles file"]  # type: ignore[attr-defined]
    assert problems == [
        f'control.roles_file = "{place.roles}": [[token]] number 1: role is missing; expected name, role, sha256; who was known stays known'
    ]


async def test_without_the_roles_file_nobody_is_known_by_it(place: Place) -> None:
    place.roles.unlink()
    assert (await place.asked(token=place.operator))[0] == 401
    assert (await place.asked(token=TOKEN))["role"] == "admin"


async def test_the_token_file_is_read_again_at_a_reload(place: Place) -> None:
    place.token_file.write_text("f" * 16)
    assert (await place.asked(token=TOKEN))["role"] == "admin"
    place.listener.read_again()
    assert (await place.asked(token=TOKEN))[0] == 401
    assert (await place.asked(token="f" * 16))["role"] == "admin"
    place.token_file.write_text("short")
    place.listener.read_again()
    assert (await place.asked(token="f" * 16))["role"] == "admin"


# ---- certificates


async def test_a_certificate_has_the_role_of_its_common_name(place: Place) -> None:
    pair = place.clients.issue("site.example", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert await place.asked(*pair) == {"name": "certificate site.example", "role": "admin", "door": "tcp"}


async def test_a_token_counts_before_a_certificate(place: Place) -> None:
    pair = place.clients.issue("site.example")
    assert (await place.asked(*pair, token=place.operator))["role"] == "operator"
    assert (await place.asked(*pair, token="wrong"))[0] == 401


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "expected the header `Authorization: Bearer TOKEN` with a token that dpd knows, or a client certificate"),
        (("other.example",), "certificate 'other.example': no [[certificate]] of this name in control.roles_file"),
        (
            ("other.example", "site.example"),
            "expected the header `Authorization: Bearer TOKEN` with a token that dpd knows, or a client certificate",
        ),
    ],
)
async def test_who_shows_nothing_that_counts_is_told(place: Place, names: tuple[str, ...], message: str) -> None:
    pair = place.clients.issue(*names) if names else ()
    assert await place.asked(*pair) == (401, message)


Pair = Callable[[Place], tuple[str, str]]


@pytest.mark.parametrize(
    "pair",
    [
        lambda place: Authority(Path(place.certificate).parent / "others", "Clients").issue("site.example"),
        lambda place: place.servers.issue("site.example"),
        lambda place: place.clients.issue("site.example", life=-timedelta(days=1)),
        lambda place: place.clients.issue("site.example", usage=ExtendedKeyUsageOID.SERVER_AUTH),
    ],
    ids=["an authority of the same name", "the servers' authority", "expired", "not for clients"],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_does_not_hold_ends_the_handshake(
    place: Place, pair: Pair, version: ssl.TLSVersion
) -> None:
    context = place.context(*pair(place))
    context.maximum_version = version
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(place.url, connector=connector) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get("/v1/caller")


async def test_a_certificate_that_expires_while_its_connection_is_open_counts_no_more(place: Place) -> None:
    pair = place.clients.issue("site.example", life=timedelta(seconds=3))
    async with place.client(*pair) as client:
        assert (await who(client))["role"] == "admin"
        async with asyncio.timeout(30):
            while not isinstance(answer := await who(client), tuple):
                await asyncio.sleep(0.2)
    assert answer == (401, "certificate: has expired; expected one that is valid")


async def test_another_authority_counts_from_the_reload_on_and_the_old_one_no_more(place: Place) -> None:
    old = place.clients.issue("site.example")
    newer = Authority(place.clients.file.parent / "newer", "Clients")
    new = newer.issue("site.example")
    shutil.copy(newer.file, place.clients.file)
    assert (await place.asked(*old))["role"] == "admin"
    async with place.client(*old) as open_client:
        assert (await who(open_client))["role"] == "admin"
        place.listener.read_again()
        assert (await who(open_client))["role"] == "admin"  # on the connection that it has
    assert (await place.asked(*new))["role"] == "admin"
    with pytest.raises(aiohttp.ClientError):
        await place.asked(*old)


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (ssl.TLSVersion.TLSv1_2, b"HTTP/1.1 401 Unauthorized"),  # OpenSSL remembers sessions, whatever it is told
        (ssl.TLSVersion.TLSv1_3, b"HTTP/1.1 200 OK"),  # after a whole handshake, since there is no ticket
    ],
)
async def test_a_connection_that_resumes_another_brings_no_certificate_of_old(
    place: Place, version: ssl.TLSVersion, answer: bytes
) -> None:
    context = place.context(*place.clients.issue("site.example"))
    context.maximum_version = version
    first, session, _ = await asyncio.to_thread(ask_once, place, context, None)
    assert first == b"HTTP/1.1 200 OK"
    again, _, resumed = await asyncio.to_thread(ask_once, place, context, session)
    assert (again, resumed) == (answer, answer.endswith(b"Unauthorized"))


def ask_once(
    place: Place, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
    """The first line of the answer, the session, and whether it was resumed."""
    with (
        socket.create_connection(("127.0.0.1", place.listener.ports["tcp"]), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
    ):
        tls.sendall(b"GET /v1/caller HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        reply = b"".join(iter(lambda: tls.recv(65536), b""))
        return reply.split(b"\r\n")[0], tls.session, tls.session_reused


# ---- the server's own certificate


def shown_by(place: Place) -> str:
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{place.listener.ports['tcp']}",
        "-CAfile",
        str(place.servers.file),
    ]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30)
    return next(line for line in done.stdout.decode().splitlines() if line.startswith("subject="))


async def test_a_renewed_certificate_is_shown_from_the_reload_on_and_open_connections_go_on(place: Place) -> None:
    async with place.client(token=TOKEN) as client:
        assert (await who(client))["role"] == "admin"
        for new, old in zip(place.servers.issue("renewed"), (place.certificate, place.key), strict=True):
            Path(new).rename(old)
        assert (await asyncio.to_thread(shown_by, place)).endswith("CN = dp")
        place.listener.read_again()
        assert (await asyncio.to_thread(shown_by, place)).endswith("CN = renewed")
        assert len(client.connector._conns) == 1  # type: ignore[union-attr]
        assert (await who(client))["role"] == "admin"


async def test_half_of_a_renewal_changes_nothing(place: Place) -> None:
    Path(place.servers.issue("renewed")[0]).rename(place.certificate)
    place.listener.read_again()
    assert (await asyncio.to_thread(shown_by, place)).endswith("CN = dp")


@pytest.mark.parametrize(
    ("offer", "agreed"), [("-tls1_1", False), ("-tls1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
async def test_tls_before_1_2_is_refused(place: Place, offer: str, agreed: bool) -> None:
    endpoint = f"localhost:{place.listener.ports['tcp']}"
    command = ["openssl", "s_client", offer, "-cipher", "ALL:@SECLEVEL=0", "-connect", endpoint]
    done = await asyncio.to_thread(subprocess.run, command, input=b"", capture_output=True, timeout=30)
    told = (done.stdout + done.stderr).decode()
    assert (done.returncode == 0) == agreed, told
    assert agreed or "no peer certificate available" in told


async def test_a_door_without_roles_asks_for_a_token(tmp_path: Path) -> None:
    with pytest.raises(CallerUnknown, match="expected the header `Authorization: Bearer TOKEN`"):
        NetworkDoor(ControlSettings())(make_mocked_request("GET", "/"))
