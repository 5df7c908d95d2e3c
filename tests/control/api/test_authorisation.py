# SPDX-License-Identifier: Apache-2.0
"""Who may do what, written down once more, and asked by every door: each role, each operation, over real connections.

Whoever adds an operation adds its line here, and thinks about it. `JSON` is the same operation with a JSON body where bytes
may be sent instead.
"""

from __future__ import annotations

import asyncio
import getpass
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.control.authority import Authority

from dpd.bus.messages import Ask, BusCaller
from dpd.control.access.callers import Role
from dpd.control.access.listener import ControlListener
from dpd.control.access.roles_file import add_token
from dpd.control.api.application import make_application
from dpd.control.api.openapi import JSON
from dpd.control.api.table import ROUTES
from dpd.control.bus.door import BusDoor
from dpd.control.console.page import Console
from dpd.control.operations.verbs import Operations
from dpd.settings import ConsoleSettings, ControlSettings, Settings
from dpd.site_server.api import ROUTES as SITE_ROUTES

TABLE = {
    Role.VIEWER: """
        GET /v1/status
        GET /v1/caller
        GET /v1/bus
        GET /v1/content
        GET /v1/content/{package_id}
        GET /v1/content/{package_id}/files
        GET /v1/library
        GET /v1/sessions
        GET /v1/sessions/{session_id}
        GET /v1/sessions/{session_id}/members
        GET /v1/multicast
        GET /v1/events
        GET /v1/messages
        GET /v1/events/stream
        GET /v1/state
        GET /v1/pxe/machines
        GET /v1/pxe/machines/{mac}
        GET /v1/pxe/boots
        GET /v1/pxe/machines/{machine}/why
        GET /v1/boot-images
        GET /v1/boot-images/{image_id}
        GET /v1/content/{package_id}/images
        GET /v1/jobs
        GET /v1/jobs/ended
        GET /v1/jobs/{job}
        GET /v1/packages
        GET /v1/packages/{package_id}
        GET /v1/maintenance
        GET /v1/roots
        GET /v1/sources
        GET /v1/sources/{source}
        GET /v1/bundles/holdings
        GET /v1/validation
        GET /v1/validation/damage
        GET /v1/executions
        GET /v1/executions/stream
        GET /v1/executions/{execution}
        GET /v1/executions/{execution}/reports
        GET /v1/captures
        GET /v1/computers
        GET /v1/computers/{computer}
        GET /v1/deployments
        GET /v1/deployments/{deployment}
        GET /v1/pxe/pending
        GET /v1/pxe/rules
        GET /v1/pxe/maintenance
        GET /v1/audit
        GET /v1/variables
        GET /v1/computers/{computer}/variables
        GET /v1/collections
        GET /v1/collections/{collection}
        GET /v1/collections/{collection}/members
        GET /v1/policy
        GET /v1/boundaries
        GET /v1/boundaries/lookup
        GET /v1/points
        GET /v1/points/{point}
        GET /v1/site/export
        GET /v1/sequences
        GET /v1/sequences/{sequence}
        GET /openapi.json
    """,
    Role.OPERATOR: """
        POST /v1/content
        PATCH /v1/content/{package_id}/tags
        DELETE /v1/content/{package_id}
        POST /v1/content/{package_id}/verify
        POST /v1/library/gc
        POST /v1/sessions
        DELETE /v1/sessions/{session_id}
        PATCH /v1/sessions/{session_id}
        POST /v1/sessions/{session_id}/start
        POST /v1/sessions/{session_id}/members/{member}/move
        POST /v1/sessions/{session_id}/members/{member}/kick
        PATCH /v1/multicast
        POST /v1/boot-images
        DELETE /v1/boot-images/{image_id}
        POST /v1/boot-images/{image_id}/refresh
        POST /v1/content/{package_id}/images/verify
        POST /v1/content/{package_id}/images/{index}/export
        POST /v1/jobs
        POST /v1/jobs/{job}/cancel
        POST /v1/jobs/{job}/retry
        GET /v1/executions/{execution}/log
        POST /v1/executions/{execution}/cancel
        POST /v1/bundles/export
        POST /v1/bundles/import
        POST /v1/deployments/{deployment}/clear
        POST /v1/pxe/pending/{machine}/approve
        POST /v1/pxe/pending/{machine}/deny
        DELETE /v1/pxe/verdicts/{machine}
        POST /v1/site/plan
        POST /v1/sequences/check
        GET /v1/sequences/{sequence}/text
    """,
    Role.ADMIN: """
        POST /v1/sequences
        DELETE /v1/sequences/{sequence}
        POST /v1/content JSON
        POST /v1/boot-images JSON
        POST /v1/roots/{root}/drain
        PATCH /v1/maintenance
        POST /v1/roots
        PATCH /v1/roots/{root}
        DELETE /v1/roots/{root}
        DELETE /v1/sources/{source}/key
        POST /v1/bundles/export-jobs
        POST /v1/bundles/import-jobs
        POST /v1/computers
        POST /v1/computers/import
        DELETE /v1/computers/{computer}
        POST /v1/deployments
        DELETE /v1/deployments/{deployment}
        POST /v1/pxe/rules
        DELETE /v1/pxe/rules/{rule}
        PATCH /v1/pxe/maintenance
        POST /v1/variables
        DELETE /v1/variables/{target}/{variable}
        POST /v1/collections
        PATCH /v1/collections/{collection}
        DELETE /v1/collections/{collection}
        POST /v1/collections/{collection}/members
        DELETE /v1/collections/{collection}/members/{computer}
        DELETE /v1/policy/authority
        POST /v1/boundaries
        PATCH /v1/boundaries
        DELETE /v1/boundaries
        POST /v1/points
        PATCH /v1/points/{point}
        DELETE /v1/points/{point}
        POST /v1/site/apply
    """,
}
EXPECTED = {line.strip(): role for role, lines in TABLE.items() for line in lines.strip().splitlines()}
BYTES = "application/octet-stream"
EXAMPLES = {
    "group": "none",
    "index": "1",
    "job": "999999",
    "execution": "0123456789abcdef",
    "deployment": "999999",
    "rule": "999999",
    "root": "999",
    "session_id": "0123",
    "mac": "525400123456",
    "machine": "52:54:00:12:34:56",
}
AT_ONCE = 16

Answer = tuple[int, Any]
Ask_ = Callable[[str, str, str], Awaitable[Answer]]  # method, target, content type


def test_each_operation_is_in_the_table_with_its_role() -> None:
    found = {f"{route.method} {route.path}": route.needed_role("") for route in ROUTES}
    found |= {f"{route.method} {route.path} JSON": route.json_role for route in ROUTES if route.json_role is not None}
    assert found == EXPECTED


class Place:
    """Every door of one daemon, and callers in each role for each of them."""

    def __init__(self, folder: Path, settings: Settings, operations: Operations) -> None:
        self.authority = Authority(folder / "authority")
        roles = folder / "roles.toml"
        self.tokens = {role: add_token(roles, f"a {role}", role) for role in Role}
        self.certificates = {role: self.authority.issue(f"{role}.example") for role in Role}
        with roles.open("a") as file:
            file.writelines(f'[[certificate]]\nname = "{role}.example"\nrole = "{role}"\n' for role in Role)
        certificate, key = self.authority.issue("dp")
        self.control = ControlSettings(
            socket=settings.control.socket,
            listen="127.0.0.1:0",
            roles_file=str(roles),
            certificate=certificate,
            private_key=key,
            client_ca_file=str(self.authority.file),
        )
        make = partial(make_application, operations)
        self.listener = ControlListener(self.control, make)
        self.console = Console(ConsoleSettings(listen="127.0.0.1:0"), self.control, make)
        self.bus = BusDoor(folder, "lab")
        self._make = make
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Place:
        stack = self._stack
        stack.push_async_callback(self.listener.stop)
        await self.listener.start()
        stack.push_async_callback(self.console.stop)
        await self.console.start()
        await self.bus.open(stack, self._make)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def asking(self, door: str, role: Role | None) -> Ask_:
        """A caller of this role by this door; None is whoever comes without a word."""
        if door == "bus":
            return partial(self._over_bus, role)
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role and door in ("token", "console") else {}
        connector: aiohttp.BaseConnector
        if door == "unix":
            connector, base = aiohttp.UnixConnector(self.control.socket), "http://dpd"
        elif door == "console":
            connector, base = aiohttp.TCPConnector(), f"http://127.0.0.1:{self.console.ports['tcp']}"
        else:
            trusting = ssl.create_default_context(cafile=str(self.authority.file))
            if role and door == "certificate":
                trusting.load_cert_chain(*self.certificates[role])
            connector, base = aiohttp.TCPConnector(ssl=trusting), f"https://localhost:{self.listener.ports['tcp']}"
        session = aiohttp.ClientSession(base, connector=connector, headers=headers)
        await self._stack.enter_async_context(session)
        return partial(_over_http, session)

    async def _over_bus(self, role: Role | None, method: str, target: str, content_type: str) -> Answer:
        caller = BusCaller("bea", "" if role is None else str(role))
        ask = Ask("1", method, target, "" if method == "GET" else "?", content_type, caller)
        async with await self.bus.request(ask) as response:
            return response.status, response.headers.get("Content-Type")


async def _over_http(session: aiohttp.ClientSession, method: str, target: str, content_type: str) -> Answer:
    data = None if method == "GET" else b"?"
    async with session.request(method, target, data=data, headers={"Content-Type": content_type}) as response:
        return response.status, response.headers.get("Content-Type")


@pytest.fixture
async def place(settings: Settings, operations: Operations, tmp_path: Path) -> AsyncIterator[Place]:
    async with Place(tmp_path, settings, operations) as place:
        yield place


async def answers(ask: Ask_) -> dict[str, int]:
    """The status of every operation, asked in a way that changes nothing where it is let in."""
    free = asyncio.Semaphore(AT_ONCE)

    async def answer(operation: str) -> int:
        method, path, *json = operation.split()
        target = path.format_map(_Examples())
        async with free, asyncio.timeout(60):
            status, _ = await ask(method, target, JSON if json else BYTES)
            return status

    statuses = await asyncio.gather(*(answer(operation) for operation in EXPECTED))
    return dict(zip(EXPECTED, statuses, strict=True))


class _Examples(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return EXAMPLES.get(name, "NONE")


DOORS: list[tuple[str, Role | None, Role | None]] = [
    ("unix", None, Role.ADMIN),
    *((door, role, role) for door in ("token", "certificate", "console", "bus") for role in Role),
    ("console", None, Role.VIEWER),
    ("token", None, None),
    ("certificate", None, None),
    ("bus", None, None),
]


@pytest.mark.parametrize(("door", "caller", "role"), DOORS)
async def test_a_role_may_do_the_same_by_every_door(
    place: Place, door: str, caller: Role | None, role: Role | None
) -> None:
    """`caller` is who comes, `role` what the door makes of it: None is somebody that nobody knows."""
    statuses = await answers(await place.asking(door, caller))
    refused = {operation: status for operation, status in statuses.items() if status in (401, 403)}
    if role is None:
        assert refused == dict.fromkeys(EXPECTED, 401)
        return
    order = list(Role)
    assert refused == {
        operation: 403 for operation, needed in EXPECTED.items() if order.index(needed) > order.index(role)
    }
    assert not {operation: status for operation, status in statuses.items() if status >= 500 and status != 503}


# ---- the site server

OWN = {
    "GET /v1/status": Role.VIEWER,
    "GET /v1/points": Role.VIEWER,
    "POST /v1/points": Role.ADMIN,
    "GET /v1/points/{point}": Role.VIEWER,
    "PUT /v1/points/{point}": Role.ADMIN,
    "DELETE /v1/points/{point}": Role.ADMIN,
    "GET /v1/assignments": Role.VIEWER,
    "POST /v1/assignments": Role.OPERATOR,
    "DELETE /v1/assignments/{target}/{package_id}": Role.OPERATOR,
    "GET /openapi.json": Role.VIEWER,
}


def test_the_site_server_asks_for_the_same_roles_for_itself_for_a_point_and_for_a_group() -> None:
    for route in SITE_ROUTES:
        operation = f"{route.method} {route.path}"
        at_point = operation.replace("/v1/points/{dp}/", "/v1/").replace("/v1/groups/{dp_group}/", "/v1/")
        expected = EXPECTED[at_point] if at_point != operation else OWN.get(operation) or EXPECTED[operation]
        assert route.needed_role("") == expected, operation
        assert route.json_role == (EXPECTED.get(f"{at_point} JSON") if at_point != operation else None), operation


async def test_the_audit_knows_who_it_was_by_every_door(place: Place, operations: Operations) -> None:
    rule = {"kind": "mac_prefix", "value": "52:54:00"}
    for door, caller in (("unix", None), ("token", Role.ADMIN), ("certificate", Role.ADMIN), ("console", Role.ADMIN)):
        ask = await place.asking(door, caller)
        session = ask.args[0]  # type: ignore[attr-defined]
        async with session.post("/v1/pxe/rules", json=rule) as response:
            added = await response.json()
            assert response.status == 200, added
        async with session.delete(f"/v1/pxe/rules/{added['id']}") as response:
            assert response.status == 200
    ask_bus = Ask("1", "POST", "/v1/pxe/rules", str(rule).replace("'", '"'), JSON, BusCaller("bea", "admin"))
    async with await place.bus.request(ask_bus) as response:
        assert response.status == 200
    who = [entry.actor for entry in operations.site.audit(20)][::2]
    assert who == [getpass.getuser(), "token a admin", "certificate admin.example", "token a admin", "bea by site lab"]
