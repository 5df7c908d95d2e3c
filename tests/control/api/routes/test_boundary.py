# SPDX-License-Identifier: Apache-2.0
"""Boundaries and points over a real Unix socket."""

from __future__ import annotations

import aiohttp
from tests.control.api.routes.test_site import ask


async def test_boundaries_lead_to_points_with_the_reason(api: aiohttp.ClientSession) -> None:
    for name in ("hq", "branch"):
        assert (await ask(api, "POST", "/v1/points", {"name": name, "groups": ["all"]}))[0] == 200
    body = {"network": "10.0.0.0/8", "points": ["HQ"], "description": "everywhere"}
    status, made = await ask(api, "POST", "/v1/boundaries", body)
    assert (status, made) == (200, {"network": "10.0.0.0/8", "points": ["hq"], "description": "everywhere"})
    await ask(api, "POST", "/v1/boundaries", {"network": "10.1.0.0/16", "points": ["branch"]})
    answer = (await ask(api, "GET", "/v1/boundaries/lookup?address=10.1.2.3"))[1]
    assert (answer["points"], answer["boundaries"]) == (["branch", "hq"], ["10.1.0.0/16", "10.0.0.0/8"])
    assert answer["reason"].startswith("10.1.0.0/16 is the narrowest boundary that holds 10.1.2.3: branch")
    status, changed = await ask(api, "PATCH", "/v1/boundaries?network=10.1.0.0/16", {"points": ["hq", "branch"]})
    assert (status, changed["points"]) == (200, ["hq", "branch"])
    assert (await ask(api, "DELETE", "/v1/boundaries?network=10.1.0.0%2F16"))[0] == 200
    listed = (await ask(api, "GET", "/v1/boundaries"))[1]["boundaries"]
    assert [each["network"] for each in listed] == ["10.0.0.0/8"]


async def test_points_come_change_and_go(api: aiohttp.ClientSession) -> None:
    status, made = await ask(api, "POST", "/v1/points", {"name": "hq", "groups": ["a"], "url": "http://hq:8080/"})
    assert (status, made) == (200, {"name": "hq", "groups": ["a"], "url": "http://hq:8080", "description": ""})
    assert (await ask(api, "GET", "/v1/points"))[1] == {"points": [made]}
    status, changed = await ask(api, "PATCH", "/v1/points/HQ", {"groups": []})
    assert (status, changed["groups"], changed["url"]) == (200, [], "http://hq:8080")
    assert (await ask(api, "GET", "/v1/points/hq"))[1] == changed
    assert (await ask(api, "DELETE", "/v1/points/hq"))[0] == 200
    assert (await ask(api, "GET", "/v1/points/hq"))[0] == 404


async def test_refusals_name_what_is_wrong(api: aiohttp.ClientSession) -> None:
    await ask(api, "POST", "/v1/points", {"name": "hq"})
    await ask(api, "POST", "/v1/boundaries", {"network": "10.0.0.0/8", "points": ["hq"]})
    for method, target, body, status, words in (
        ("POST", "/v1/points", {"name": "a.b"}, 400, "point 'a.b': expected"),
        ("POST", "/v1/points", {"name": "a", "url": "http://user:geheim@hq/"}, 400, "url: expected such as"),
        ("POST", "/v1/points", {"name": "HQ"}, 409, "point HQ: is there already"),
        ("DELETE", "/v1/points/hq", None, 409, "boundary 10.0.0.0/8 names it"),
        ("POST", "/v1/boundaries", {"network": "10.0.0.1/8", "points": ["hq"]}, 400, "network '10.0.0.1/8'"),
        ("POST", "/v1/boundaries", {"network": "10.9.0.0/16", "points": ["x"]}, 404, "no point x"),
        ("PATCH", "/v1/boundaries?network=10.8.0.0/16", {}, 404, "no boundary 10.8.0.0/16"),
        ("DELETE", "/v1/boundaries", None, 400, "network"),
        ("GET", "/v1/boundaries/lookup?address=here", None, 400, "address 'here': expected such as"),
    ):
        found, reply = await ask(api, method, target, body)
        assert (found, words in reply["error"]["message"]) == (status, True), reply
        assert "geheim" not in str(reply)
