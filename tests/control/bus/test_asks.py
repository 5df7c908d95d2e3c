# SPDX-License-Identifier: Apache-2.0
"""What the site server asks of a point: over a real nats-server, of an application whose answers a test holds in its hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from nats.js.api import AckPolicy, ConsumerConfig
from tests.bus.site_side import CALLER, SITE, SiteSide, until
from tests.nats_server import NatsServer, needs_nats

from dpd.bus.asking import ask
from dpd.bus.connection import BusConnection
from dpd.bus.messages import Answer, Ask, BusCaller, decode, encode
from dpd.bus.subjects import SITE_SERVER
from dpd.bus_settings import BusSettings
from dpd.control.access.callers import Door
from dpd.control.bus import asks as bus_asks
from dpd.control.bus.asks import AskDesk
from dpd.control.bus.door import BusDoor
from dpd.control.bus.memory import BusMemory

pytestmark = needs_nats

LARGE = {"text": "ä€😀" * 200_000}


class Api:
    """Counts what it does."""

    def __init__(self) -> None:
        self.done = 0
        self.streams = 0
        self.go_on = asyncio.Event()

    def make(self, door: Door) -> web.Application:
        application = web.Application()
        application.router.add_post("/v1/do", self._do)
        application.router.add_post("/v1/wait", self._wait)
        application.router.add_get("/v1/stream", self._stream)
        application.router.add_get("/v1/large", self._large)
        application.router.add_get("/v1/file", self._file)
        application.router.add_get("/v1/broken", self._broken)
        return application

    async def _do(self, request: web.Request) -> web.Response:
        self.done += 1
        return web.json_response({"done": self.done, "sent": await request.text()})

    async def _wait(self, request: web.Request) -> web.Response:
        self.done += 1
        await self.go_on.wait()
        return web.json_response({"done": self.done})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        self.streams += 1
        try:
            for number in range(int(request.query["count"])):
                await response.write(b'{"number": %d}\n' % number)
                if "slow" in request.query:
                    await asyncio.sleep(0.05)
            return response
        finally:
            self.streams -= 1

    async def _large(self, request: web.Request) -> web.Response:
        return web.json_response(LARGE, dumps=lambda value: json.dumps(value, ensure_ascii=False))

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(body=b"\0" * 1000, content_type="application/octet-stream")

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(b'{"number": 0}\n')
        assert request.transport is not None
        request.transport.abort()
        return response


class Place:
    """The hub, the site, and a point's desk that may be started anew."""

    def __init__(self, hub: NatsServer, site: SiteSide, folder: Path) -> None:
        self.hub, self.site, self.api = hub, site, Api()
        self.connection = BusConnection(BusSettings(url=hub.url), name="point")
        self._folder = folder

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            memory = BusMemory(self._folder / "bus.db")
            stack.callback(memory.close)
            door = BusDoor(self._folder, SITE)
            await door.open(stack, self.api.make)
            desk = self.desk = AskDesk(door, memory, SITE, "p1", self.connection.stats)
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self.connection.run([desk.attend])), tasks.create_task(desk.run())]
                async with asyncio.timeout(30):
                    await self.connection.connected.wait()
                await asyncio.sleep(0.1)
                yield
                for task in running:
                    task.cancel()

    async def ask(self, method: str, target: str, body: str = "", **more: Any) -> tuple[int, str]:
        return await self.site.ask("p1", method, target, body, **more)

    @property
    def outcomes(self) -> dict[str, int]:
        return self.connection.stats.asks


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    with NatsServer(tmp_path / "nats") as hub:
        async with SiteSide(hub.url) as site:
            yield Place(hub, site, tmp_path)


async def test_an_ask_is_done_and_its_body_comes_and_goes(place: Place) -> None:
    async with place.served():
        status, text = await place.ask("POST", "/v1/do", '{"a": "ä"}')
    assert (status, json.loads(text)) == (200, {"done": 1, "sent": '{"a": "ä"}'})
    assert place.outcomes == {"done": 1}


async def test_the_same_id_is_never_done_twice_and_gets_the_same_answer(place: Place) -> None:
    async with place.served():
        first = await place.ask("POST", "/v1/do", id="the-same-id")
        assert await place.ask("POST", "/v1/do", id="the-same-id") == first
        await place.ask("POST", "/v1/do", id="another-id")
    assert place.api.done == 2


async def test_an_ask_that_is_repeated_while_it_is_done_is_done_once_and_answers_both(place: Place) -> None:
    async with place.served():
        asking = [asyncio.create_task(place.ask("POST", "/v1/wait", id="the-same-id")) for _ in range(2)]
        await until(lambda: place.api.done, "its beginning")
        place.api.go_on.set()
        answers = await asyncio.gather(*asking)
    assert answers[0] == answers[1] == (200, '{"done": 1}')


async def test_what_was_begun_before_a_restart_is_not_done_again(place: Place) -> None:
    async with place.served():
        await place.ask("POST", "/v1/do", id="the-same-id")
    async with place.served():
        status, text = await place.ask("POST", "/v1/do", id="the-same-id")
    assert (status, place.api.done) == (400, 1)
    assert "begun before dpd started anew, and is not done twice" in text


async def test_what_was_asked_goes_on_over_a_killed_server_and_answers_who_asks_again(place: Place) -> None:
    async with place.served():
        lost = asyncio.create_task(place.ask("POST", "/v1/wait", id="the-same-id"))
        await until(lambda: place.api.done, "its beginning")
        place.hub.kill()
        with pytest.raises(Exception, match="the connection to the bus broke"):
            await lost
        place.hub.start()
        place.api.go_on.set()
        await until(lambda: place.connection.link, "the point's link")
        await asyncio.sleep(0.2)
        assert await place.ask("POST", "/v1/wait", id="the-same-id") == (200, '{"done": 1}')
    assert place.api.done == 1


async def test_a_long_answer_comes_whole_in_parts(place: Place) -> None:
    async with place.served():
        status, text = await place.ask("GET", "/v1/large")
    assert (status, json.loads(text)) == (200, LARGE)


async def test_a_long_answer_whose_beginning_is_not_kept_is_told_as_broken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Who lost a part in the middle cannot take the rest for the whole."""
    monkeypatch.setattr(bus_asks, "MAX_ANSWER_BYTES", 500_000)
    request = Ask("id-of-a-long-one", "GET", "/v1/large", caller=CALLER)
    async with place.served():
        assert (await place.ask("GET", "/v1/large", id=request.id))[0] == 200
        link = await place.site.linked()
        again = msgspec.structs.replace(request, after=0)
        (told,) = [part async for part in ask(link, place.site.subjects.ask("p1"), again, timeout_s=30)]
        assert (told.sequence, told.is_broken, told.is_last) == (1, True, True)
        assert json.loads(told.body)["error"]["code"] == "answer_not_kept"
        status, text = await place.ask("GET", "/v1/large", id=request.id)
        assert (status, json.loads(text)["error"]["code"]) == (410, "answer_not_kept")


async def test_lines_come_as_they_are_told(place: Place) -> None:
    async with place.served():
        link = await place.site.linked()
        request = Ask("0123456789", "GET", "/v1/stream?count=20&slow=1", caller=CALLER)
        parts = [part async for part in ask(link, place.site.subjects.ask("p1"), request, timeout_s=30)]
    assert (parts[0].status, parts[0].headers["Content-Type"]) == (200, "application/x-ndjson")
    assert len(parts) > 10  # not all at once at the end
    assert [json.loads(line)["number"] for line in "".join(part.body for part in parts).splitlines()] == list(range(20))


async def test_a_stream_ends_when_its_asker_goes(place: Place) -> None:
    async with place.served():
        link = await place.site.linked()
        request = Ask("0123456789", "GET", "/v1/stream?count=1000000&slow=1", caller=CALLER)
        stream = ask(link, place.site.subjects.ask("p1"), request, timeout_s=30)
        await anext(stream)
        assert place.api.streams == 1
        await stream.aclose()
        await until(lambda: place.api.streams == 0, "the end of the stream")
        assert (await place.ask("POST", "/v1/do"))[0] == 200


async def test_a_stream_of_whose_asker_nothing_is_heard_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_asks, "LEASE_S", 0.5)
    async with place.served():
        link = await place.site.linked()
        request = Ask("0123456789", "GET", "/v1/stream?count=1000000&slow=1", caller=CALLER)
        await link.publish(
            place.site.subjects.ask("p1"),
            json.dumps(_built(request)).encode(),
            reply=f"{place.site.subjects.inbox(SITE_SERVER)}.nobody",
        )
        await until(lambda: place.api.streams == 1, "the stream")
        await until(lambda: place.api.streams == 0, "its end")
    assert place.outcomes == {"ended": 1}


async def test_what_changes_something_goes_on_when_its_asker_goes(place: Place) -> None:
    async with place.served():
        link = await place.site.linked()
        stream = ask(link, place.site.subjects.ask("p1"), Ask("0123456789", "POST", "/v1/wait", caller=CALLER), timeout_s=30)  # fmt: skip
        reading = asyncio.create_task(anext(stream))
        await until(lambda: place.api.done, "its beginning")
        reading.cancel()
        await asyncio.sleep(0.2)
        place.api.go_on.set()
        await until(lambda: place.outcomes == {"done": 1}, "its end")


@pytest.mark.parametrize(
    ("method", "target", "body", "content_type", "words"),
    [
        ("GET", "/v1/file", "", "application/json", "a file, which does not go over the bus"),
        ("POST", "/v1/do", "x", "application/octet-stream", "files do not go over the bus"),
        ("POST", "/elsewhere", "", "application/json", "expected a path of the API"),
        ("TRACE\r\n", "/v1/do", "", "application/json", "expected one of GET, HEAD, POST"),
    ],
)
async def test_what_does_not_go_over_the_bus_is_refused_with_a_sentence(place: Place, method: str, target: str, body: str, content_type: str, words: str) -> None:  # fmt: skip
    async with place.served():
        status, text = await place.ask(method, target, body, content_type=content_type)
    assert status == 400
    assert words in json.loads(text)["error"]["message"]
    assert place.api.done == 0


async def test_an_answer_that_breaks_off_ends_with_an_error_line(place: Place) -> None:
    async with place.served():
        status, text = await place.ask("GET", "/v1/broken")
    lines = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert lines[-1]["error"]["code"] == "bus_refused"


async def test_more_than_may_be_done_at_once_is_told_to_ask_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(bus_asks, "MAX_OPEN", 2)
    async with place.served():
        waiting = [asyncio.create_task(place.ask("POST", "/v1/wait")) for _ in range(2)]
        await until(lambda: place.api.done == 2, "both")
        status, text = await place.ask("POST", "/v1/do", id="the-third-one")
        assert (status, json.loads(text)["error"]["code"]) == (503, "unavailable")
        place.api.go_on.set()
        await asyncio.gather(*waiting)
        assert (await place.ask("POST", "/v1/do", id="the-third-one"))[0] == 200  # it was never begun


async def test_who_only_looks_on_keeps_no_operator_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_asks, "MAX_OPEN", 4)
    monkeypatch.setattr(bus_asks, "KEPT_FOR_OPERATORS", 2)
    viewer = BusCaller("anonymous", "viewer")
    async with place.served():
        looking = [
            asyncio.create_task(place.ask("GET", "/v1/stream?count=100000&slow=1", caller=viewer)) for _ in range(2)
        ]
        await until(lambda: place.api.streams == 2, "both streams")
        status, text = await place.ask("GET", "/v1/large", caller=viewer)
        assert (status, json.loads(text)["error"]["code"]) == (503, "unavailable")
        assert (await place.ask("GET", "/v1/large", caller=BusCaller("bob", "operator")))[0] == 200
        assert (await place.ask("POST", "/v1/do", caller=BusCaller("bob", "operator")))[0] == 200
        for task in looking:
            task.cancel()
        await asyncio.wait(looking)


async def test_rubbish_is_answered_with_what_is_wrong(place: Place) -> None:
    async with place.served():
        link = await place.site.linked()
        message = await link.client.request(place.site.subjects.ask("p1"), b'{"id": 7}', timeout=30)
        part = decode(Answer, message.data)
    assert (part.status, part.is_last) == (400, True)
    assert "$.id" in part.body


async def test_only_the_site_server_is_heard(place: Place) -> None:
    """A consumer, which any point may make, delivers what was put in a bucket to wherever it is told: here, as an ask."""
    async with place.served():
        link = await place.site.linked()
        forged = Ask("0123456789", "POST", "/v1/do", caller=CALLER)
        bucket = await link.bucket(place.site.subjects.runs_bucket)
        await bucket.put("1.forged", encode(forged))
        await link.jetstream.add_consumer(
            f"KV_{place.site.subjects.runs_bucket}",
            ConsumerConfig(deliver_subject=place.site.subjects.ask("p1"), ack_policy=AckPolicy.NONE),
        )
        await until(lambda: place.outcomes == {"stranger": 1}, "the forged ask")
    assert place.api.done == 0


async def test_answers_that_are_whole_are_forgotten_by_age_and_size(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(bus_asks, "KEPT_BYTES", 100)
    async with place.served():
        for number in range(5):
            await place.ask("POST", "/v1/do", "x" * 80, id=f"id-of-number-{number}")
        await asyncio.sleep(1.5)
        status, text = await place.ask("POST", "/v1/do", id="id-of-number-0")
        assert (status, place.api.done) == (400, 5)
        assert "not done twice" in text


def _built(request: Ask) -> dict[str, Any]:
    return {"id": request.id, "target": request.target, "caller": {"name": "anna", "role": "admin"}}


async def test_what_was_sent_is_not_kept_with_the_answer(place: Place) -> None:
    """Answers are kept for minutes, and bounded by their own bytes."""
    async with place.served():
        await place.ask("POST", "/v1/do", "x" * 300_000, content_type="text/csv")
        assert [len(each.ask.body) for each in place.desk._given.values()] == [0]
