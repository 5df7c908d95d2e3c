# SPDX-License-Identifier: Apache-2.0
"""Declarations by the doors: the Unix socket and TCP say the very same."""

from __future__ import annotations

import getpass
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dpd.control.access.listener import ControlListener
from dpd.control.api.application import make_application
from dpd.control.api.routes.declaration import TOML
from dpd.control.operations.verbs import Operations
from dpd.settings import ControlSettings, Settings
from dpd.site.declaration import MAX_BYTES

A = "52:54:00:00:00:0a"
LAB = f'[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n\n[[collection]]\nname = "lab"\ncomputers = ["PC-1"]\n'
TOKEN = "0123456789abcdef"


async def ask(client: aiohttp.ClientSession, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    headers = {} if body is None else {"Content-Type": TOML}
    async with client.request(method, target, data=body, headers=headers) as response:
        return response.status, await response.json()


async def test_a_site_is_planned_applied_and_exported(api: aiohttp.ClientSession) -> None:
    status, plan = await ask(api, "POST", "/v1/site/plan", LAB)
    assert (status, plan["added"], plan["problems"], plan["is_applied"]) == (200, 2, [], False)
    assert plan["changes"][0] == {
        "kind": "computer",
        "name": "PC-1",
        "action": "added",
        "fields": [{"field": "macs", "old": None, "new": [A]}],
    }
    status, done = await ask(api, "POST", f"/v1/site/apply?policy_version={plan['policy_version']}", LAB)
    assert (status, done["is_applied"], done["policy_version"]) == (200, True, plan["policy_version"] + 1)
    assert done["changes"] == plan["changes"]
    status, export = await ask(api, "GET", "/v1/site/export?kinds=computer,collection")
    assert (status, export["policy_version"]) == (200, done["policy_version"])
    assert export["declaration"] == f'owns = ["computer", "collection"]\n\n{LAB}'
    (entry,) = (await ask(api, "GET", "/v1/audit?limit=1"))[1]["entries"]
    assert (entry["actor"], entry["policy_version"]) == (getpass.getuser(), done["policy_version"])


async def test_what_cannot_be_is_refused_in_words(api: aiohttp.ClientSession) -> None:
    wrong = LAB.replace(A, "zz")
    status, plan = await ask(api, "POST", "/v1/site/plan", wrong)
    assert (status, plan["problems"]) == (
        200,
        [{"line": 3, "key": "computer.macs", "message": "mac 'zz': expected six bytes such as 52:54:00:12:34:56"}],
    )
    status, refusal = await ask(api, "POST", f"/v1/site/apply?policy_version={plan['policy_version']}", wrong)
    assert (status, refusal["error"]["code"]) == (400, "bad_request")
    assert refusal["error"]["message"].startswith("nothing was applied: line 3: computer.macs: mac 'zz'")
    for target, problem in (
        ("/v1/site/apply", "missing required field `policy_version`"),
        ("/v1/site/apply?policy_version=0&confirm=x", "confirm"),
        ("/v1/site/plan?dry_run=1", "dry_run: no such parameter here"),
    ):
        status, refusal = await ask(api, "POST", target, LAB)
        assert (status, refusal["error"]["code"]) == (400, "bad_request")
        assert problem in refusal["error"]["message"]
    assert (await ask(api, "GET", "/v1/site/export?kinds=computers"))[0] == 400


async def test_a_plan_of_another_version_is_a_conflict(api: aiohttp.ClientSession) -> None:
    status, refusal = await ask(api, "POST", "/v1/site/apply?policy_version=99", LAB)
    assert (status, refusal["error"]["code"]) == (409, "site_conflict")


async def test_what_reaches_all_must_be_confirmed(api: aiohttp.ClientSession) -> None:
    text = LAB + '[[deployment]]\nname = "win"\ntarget = "all"\npurpose = "required"\n'
    plan = (await ask(api, "POST", "/v1/site/plan", text))[1]
    assert (plan["risks"], plan["confirm"]) == ([{"deployment": "win", "reaches": 1}], 1)
    target = f"/v1/site/apply?policy_version={plan['policy_version']}"
    status, refusal = await ask(api, "POST", target, text)
    assert (status, refusal["error"]["code"]) == (409, "not_confirmed")
    assert (await ask(api, "POST", f"{target}&confirm=1", text))[0] == 200


async def test_a_file_without_an_end_is_refused(api: aiohttp.ClientSession) -> None:
    status, refusal = await ask(api, "POST", "/v1/site/plan", io.BytesIO(b"#" * (MAX_BYTES + 1)))
    assert (status, refusal["error"]["code"]) == (400, "bad_request")


@asynccontextmanager
async def over_tcp(
    settings: ControlSettings, operations: Operations, tmp_path: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    doors = replace(
        settings, socket=str(tmp_path / "other.sock"), listen="127.0.0.1:0", token_file=str(tmp_path / "token")
    )
    listener = ControlListener(doors, partial(make_application, operations))
    await listener.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.ports['tcp']}", headers=headers) as client:
        yield client
    await listener.stop()


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/v1/site/plan", LAB),
        ("POST", "/v1/site/plan", LAB.replace(A, "zz")),
        ("POST", "/v1/site/apply?policy_version=0", LAB.replace(A, "zz")),
        ("POST", "/v1/site/apply?policy_version=5", LAB),
        ("GET", "/v1/site/export", None),
        ("GET", "/v1/site/export?kinds=x", None),
    ],
    ids=["plan", "problems", "refused", "conflict", "export", "no kind"],
)
async def test_every_door_says_the_same(
    api: aiohttp.ClientSession,
    operations: Operations,
    settings: Settings,
    tmp_path: Path,
    method: str,
    target: str,
    body: str | None,
) -> None:
    async with over_tcp(settings.control, operations, tmp_path) as tcp:
        assert await ask(tcp, method, target, body) == await ask(api, method, target, body)


async def test_what_one_door_applied_the_other_exports(
    api: aiohttp.ClientSession, operations: Operations, settings: Settings, tmp_path: Path
) -> None:
    async with over_tcp(settings.control, operations, tmp_path) as tcp:
        version = (await ask(api, "POST", "/v1/site/plan", LAB))[1]["policy_version"]
        assert (await ask(tcp, "POST", f"/v1/site/apply?policy_version={version}", LAB))[1]["is_applied"]
        exported = await ask(api, "GET", "/v1/site/export")
        assert exported == await ask(tcp, "GET", "/v1/site/export")
        assert (await ask(api, "POST", "/v1/site/plan", exported[1]["declaration"]))[1]["changes"] == []
