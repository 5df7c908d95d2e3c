# SPDX-License-Identifier: Apache-2.0
"""What the API says to requests that are wrong: one status, one code, one sentence that names the field."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from dpd.control.access.network_door import NetworkDoor
from dpd.control.api.application import MAX_JSON_BYTES, make_application
from dpd.control.operations.verbs import Operations
from dpd.settings import ControlSettings

PACKAGE = "package_id: expected 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, such as LAB00001"
VERSION = "source_version: Expected `int` >= 1"
MAC = "expected six bytes such as 52:54:00:12:34:56"

WRONG: list[tuple[str, str, Any, int, str, str]] = [
    ("GET", "/v1/nothing", None, 404, "http_404", "GET /v1/nothing: Not Found; GET /openapi.json lists what there is"),
    ("PUT", "/v1/status", None, 405, "http_405", "PUT /v1/status: Method Not Allowed; GET /openapi.json lists what there is"),
    ("GET", "/v1/status?x=1", None, 400, "bad_request", "x: no such parameter here"),
    ("GET", "/v1/content/LAB1?version=1", None, 400, "bad_request", "Object contains unknown field `version`"),
    ("GET", "/v1/content/LAB1?source_version=0", None, 400, "bad_request", VERSION),
    ("GET", "/v1/content/LAB1?source_version=x", None, 400, "bad_request", "source_version: Expected `int | null`, got `str`"),
    ("GET", "/v1/content/LAB1?source_version=1&source_version=2", None, 400, "bad_request", "source_version: given more than once"),
    ("GET", "/v1/content/LAB1?package_id=LAB2", None, 400, "bad_request", "package_id: given more than once"),
    ("GET", "/v1/content/..%2Fkeys", None, 400, "bad_request", PACKAGE),
    ("GET", "/v1/content/LAB1%0A", None, 400, "bad_request", PACKAGE),
    ("GET", "/v1/content/LAB1", None, 404, "content_not_found", "package 'LAB1' is not in the library; `dpd content list` shows what is"),
    ("DELETE", "/v1/content/LAB1", None, 404, "content_not_found", "package 'LAB1' is not in the library; `dpd content list` shows what is"),
    ("POST", "/v1/content/LAB1/verify", None, 404, "content_not_found", "package 'LAB1' is not in the library; `dpd content list` shows what is"),
    ("POST", "/v1/content", {}, 400, "bad_request", "Object missing required field `path`"),
    ("POST", "/v1/content", [], 400, "bad_request", "Expected `object`, got `array`"),
    ("POST", "/v1/content", {"path": "a.wim", "package_id": "LAB1"}, 400, "bad_request", "path: expected an absolute path as the daemon sees it"),
    ("POST", "/v1/content", {"path": "/a\0", "package_id": "LAB1"}, 400, "bad_request", "path: expected an absolute path as the daemon sees it"),
    ("POST", "/v1/content", {"path": "/a", "package_id": "LAB 1"}, 400, "bad_request", PACKAGE),
    ("POST", "/v1/content", {"path": "/a", "package_id": 1}, 400, "bad_request", "package_id: Expected `str`, got `int`"),
    ("POST", "/v1/content", {"path": "/a", "package_id": "LAB1", "version": 1}, 400, "bad_request", "Object contains unknown field `version`"),
    ("POST", "/v1/content", {"path": "/a", "package_id": "LAB1", "source_version": 0}, 400, "bad_request", VERSION),
    ("POST", "/v1/content", {"path": "/nowhere.wim", "package_id": "LAB1"}, 409, "content_refused", "/nowhere.wim: no such file; give the path as this machine sees it"),
    ("POST", "/v1/content", {"path": "/dev/null", "package_id": "LAB1"}, 409, "content_refused", "/dev/null: not a regular file; expected an image such as install.wim"),
    ("POST", "/v1/content?package_id=LAB1", {"path": "/a", "package_id": "LAB1"}, 400, "bad_request", "package_id: a JSON body stands for itself, without a query"),
    ("POST", "/v1/content", b"abc", 400, "bad_request", "package_id: missing in the query; expected the ID of the package that is sent"),
    ("POST", "/v1/content?package_id=LAB1&name=../x", b"abc", 400, "bad_request", "name: expected a plain file name of 1 to 200 characters, without / and not beginning with a dot"),
    ("POST", "/v1/content?package_id=LAB1&name=x.img", b"", 409, "content_refused", "x.img: empty; expected an image such as install.wim"),
    ("POST", "/v1/content?package_id=LAB1&name=x.wim", b"no WIM at all", 422, "content_corrupt", ""),
    ("POST", "/v1/sessions", {"package_id": "LAB1"}, 404, "content_not_found", "package 'LAB1' is not in the library; `dpd content list` shows what is"),
    ("GET", "/v1/sessions/zz", None, 400, "bad_request", "session_id: expected hex digits, as `dpd session list` shows them"),
    ("GET", "/v1/sessions/0123", None, 404, "session_not_found", "no session 0123; `dpd session list` shows those there are"),
    ("DELETE", "/v1/sessions/0123", None, 404, "session_not_found", "no session 0123; `dpd session list` shows those there are"),
    ("GET", "/v1/pxe/machines/52:54:00:12:34:5g", None, 400, "bad_request", f"mac '52:54:00:12:34:5g': {MAC}"),
    ("GET", "/v1/pxe/machines/x", None, 400, "bad_request", "mac: expected at least 12 characters"),
    ("GET", "/v1/pxe/machines/525400123456", None, 404, "machine_unknown", "52:54:00:12:34:56 has not asked for a network boot since dpd started; `dpd pxe list` shows the machines that did"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "status", "code", "message"), WRONG)
async def test_a_wrong_request_is_refused_in_words(
    api: aiohttp.ClientSession, method: str, target: str, body: Any, status: int, code: str, message: str
) -> None:
    sent = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    async with api.request(method, URL(target, encoded=True), **sent) as response:
        assert response.content_type == "application/json"
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (status, code)
    assert error["message"] == message or not message
    assert "\n" not in error["message"]
    assert "/uploads/" not in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"package_id": NaN}'])
async def test_a_body_that_is_no_json_is_told(api: aiohttp.ClientSession, body: bytes) -> None:
    async with api.post("/v1/sessions", data=body, headers={"Content-Type": "application/json"}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "bad_request")
    assert error["message"].startswith("body: expected JSON: ")


async def test_a_json_body_has_a_limit(api: aiohttp.ClientSession) -> None:
    body = io.BytesIO(b'{"path": "/%s", "package_id": "LAB1"}' % (b"x" * MAX_JSON_BYTES))
    async with api.post("/v1/content", data=body, headers={"Content-Type": "application/json"}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (413, "http_413")
    assert error["message"] == f"POST /v1/content: expected a body of at most {MAX_JSON_BYTES} bytes"


async def test_wrong_method_tells_the_right_ones(api: aiohttp.ClientSession) -> None:
    async with api.put("/v1/content") as response:
        assert response.headers["Allow"] == "GET,POST"


async def test_a_fault_of_ours_is_logged_and_told_without_its_details(
    api: aiohttp.ClientSession,
    operations: Operations,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(operations, "status", lambda: 1 // 0)
    with caplog.at_level(logging.ERROR):
        async with api.get("/v1/status") as response:
            error = (await response.json())["error"]
    assert (response.status, error["code"]) == (500, "internal")
    assert "Zero" not in error["message"]
    assert caplog.records[-1].exc_info


async def test_while_draining_new_work_is_refused_and_looking_is_not(
    api: aiohttp.ClientSession, operations: Operations, image: Path
) -> None:
    operations.drain()
    for target, body in (
        ("/v1/content", {"path": str(image), "package_id": "LAB1"}),
        ("/v1/sessions", {"package_id": "LAB1"}),
    ):
        async with api.post(target, json=body) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "unavailable")
    async with api.get("/v1/status") as response:
        assert (await response.json())["state"] == "draining"


@pytest.fixture
async def guarded(operations: Operations, tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    """The API as TCP clients meet it, behind a token."""
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    door = NetworkDoor(ControlSettings(token_file=str(tmp_path / "token")))
    async with TestClient(TestServer(make_application(operations, door))) as client:
        yield client


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer 0123456789abcde", 401),
        ("Bearer 0123456789abcdef0", 401),
        ("Basic 0123456789abcdef", 401),
        ("Bearer \xe9", 401),
        ("Bearer 0123456789abcdef", 200),
        ("bearer  0123456789abcdef", 200),
    ],
)
async def test_the_token_opens_the_door(guarded: TestClient[Any, Any], header: str | None, status: int) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with guarded.get("/v1/status", headers=headers) as response:
        assert response.status == status
        if status == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert (await response.json())["error"]["code"] == "unauthorized"


async def test_without_the_token_not_even_the_routes_are_told(guarded: TestClient[Any, Any]) -> None:
    for target in ("/openapi.json", "/v1/nothing"):
        async with guarded.get(target) as response:
            assert response.status == 401
