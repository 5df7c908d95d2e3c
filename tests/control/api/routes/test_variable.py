# SPDX-License-Identifier: Apache-2.0
"""Variables over a real Unix socket."""

from __future__ import annotations

import json

import aiohttp
from tests.control.api.routes.test_site import ask


async def test_variables_are_set_listed_and_removed(api: aiohttp.ClientSession) -> None:
    await ask(api, "POST", "/v1/computers", {"name": "PC-1", "macs": ["52:54:00:00:00:0a"]})
    body = {"target": "pc-1", "name": "Pass", "value": "hunter2", "secret": True}
    status, made = await ask(api, "POST", "/v1/variables", body)
    assert (status, made) == (200, {"target": "PC-1", "name": "Pass", "value": "", "secret": True})
    zone = {"target": "all", "name": "Zone", "value": "Europe/Berlin", "secret": False}
    assert await ask(api, "POST", "/v1/variables", zone) == (200, zone)
    assert (await ask(api, "GET", "/v1/variables"))[1] == {"variables": [zone, made]}
    assert (await ask(api, "GET", "/v1/variables?target=ALL"))[1] == {"variables": [zone]}
    assert (await ask(api, "GET", "/v1/variables?target=collection:lab"))[0] == 404
    assert (await ask(api, "GET", "/v1/computers/pc-1/variables"))[1] == {"variables": [made, zone]}
    assert "hunter2" not in json.dumps(await ask(api, "GET", "/v1/audit"))
    assert await ask(api, "DELETE", "/v1/variables/PC-1/PASS") == (200, made)
    status, reply = await ask(api, "DELETE", "/v1/variables/PC-1/Pass")
    assert (status, reply["error"]["code"]) == (404, "site_not_found")


async def test_what_cannot_be_is_refused_without_its_value(api: aiohttp.ClientSession) -> None:
    for target, name, expected in (("PC-9", "Pass", 404), ("all", "_Pass", 400), ("all", "1", 400)):
        body = {"target": target, "name": name, "value": "hunter2", "secret": True}
        status, reply = await ask(api, "POST", "/v1/variables", body)
        assert (status, "hunter2" in json.dumps(reply)) == (expected, False)
    too_long = {"target": "all", "name": "Pass", "value": "hunter2" * 1000, "secret": True}
    status, reply = await ask(api, "POST", "/v1/variables", too_long)
    assert (status, reply["error"]["message"]) == (400, "value: expected at most 4000 characters")


async def test_a_deployment_names_a_sequence(api: aiohttp.ClientSession) -> None:
    text = 'name = "debian"\n[[step]]\nname = "Restart"\ndo = "restart"\n'
    async with api.post("/v1/sequences?version=3", data=text, headers={"Content-Type": "application/toml"}) as response:
        assert response.status == 200
    body = {"target": "all", "purpose": "available", "sequence": "debian@3"}
    status, added = await ask(api, "POST", "/v1/deployments", body)
    assert (status, added["deployment"]["sequence"]) == (200, "debian@3")
    status, reply = await ask(api, "POST", "/v1/deployments", body | {"sequence": "debian@2"})
    assert (status, "no task sequence debian@2" in reply["error"]["message"]) == (404, True)
    status, reply = await ask(api, "POST", "/v1/deployments", body | {"sequence": "a b"})
    assert (status, reply["error"]["code"]) == (400, "bad_request")
