# SPDX-License-Identifier: Apache-2.0
"""Requests to points over the bus, where a point or the bus itself is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.site_server.at_work import at_work

from dpd.bus.connection import BusConnection
from dpd.bus.messages import Answer, Hello, encode
from dpd.control.access.callers import Caller, Role
from dpd.control.api.openapi import JSON, NDJSON
from dpd.database import Database
from dpd.errors import BusError, BusUnavailable, Unavailable
from dpd.settings import Settings
from dpd.site_server.asker import Asker, Question, WholeAnswer
from dpd.site_server.points import Points

ANN = Caller("ann", Role.ADMIN, "unix")


def points_with(database: Database, *heard: str) -> Points:
    points = Points(database, list, lambda: 0)
    for name in heard:
        points.hear(Hello(name, "lab", "0", "ready", 0.0, 0, 0.0, "aa", 0, "", {}))
    return points


async def steering() -> None:
    """This server is the one to ask."""


async def waiting() -> None:
    raise Unavailable("another site server is to be asked")


async def test_a_server_that_waits_asks_no_point(database: Database, settings: Settings) -> None:
    connection = BusConnection(settings.bus, name="test")
    asker = Asker(connection, points_with(database, "hq"), "lab", lambda: 600.0, waiting)
    async with at_work(connection.run([])):
        await connection.connected.wait()
        with pytest.raises(Unavailable, match="another site server is to be asked"):
            await asker.whole("hq", Question("GET", "/v1/status"), ANN)


async def test_without_a_connection_it_is_told_why(database: Database, settings: Settings) -> None:
    asker = Asker(BusConnection(settings.bus, name="test"), points_with(database, "hq"), "lab", lambda: 5.0, steering)
    with pytest.raises(Unavailable, match="no connection to the bus: not connected yet"):
        await asker.whole("hq", Question("GET", "/v1/status"), ANN)


async def test_a_point_that_has_just_gone_is_told_at_once(database: Database, settings: Settings) -> None:
    """It was heard a moment ago, and nobody subscribes to its subject: NATS knows, so nobody waits."""
    connection = BusConnection(settings.bus, name="test")
    asker = Asker(connection, points_with(database, "hq"), "lab", lambda: 600.0, steering)
    async with at_work(connection.run([])):
        await connection.connected.wait()
        with pytest.raises(BusUnavailable, match="point hq is not connected"):
            await asker.whole("hq", Question("GET", "/v1/status"), ANN)


def test_an_answer_that_is_no_json_is_told() -> None:
    with pytest.raises(BusError, match="expected JSON"):
        WholeAnswer(200, "text/html", "<html>").json()


# ---- a point that breaks off


@asynccontextmanager
async def answering(connection: BusConnection, *parts: Answer) -> AsyncIterator[None]:
    """A point that answers every ask so."""
    assert connection.link is not None
    link = connection.link

    async def take(message: Any) -> None:
        for part in parts:
            await link.publish(message.reply, encode(part))

    async with link.subscribed("dpd.lab.ask.hq", take):
        yield


BEGUN, LINES = (
    Answer(0, 200, {"Content-Type": JSON}, '{"machines": ['),
    Answer(0, 200, {"Content-Type": NDJSON}, "{}\n"),
)
NOT_KEPT = '{"error": {"code": "answer_not_kept", "message": "its beginning is not kept"}}\n'


@pytest.mark.parametrize(("text", "words"), [(NOT_KEPT, "point hq: its beginning is not kept"), ("{", "broke off")])
async def test_half_a_document_is_no_answer(database: Database, settings: Settings, text: str, words: str) -> None:
    connection = BusConnection(settings.bus, name="test")
    asker = Asker(connection, points_with(database, "hq"), "lab", lambda: 30.0, steering)
    async with at_work(connection.run([])):
        await connection.connected.wait()
        async with answering(connection, BEGUN, Answer(1, body=text, is_last=True, is_broken=True)):
            with pytest.raises(BusError, match=words):
                await asker.whole("hq", Question("GET", "/v1/machines"), ANN)


async def test_lines_that_break_off_end_with_one_that_says_so(database: Database, settings: Settings) -> None:
    connection = BusConnection(settings.bus, name="test")
    asker = Asker(connection, points_with(database, "hq"), "lab", lambda: 30.0, steering)
    async with at_work(connection.run([])):
        await connection.connected.wait()
        async with answering(connection, LINES, Answer(1, body=NOT_KEPT, is_last=True, is_broken=True)):
            answer = await asker.whole("hq", Question("POST", "/v1/content/A/verify"), ANN)
            assert (answer.status, answer.body) == (200, "{}\n" + NOT_KEPT)
