# SPDX-License-Identifier: Apache-2.0
"""Boot policy over a real Unix socket: every route, and how a refusal is told."""

from __future__ import annotations

import asyncio
import getpass
import io
import threading
from typing import Any

import aiohttp
import pytest

from dpd.control.api.routes.site import MAX_CSV_BYTES
from dpd.control.operations.verbs import Operations

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


async def ask(api: aiohttp.ClientSession, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    sent: dict[str, Any] = (
        {} if body is None else {"data": body} if isinstance(body, bytes | io.BytesIO) else {"json": body}
    )
    async with api.request(method, target, **sent) as response:
        return response.status, await response.json()


async def test_computers_come_and_go(api: aiohttp.ClientSession) -> None:
    status, added = await ask(api, "POST", "/v1/computers", {"name": "PC1", "macs": ["52-54-00-00-00-0A"]})
    assert (status, added["macs"]) == (200, [A])
    assert (await ask(api, "GET", "/v1/computers"))[1] == {"computers": [added]}
    details = (await ask(api, "GET", "/v1/computers/pc1"))[1]
    assert details == {"computer": added, "collections": [], "deployments": [], "runs": []}
    assert await ask(api, "DELETE", "/v1/computers/PC1") == (200, added)
    status, reply = await ask(api, "GET", "/v1/computers/PC1")
    assert (status, reply["error"]["code"]) == (404, "site_not_found")


async def test_a_list_of_computers_is_imported(api: aiohttp.ClientSession) -> None:
    text = f"name,mac\nPC1,{A}\nPC2,{B}\n".encode()
    status, shown = await ask(api, "POST", "/v1/computers/import?dry_run=true", text)
    assert (status, shown["done"], len(shown["added"])) == (200, False, 2)
    assert (await ask(api, "GET", "/v1/computers"))[1] == {"computers": []}
    assert (await ask(api, "POST", "/v1/computers/import", text))[1]["done"] is True
    status, reply = await ask(api, "POST", "/v1/computers/import", b"name,mac\nPC1,\xff\n")
    assert (status, reply["error"]["message"]) == (400, "body: not UTF-8 text: byte 13 is 0xff; save the file as UTF-8")


async def test_a_list_without_an_end_is_refused(api: aiohttp.ClientSession) -> None:
    status, reply = await ask(api, "POST", "/v1/computers/import", io.BytesIO(b"x" * (MAX_CSV_BYTES + 1)))
    assert (status, reply["error"]["code"]) == (400, "bad_request")


async def test_a_deployment_is_made_shown_cleared_and_removed(api: aiohttp.ClientSession) -> None:
    body = {
        "target": "all",
        "purpose": "required",
        "priority": 5,
        "available_from": 10,
        "expires_at": 4e9,
        "confirm": 0,
    }
    status, added = await ask(api, "POST", "/v1/deployments", body)
    assert (status, added["state"], added["deployment"]["purpose"]) == (200, "current", "required")
    id = added["deployment"]["id"]
    assert (await ask(api, "GET", "/v1/deployments"))[1] == {"deployments": [added]}
    assert (await ask(api, "GET", f"/v1/deployments/{id}"))[1]["runs"] == []
    assert await ask(api, "POST", f"/v1/deployments/{id}/clear", {}) == (200, {"cleared": 0})
    assert (await ask(api, "POST", f"/v1/deployments/{id}/clear", {"machine": "PC1"}))[0] == 404
    assert (await ask(api, "DELETE", f"/v1/deployments/{id}"))[0] == 200
    assert (await ask(api, "GET", f"/v1/deployments/{id}"))[0] == 404


async def test_unknown_machines_are_denied_and_forgiven(api: aiohttp.ClientSession) -> None:
    assert (await ask(api, "GET", "/v1/pxe/pending"))[1] == {"pending": [], "verdicts": []}
    status, verdict = await ask(api, "POST", f"/v1/pxe/pending/{A}/deny")
    assert (status, verdict["mac"], verdict["verdict"]) == (200, A, "denied")
    assert await ask(api, "DELETE", "/v1/pxe/verdicts/52540000000A") == (200, verdict)
    assert (await ask(api, "DELETE", f"/v1/pxe/verdicts/{A}"))[0] == 404
    status, reply = await ask(api, "POST", "/v1/pxe/pending/ACDEFG/approve", {"computer": "PC1"})
    assert (status, reply["error"]["code"]) == (404, "site_not_found")
    assert "`dpd pxe pending`" in reply["error"]["message"]


async def test_rules_and_maintenance(api: aiohttp.ClientSession) -> None:
    status, rule = await ask(api, "POST", "/v1/pxe/rules", {"kind": "network", "value": "10.0.0.0/8"})
    assert (status, rule["value"]) == (200, "10.0.0.0/8")
    assert (await ask(api, "POST", "/v1/pxe/rules", {"kind": "network", "value": "10.0.0.0/8"}))[0] == 409
    assert (await ask(api, "GET", "/v1/pxe/rules"))[1] == {"rules": [rule]}
    assert (await ask(api, "DELETE", f"/v1/pxe/rules/{rule['id']}")) == (200, rule)
    assert await ask(api, "PATCH", "/v1/pxe/maintenance", {"reason": " new switch "}) == (200, {"reason": "new switch"})
    assert await ask(api, "GET", "/v1/pxe/maintenance") == (200, {"reason": "new switch"})


async def test_the_audit_names_the_local_user(api: aiohttp.ClientSession, operations: Operations) -> None:
    await ask(api, "PATCH", "/v1/pxe/maintenance", {"reason": "x"})
    (entry,) = (await ask(api, "GET", "/v1/audit?limit=1"))[1]["entries"]
    assert (entry["actor"], entry["action"], entry["policy_version"]) == (getpass.getuser(), "maintenance on", 1)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "message"),
    [
        ("POST", "/v1/computers", {"name": "PC1"}, 400, "computer PC1: expected a MAC or a GUID to know it by"),
        ("POST", "/v1/computers", {"name": "PC1", "macs": ["x"]}, 400, "mac 'x': expected six bytes such as 52:54:00:12:34:56"),
        ("POST", "/v1/computers", {"name": "PC1", "mac": A}, 400, "Object contains unknown field `mac`"),
        ("POST", "/v1/deployments", {"target": "PC9"}, 404, "no computer PC9; `dpd computer list` shows those there are"),
        ("POST", "/v1/deployments", {"target": "all", "purpose": "x"}, 400, "purpose: Invalid enum value 'x'; expected one of required, available"),
        ("GET", "/v1/deployments/0", None, 400, "deployment: Expected `int` >= 1"),
        ("POST", "/v1/pxe/rules", {"kind": "network", "value": "lan"}, 400, "network 'lan': expected such as 10.1.0.0/16 or fd00:1::/64"),
        ("POST", "/v1/pxe/pending/nonsense/deny", None, 400, "mac 'nonsense': expected six bytes such as 52:54:00:12:34:56"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_in_words(
    api: aiohttp.ClientSession, method: str, target: str, body: Any, status: int, message: str
) -> None:
    got, reply = await ask(api, method, target, body)
    assert (got, reply["error"]["message"]) == (status, message)


async def test_what_waits_for_a_change_of_policy_holds_no_other_request_up(
    api: aiohttp.ClientSession, operations: Operations
) -> None:
    _, added = await ask(api, "POST", "/v1/deployments", {"target": "all"})
    begun, may_end, in_time = threading.Event(), threading.Event(), []

    def change() -> None:  # as an import of thousands of computers does
        with operations.site.model._store.changing():
            begun.set()
            in_time.append(may_end.wait(20))

    changing = asyncio.create_task(asyncio.to_thread(change))
    await asyncio.to_thread(begun.wait, 20)
    waiting = [
        asyncio.create_task(ask(api, method, target, body))
        for method, target, body in (
            ("POST", "/v1/pxe/rules", {"kind": "mac_prefix", "value": "52:54"}),
            ("DELETE", "/v1/pxe/rules/1", None),
            ("POST", f"/v1/pxe/pending/{A}/deny", None),
            ("POST", f"/v1/deployments/{added['deployment']['id']}/clear", {}),
            ("PATCH", "/v1/pxe/maintenance", {"reason": "works"}),
            ("DELETE", "/v1/policy/authority", None),
        )
    ]
    for _ in range(20):
        assert (await ask(api, "GET", "/v1/caller"))[0] == 200
        await asyncio.sleep(0.01)
    assert not any(each.done() for each in waiting)
    may_end.set()
    await changing
    assert in_time == [True]
    statuses = [status for status, _ in await asyncio.gather(*waiting)]
    assert set(statuses) <= {200, 404, 409}, statuses
    assert statuses[4] == 200
