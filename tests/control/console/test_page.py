# SPDX-License-Identifier: Apache-2.0
"""The page's listener: its files and the API on one origin, who may do what there, and what keeps strangers' pages out."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.interop.tls_authority import TlsAuthority

from dpd.bus_settings import ConsoleSettings
from dpd.control.access.callers import Role
from dpd.control.access.roles_file import add_token
from dpd.control.api.application import make_application
from dpd.control.console.page import FOLDER, Console, is_own_host, names_of, read_files
from dpd.control.operations import message as message_operations
from dpd.control.operations.verbs import Operations
from dpd.errors import SettingsError
from dpd.settings import ControlSettings, parse_settings
from dpd.telemetry.spool import Spool

Open = Callable[..., Awaitable[aiohttp.ClientSession]]


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    """Who may sign in; nobody yet but somebody whom no test asks for."""
    path = tmp_path / "roles.toml"
    add_token(path, "nobody", Role.VIEWER)
    return path


@pytest.fixture
async def open_page(operations: Operations, roles: Path) -> AsyncIterator[Open]:
    """`await open_page(anonymous=False)`: a client of a page with these settings, on loopback."""
    opened: list[aiohttp.ClientSession | Console] = []

    async def listen(listen: str = "127.0.0.1:0", **settings: object) -> aiohttp.ClientSession:
        console = Console(
            ConsoleSettings(listen=listen, **settings),  # type: ignore[arg-type]
            ControlSettings(roles_file=str(roles)),
            partial(make_application, operations),
        )
        await console.start()
        opened.append(console)
        client = aiohttp.ClientSession(f"http://127.0.0.1:{console.ports['tcp']}")
        opened.append(client)
        return client

    yield listen
    for each in reversed(opened):
        await (each.stop() if isinstance(each, Console) else each.close())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_the_page_and_the_api_share_an_origin(open_page: Open) -> None:
    page = await open_page()
    async with page.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert '<script type="module" src="/app.js">' in await response.text()
    async with page.get("/v1/status") as response:
        assert (response.status, (await response.json())["state"]) == (200, "starting")


async def test_without_a_listener_there_is_no_page(operations: Operations) -> None:
    console = Console(ConsoleSettings(), ControlSettings(), partial(make_application, operations))
    await console.start()
    assert console.ports == {}


async def test_every_answer_keeps_strangers_out_of_the_page(open_page: Open) -> None:
    page = await open_page()
    for path in ("/", "/app.js", "/v1/status", "/v1/nothing", "/base.css"):
        async with page.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert "require-trusted-types-for 'script'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in response.headers
    async with page.get("/v1/status") as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_a_foreign_host_name_is_refused_for_page_and_api_alike(open_page: Open) -> None:
    page = await open_page(names=("dp1.example",))
    for host, status in (("attacker.example", 421), ("attacker.example:80", 421), ("", 421), ("dp1.example:8090", 200)):
        for path in ("/", "/v1/status"):
            async with page.get(path, headers={"Host": host}) as response:
                assert response.status == status, (host, path)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "10.0.0.1:8090", "[fd00::1]", "[fd00::1]:8090", "LOCALHOST:1", "dp1.example."]
)
def test_an_address_and_an_own_name_are_own_hosts(host: str) -> None:
    assert is_own_host(host, names_of(ConsoleSettings(names=("DP1.example",))))


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "10.0.0.1.evil.example", "[evil]", "::1:x"]
)
def test_other_names_are_not(host: str) -> None:
    assert not is_own_host(host, names_of(ConsoleSettings()))


async def test_without_a_token_one_may_look_and_change_nothing(open_page: Open) -> None:
    page = await open_page()
    async with page.get("/v1/caller") as response:
        assert await response.json() == {"name": "anonymous", "role": "viewer", "door": "console"}
    async with page.post("/v1/pxe/pending/52:54:00:00:00:01/deny") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.OPERATOR, 200), (Role.ADMIN, 200)])
async def test_a_token_has_its_role_at_the_page_too(open_page: Open, roles: Path, role: Role, status: int) -> None:
    token = add_token(roles, "lab", role)
    page = await open_page()
    async with page.get("/v1/caller", headers=bearer(token)) as response:
        told = await response.json()
    assert (told["role"], told["door"]) == (role, "console")
    async with page.post("/v1/pxe/pending/52:54:00:00:00:01/deny", headers=bearer(token)) as response:
        assert response.status == status


async def test_a_wrong_token_is_told_and_does_not_fall_back_to_looking(open_page: Open, roles: Path) -> None:
    add_token(roles, "lab", Role.VIEWER)
    page = await open_page()
    async with page.get("/v1/status", headers=bearer("dpd_not-the-one-at-all")) as response:
        assert response.status == 401


async def test_where_nobody_may_look_the_files_come_and_the_answers_do_not(open_page: Open, roles: Path) -> None:
    token = add_token(roles, "lab", Role.VIEWER)
    page = await open_page(anonymous=False)
    for path, status in (("/", 200), ("/app.js", 200), ("/v1/status", 401), ("/v1/nothing", 401)):
        async with page.get(path) as response:
            assert response.status == status, path
    async with page.get("/v1/status", headers=bearer(token)) as response:
        assert response.status == 200


async def test_a_token_that_came_unprotected_over_the_network_does_not_count(
    open_page: Open, roles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = add_token(roles, "lab", Role.ADMIN)
    page = await open_page()
    monkeypatch.setattr("aiohttp.web.BaseRequest.remote", "192.0.2.7")
    async with page.get("/v1/status") as response:
        assert response.status == 200
    async with page.get("/v1/status", headers=bearer(token)) as response:
        assert response.status == 401
        assert "signing in needs TLS" in (await response.json())["error"]["message"]


async def test_over_tls_a_token_counts_and_a_renewed_certificate_is_taken_at_a_reload(
    operations: Operations, roles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = TlsAuthority("Old"), TlsAuthority("New")
    certificate, key = old.issue(tmp_path, "127.0.0.1")
    settings = ConsoleSettings(listen="127.0.0.1:0", certificate=str(certificate), private_key=str(key))
    token = add_token(roles, "lab", Role.ADMIN)
    console = Console(settings, ControlSettings(roles_file=str(roles)), partial(make_application, operations))
    await console.start()
    monkeypatch.setattr("aiohttp.web.BaseRequest.remote", "192.0.2.7")
    try:
        assert await role_over_tls(console, token, old) == "admin"
        new.issue(tmp_path, "127.0.0.1")
        console.read_again()
        assert await role_over_tls(console, token, new) == "admin"
    finally:
        await console.stop()


async def role_over_tls(console: Console, token: str, authority: TlsAuthority) -> str:
    trust = ssl.create_default_context(cadata=authority.certificate.public_bytes(Encoding.PEM).decode("ascii"))
    async with (
        aiohttp.ClientSession(f"https://127.0.0.1:{console.ports['tcp']}") as page,
        page.get("/v1/caller", headers=bearer(token), ssl=trust) as response,
    ):
        return str((await response.json())["role"])


async def test_files_are_asked_for_again_and_sent_only_where_they_changed(open_page: Open) -> None:
    page = await open_page()
    async with page.get("/app.js") as response:
        etag = response.headers["ETag"]
        assert response.headers["Cache-Control"] == "no-cache"
    async with page.get("/app.js", headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with page.get("/app.js", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_the_page_can_only_be_read(open_page: Open) -> None:
    page = await open_page()
    async with page.post("/") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    async with page.head("/") as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize("path", ["/../settings.py", "/files/app.js", "/app.py", "/%2e%2e/api.py"])
async def test_nothing_beside_the_page_is_served(open_page: Open, path: str) -> None:
    page = await open_page()
    async with page.get(path) as response:
        assert response.status == 404


def test_whatever_the_files_name_is_there_and_nothing_comes_from_elsewhere() -> None:
    files = read_files()
    named: set[str] = set()
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        named |= {f"/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
        named |= set(re.findall(r'(?:src|href)="(/[^"?]+)"', text))
        foreign = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text)) - {"http://www.w3.org"}
        assert not foreign, (path.name, foreign)
    assert named <= set(files)
    assert set(files) - named == {"/", "/index.html"}  # and no file is left over


def test_the_page_says_on_which_host_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: 'dp"1')
    assert b'data-host="dp&quot;1"' in read_files()["/"].content


def test_no_script_makes_markup_of_text() -> None:
    for path in FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
        ):
            assert way not in text, f"{path.name}: {way}"


def test_each_file_says_its_licence() -> None:
    for path in FOLDER.iterdir():
        assert "SPDX-License-Identifier: Apache-2.0" in path.read_text(encoding="utf-8")[:200], path.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[console]\nlisten = "0.0.0.0:1"\nanonymous = false\n', 'console.certificate = "": expected'),
        ('[console]\nlisten = "127.0.0.1:1"\nanonymous = false\n', 'control.roles_file = "": expected'),
        ('[console]\nlisten = "8090"\n', 'console.listen = "8090": expected'),
        ('[console]\nnames = ["http://dp1"]\n', "console.names"),
        ('[console]\ncertificate = "/a.pem"\n', 'console.private_key = "": expected'),
    ],
)
def test_settings_with_which_nobody_could_look_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        parse_settings(text, "dpd.toml")


async def test_readers_without_a_name_who_follow_in_crowds_leave_room_for_operators(
    open_page: Open, operations: Operations, roles: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_operations, "MAX_FOLLOWERS", 4)
    monkeypatch.setattr(message_operations, "KEPT_FOR_OPERATORS", 1)
    operator, viewer = add_token(roles, "olga", Role.OPERATOR), add_token(roles, "vera", Role.VIEWER)
    page = await open_page()
    async with AsyncExitStack() as stack:

        async def follow(**headers: str) -> int:
            response = await stack.enter_async_context(page.get("/v1/events/stream", headers=headers))
            if response.status == 200:
                await response.content.readline()  # it has begun
            return response.status

        assert [await follow() for _ in range(5)] == [200, 200, 200, 503, 503]
        assert await follow(**bearer(viewer)) == 503
        assert [await follow(**bearer(operator)) for _ in range(2)] == [200, 503]
