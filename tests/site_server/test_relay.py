# SPDX-License-Identifier: Apache-2.0
"""Operations at points, passed on by the site server: as they were asked, as they were answered, and to each of a group."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web
from tests.site_process import LoopbackSite

from dpd.bus.messages import Answer
from dpd.cli.client import RefusedByDaemon
from dpd.control.access.callers import Caller, Role
from dpd.control.api.table import ROUTES
from dpd.errors import BusError
from dpd.site_server import relay
from dpd.site_server.asker import Question, WholeAnswer
from dpd.site_server.relay import ask_one, group_routes, point_routes


def raw(
    site: LoopbackSite,
    method: str,
    target: str,
    body: bytes = b"",
    content_type: str = "application/json",
    at: str = "",
) -> Any:
    """Status, headers and text, as any client of HTTP has them."""
    connection = http.client.HTTPConnection("site", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(at or site.server.control_socket)
    connection.request(method, target, body or None, {"Content-Type": content_type} if body else {})
    response = connection.getresponse()
    read = response.status, dict(response.getheaders()), response.read().decode()
    connection.close()
    return read


def test_every_operation_of_a_point_is_passed_on_but_files(site: LoopbackSite) -> None:
    at_points = {(route.method, route.path.removeprefix("/v1/points/{dp}")) for route in point_routes(ROUTES)}
    own = {(route.method, route.path.removeprefix("/v1")) for route in ROUTES if route.path.startswith("/v1/")}
    files = {
        (route.method, route.path.removeprefix("/v1"))
        for route in ROUTES
        if route.reply_type not in ("", "text/event-stream")
    }
    assert at_points == own - files
    roles = {route.path.removeprefix("/v1/points/{dp}"): route.needed_role("") for route in point_routes(ROUTES)}
    assert roles["/sessions"] == next(r for r in ROUTES if r.path == "/v1/sessions" and r.method == "POST").needed_role(
        ""
    )


def test_operation_ids_are_each_of_one_operation() -> None:
    names = [route.verb.__name__ for routes in (ROUTES, point_routes(ROUTES), group_routes(ROUTES)) for route in routes]
    assert len(names) == len(set(names))


def test_an_answer_is_the_points_own(site: LoopbackSite) -> None:
    assert site.at("hq").get("multicast") == site.directly("hq").get("multicast")
    changed = site.at("hq").patch("multicast", body={"uplink_mbit_s": 12.5})
    assert changed == site.directly("hq").get("multicast") == {"uplink_mbit_s": 12.5}
    site.at("hq").patch("multicast", body={"uplink_mbit_s": 0})


def test_a_query_and_an_escaped_path_are_passed_on_as_they_came(site: LoopbackSite) -> None:
    assert site.at("hq").get("audit", limit=1) == site.directly("hq").get("audit", limit=1)
    with pytest.raises(RefusedByDaemon) as at_point:
        site.directly("hq").get("computers", "no body/there")
    with pytest.raises(RefusedByDaemon) as passed_on:
        site.at("hq").get("computers", "no body/there")
    assert str(passed_on.value) == str(at_point.value)


def test_a_whole_url_leads_to_the_same_as_its_path(site: LoopbackSite) -> None:
    """As clients behind a proxy ask (RFC 9112, 3.2.2)."""
    plain = raw(site, "GET", "/v1/points/hq/audit?limit=1")
    assert raw(site, "GET", "http://site.example/v1/points/hq/audit?limit=1")[::2] == plain[::2]
    assert raw(site, "GET", "http://site.example:80/v1/groups/all/audit?limit=1")[0] == 200


@pytest.mark.parametrize("query", ["a/b/c", "%2F", "..%2F..", "a%20b%3F", "//"])
def test_slashes_in_a_query_are_of_the_query(site: LoopbackSite, query: str) -> None:
    at_point = raw(site, "GET", f"/v1/points/hq/content?kind={query}")
    assert at_point[0] == 400
    assert at_point[2] == raw(site, "GET", f"/v1/content?kind={query}", at=site.points["hq"].control_socket)[2]


def test_what_is_wrong_with_a_request_is_told_by_the_site_server_itself(site: LoopbackSite) -> None:
    with pytest.raises(RefusedByDaemon, match="uplink_mbit_s") as caught:
        site.at("hq").patch("multicast", body={"uplink_mbit_s": -1})
    assert caught.value.code == "bad_request"


def test_a_point_that_nobody_knows_is_told_at_once(site: LoopbackSite) -> None:
    with pytest.raises(RefusedByDaemon, match="no distribution point nowhere") as caught:
        site.at("nowhere").get("status")
    assert caught.value.code == "site_not_found"


def test_content_is_not_passed_on_and_says_how_it_goes(site: LoopbackSite) -> None:
    status, _, text = raw(
        site, "POST", "/v1/points/hq/content?package_id=P&name=x", b"bytes", "application/octet-stream"
    )
    assert status == 400
    assert "content does not go over the bus" in text


def test_a_text_that_a_verb_reads_is_passed_on_whole(site: LoopbackSite) -> None:
    """More than a JSON body may be, and less than the bus carries."""
    lines = [f"IMP-{number},02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(3000)]
    text = ("name,mac\n" + "\n".join(lines)).encode()
    assert len(text) > 64 << 10
    status, _, reply = raw(site, "POST", "/v1/points/b1/computers/import?dry_run=true", text, "text/csv")
    assert status == 200, reply
    assert len(json.loads(reply)["added"]) == 3000
    status, _, reply = raw(site, "POST", "/v1/points/b1/computers/import?dry_run=true", text * 6, "text/csv")
    assert (status, "send it in several" in reply) == (400, True)


def test_lines_of_a_long_job_come_through(site: LoopbackSite) -> None:
    image = site.points["hq"].state / "lines.img"
    image.write_bytes(bytes(3 << 20))
    client = site.at("hq")
    *_, last = client.follow("content", body={"package_id": "LINES", "path": str(image)})
    assert last["content"]["package_id"] == "LINES"
    *_, verified = client.follow("content", "LINES", "verify")
    assert verified["content"]["package_id"] == "LINES"
    client.delete("content", "LINES")


def test_a_stream_of_events_of_a_point_comes_through(site: LoopbackSite) -> None:
    connection = http.client.HTTPConnection("site", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(site.server.control_socket)
    connection.request("GET", "/v1/points/hq/events/stream?after=0")
    response = connection.getresponse()
    assert response.headers["Content-Type"].startswith("text/event-stream")
    while b"daemon.ready" not in (line := response.readline()):
        assert line
    connection.close()


def test_a_group_answers_point_by_point(site: LoopbackSite) -> None:
    reply = site.client.get("groups", "all", "multicast")
    assert [(each["point"], each["status"], each["reply"]) for each in reply["points"]] == [
        ("b1", 200, {"uplink_mbit_s": 0}),
        ("hq", 200, {"uplink_mbit_s": 0}),
    ]
    with pytest.raises(RefusedByDaemon, match="no group south"):
        site.client.get("groups", "south", "multicast")


def test_a_refusal_of_one_point_is_its_answer(site: LoopbackSite) -> None:
    reply = site.client.get("groups", "all", "sessions", "abcdef")
    assert {(each["point"], each["status"], each["error"]["code"]) for each in reply["points"]} == {
        ("b1", 404, "session_not_found"),
        ("hq", 404, "session_not_found"),
    }


def test_a_long_job_at_a_group_has_its_outcome_as_the_answer(site: LoopbackSite) -> None:
    reply = site.client.post("groups", "all", "content", "NONE", "verify")
    assert {each["error"]["code"] for each in reply["points"]} == {"content_not_found"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/x-ndjson", ""), ("application/x-ndjson", "{nonsense"), ("application/json", '{"error": 7}')],
)
async def test_a_point_that_answers_nonsense_does_not_spoil_the_groups_answer(content_type: str, body: str) -> None:
    class Odd:
        async def whole(self, *asked: object) -> WholeAnswer:
            return WholeAnswer(500, content_type, body)

    answer = await ask_one(Odd(), "b1", Question("GET", "/v1/status"), Caller("anna", Role.VIEWER, "unix"))  # type: ignore[arg-type]
    assert answer.error is not None
    assert "answer of the point" in answer.error.message


async def test_a_client_that_takes_nothing_ends_the_stream_at_the_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "STALLED_S", 0.3)
    ended = asyncio.Event()

    async def endless() -> AsyncGenerator[Answer, None]:
        try:
            while True:
                yield Answer(1, body="x" * (1 << 20))
        finally:
            ended.set()

    async def stream(request: web.Request) -> web.StreamResponse:
        async with contextlib.aclosing(endless()) as parts:
            return await relay._pass_back(request, Answer(0, 200, {"Content-Type": "application/x-ndjson"}), parts)

    application = web.Application()
    application.router.add_get("/", stream)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        _, port = runner.addresses[0][:2]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            await ended.wait()
        writer.close()
        assert reader is not None
    finally:
        await runner.cleanup()


async def broken(*parts: str) -> AsyncGenerator[Answer, None]:
    for text in parts:
        yield Answer(1, body=text)
    raise BusError("point hq: its answer broke off")


async def test_a_document_is_not_begun_before_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status of 200 could not be taken back."""
    first = Answer(0, 200, {"Content-Type": "application/json; charset=utf-8"}, '{"a": "')
    request: Any = None  # nothing of it is looked at, or it would have been begun
    with pytest.raises(BusError, match="broke off"):
        await relay._pass_back(request, first, broken("x", "y"))
    monkeypatch.setattr(relay, "MAX_WHOLE_CHARACTERS", 10)
    with pytest.raises(BusError, match="ask for less"):
        await relay._pass_back(request, first, broken("x" * 5))
