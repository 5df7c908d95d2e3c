# SPDX-License-Identifier: Apache-2.0
"""Collections and whose policy it is, over a real Unix socket."""

from __future__ import annotations

import aiohttp
import pytest
from tests.control.api.routes.test_site import ask

from dpd.control.operations.verbs import Operations
from dpd.site.model import SiteModel

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
RULE = {"kind": "name", "value": "LAB-*"}


@pytest.fixture
async def api_with_two(api: aiohttp.ClientSession) -> aiohttp.ClientSession:
    for name, mac in (("LAB-1", A), ("PC1", B)):
        await ask(api, "POST", "/v1/computers", {"name": name, "macs": [mac]})
    return api


async def test_a_collection_is_made_changed_and_removed(api_with_two: aiohttp.ClientSession) -> None:
    api = api_with_two
    status, made = await ask(api, "POST", "/v1/collections", {"name": "lab", "rules": [RULE]})
    assert (status, made["members"], made["deployments"], made["collection"]["rules"]) == (200, 1, [], [RULE])
    assert (await ask(api, "GET", "/v1/collections"))[1] == {"collections": [made]}
    assert (await ask(api, "GET", "/v1/collections/LAB"))[1] == made
    status, grown = await ask(api, "POST", "/v1/collections/lab/members", {"computers": ["pc1"]})
    assert (status, grown["members"]) == (200, 2)
    members = (await ask(api, "GET", "/v1/collections/lab/members"))[1]["members"]
    assert [(each["computer"]["name"], each["why"]) for each in members] == [("LAB-1", "name LAB-*"), ("PC1", "named")]
    assert (await ask(api, "DELETE", "/v1/collections/lab/members/PC1"))[1]["members"] == 1
    status, changed = await ask(api, "PATCH", "/v1/collections/lab", {"rules": [], "description": "room 12"})
    assert (status, changed["members"], changed["collection"]["description"]) == (200, 0, "room 12")
    assert (await ask(api, "DELETE", "/v1/collections/lab"))[0] == 200
    status, reply = await ask(api, "GET", "/v1/collections/lab")
    assert (status, reply["error"]["code"]) == (404, "site_not_found")


async def test_a_deployment_to_a_collection_reaches_its_members(api_with_two: aiohttp.ClientSession) -> None:
    api = api_with_two
    await ask(api, "POST", "/v1/collections", {"name": "lab", "rules": [RULE]})
    body = {"target": "collection:LAB", "name": "win11", "audience": "media_and_pxe", "rerun": "if_failed"}
    status, added = await ask(api, "POST", "/v1/deployments", body | {"purpose": "required"})
    assert (status, added["reaches"], added["deployment"]["target"]) == (200, 1, "collection:lab")
    assert [added["deployment"][key] for key in ("name", "audience", "rerun")] == [
        "win11",
        "media_and_pxe",
        "if_failed",
    ]
    details = (await ask(api, "GET", "/v1/computers/LAB-1"))[1]
    assert (details["collections"], len(details["deployments"])) == (["lab"], 1)
    assert (await ask(api, "GET", "/v1/computers/PC1"))[1]["deployments"] == []
    assert (await ask(api, "DELETE", "/v1/collections/lab"))[0] == 409


async def test_who_does_not_say_how_many_is_asked_back(api_with_two: aiohttp.ClientSession) -> None:
    body = {"target": "all", "purpose": "required"}
    status, reply = await ask(api_with_two, "POST", "/v1/deployments", body)
    assert (status, reply["error"]["code"]) == (409, "not_confirmed")
    assert "reaches 2 known computers" in reply["error"]["message"]
    assert (await ask(api_with_two, "POST", "/v1/deployments", body | {"confirm": 2}))[0] == 200


async def test_refusals_name_what_is_wrong(api: aiohttp.ClientSession) -> None:
    for method, target, body, status, words in (
        ("POST", "/v1/collections", {"name": "all"}, 400, "name 'all': expected"),
        ("POST", "/v1/collections", {"name": "a", "computers": ["PC9"]}, 404, "collection a: no computer PC9"),
        ("POST", "/v1/collections", {"name": "a", "include": ["b"]}, 404, "collection a: no collection b"),
        ("POST", "/v1/collections", {"name": "a", "rules": [{"kind": "mac_prefix", "value": "zz"}]}, 400, "mac 'zz'"),
        ("PATCH", "/v1/collections/none", {}, 404, "no collection none"),
        ("POST", "/v1/deployments", {"target": "collection:none"}, 404, "no collection none"),
    ):
        found, reply = await ask(api, method, target, body)
        assert (found, words in reply["error"]["message"]) == (status, True), reply


async def test_policy_tells_whose_it_is_and_is_released(api: aiohttp.ClientSession, operations: Operations) -> None:
    status, policy = await ask(api, "GET", "/v1/policy")
    assert (status, policy["authority"], policy["affinity_mode"]) == (200, None, "none")
    assert (await ask(api, "DELETE", "/v1/policy/authority"))[0] == 409
    operations.site.model._store.mirror("hq", 7, SiteModel(), 500.0)
    assert (await ask(api, "GET", "/v1/policy"))[1]["authority"] == {"site": "hq", "version": 7, "at": 500.0}
    status, reply = await ask(api, "POST", "/v1/collections", {"name": "lab"})
    assert (status, reply["error"]["code"]) == (409, "site_conflict")
    assert "policy of this point comes from site hq" in reply["error"]["message"]
    assert (await ask(api, "DELETE", "/v1/policy/authority"))[1]["authority"] is None
    assert (await ask(api, "POST", "/v1/collections", {"name": "lab"}))[0] == 200
