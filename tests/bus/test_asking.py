# SPDX-License-Identifier: Apache-2.0
"""The asker's side of a request, against a point that a test plays over a real nats-server, and which loses what it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.bus.site_side import until
from tests.nats_server import NatsServer, needs_nats

from dpd.bus import asking
from dpd.bus.asking import ask
from dpd.bus.link import Link
from dpd.bus.messages import MAX_ASK_BYTES, Answer, Ask, decode, encode
from dpd.errors import BusError, BusUnavailable

pytestmark = needs_nats

ASK = Ask("0123456789abcdef", "GET", "/v1/status")
SUBJECT = "dpd.lab.ask.p1"

Play = Callable[[Ask], list[Answer]]


@asynccontextmanager
async def played(link: Link, play: Play) -> AsyncIterator[list[Ask]]:
    """A point that answers each ask as `play` says; what it was asked."""
    asked: list[Ask] = []

    async def take(message: Any) -> None:
        asked.append(decode(Ask, message.data))
        for part in play(asked[-1]):
            await link.publish(message.reply, encode(part))

    async with link.subscribed(SUBJECT, take):
        yield asked


async def answer(link: Link, request: Ask = ASK, timeout_s: float = 30) -> list[str]:
    return [part.body async for part in ask(link, SUBJECT, request, timeout_s=timeout_s)]


def parts(*numbers: int, last: int = 3) -> list[Answer]:
    return [Answer(number, 200, body=str(number), is_last=number == last) for number in numbers]


async def test_parts_come_in_order_and_the_last_one_ends_it(link: Link) -> None:
    async with played(link, lambda request: parts(0, 1, 2, 3)) as asked:
        assert await answer(link) == ["0", "1", "2", "3"]
    assert asked == [ASK]


async def test_a_lost_part_is_asked_for_again_and_none_comes_twice(link: Link) -> None:
    def play(request: Ask) -> list[Answer]:
        return parts(0, 1, 3) if request.after < 0 else parts(*range(request.after + 1, 4))

    async with played(link, play) as asked:
        assert await answer(link) == ["0", "1", "2", "3"]
    assert [(each.id, each.after) for each in asked] == [(ASK.id, -1), (ASK.id, 1)]


async def test_what_nobody_reads_yet_is_let_go_of_and_asked_for_again(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(asking, "AHEAD_BYTES", 50_000)
    monkeypatch.setattr(asking, "WAITING_SIGN_S", 0.1)
    told = asyncio.Event()

    async def take(message: Any) -> None:
        request = decode(Ask, message.data)
        asked.append(request.after)
        for number in range(request.after + 1, 40):
            part = Answer(number, 200, body=f"{number}".rjust(10_000), is_last=number == 39)
            await link.publish(message.reply, encode(part))
        await link.client.flush()
        told.set()

    asked: list[int] = []
    async with link.subscribed(SUBJECT, take):
        answers = ask(link, SUBJECT, ASK, timeout_s=3)
        found = [(await anext(answers)).body]
        await asyncio.wait_for(told.wait(), 30)
        found += [part.body async for part in answers]
    assert [int(each) for each in found] == list(range(40))
    assert len(asked) > 1


async def test_parts_that_come_twice_are_told_once(link: Link) -> None:
    async with played(link, lambda request: parts(0, 0, 1, 0, 1, 2, 2, 3)):
        assert await answer(link) == ["0", "1", "2", "3"]


async def test_a_point_that_works_gives_signs_and_may_take_longer_than_the_timeout(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(asking, "WAITING_SIGN_S", 0.2)

    async def take(message: Any) -> None:
        for _ in range(8):
            await link.publish(message.reply, encode(Answer(0, is_waiting=True)))
            await asyncio.sleep(0.1)
        await link.publish(message.reply, encode(Answer(0, 200, body="done", is_last=True)))

    async with link.subscribed(SUBJECT, take):
        assert await answer(link, timeout_s=0.6) == ["done"]


async def test_a_lost_end_is_found_by_the_next_sign(link: Link) -> None:
    def play(request: Ask) -> list[Answer]:
        return [*parts(0, 1, 2), Answer(4, is_waiting=True)] if request.after < 0 else parts(3)

    async with played(link, play):
        assert await answer(link) == ["0", "1", "2", "3"]


async def test_a_point_that_is_not_there_is_told_at_once(link: Link) -> None:
    with pytest.raises(BusUnavailable, match="point p1 is not connected to the bus"):
        await answer(link, timeout_s=600)


async def test_a_point_that_says_nothing_is_asked_again_and_then_given_up(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(asking, "WAITING_SIGN_S", 0.1)
    async with played(link, lambda request: []) as asked:
        with pytest.raises(BusUnavailable, match=r"point p1 gave no answer within 0\.3 s"):
            await answer(link, timeout_s=0.2)
    assert [each for each in asked if not each.is_over] == [ASK] * asking.TRIES


async def test_who_stops_reading_tells_the_point(link: Link) -> None:
    async with played(link, lambda request: [] if request.is_over else parts(0, 1)) as asked:
        stream = ask(link, SUBJECT, ASK, timeout_s=30)
        assert (await anext(stream)).body == "0"
        await stream.aclose()
        await until(lambda: asked[-1].is_over, "the word that it is over")
    assert asked[-1].id == ASK.id


async def test_a_broken_link_ends_it(link: Link, hub: NatsServer) -> None:
    async with played(link, lambda request: parts(0)):
        stream = ask(link, SUBJECT, ASK, timeout_s=600)
        assert (await anext(stream)).body == "0"
        hub.kill()
        with pytest.raises(BusUnavailable, match="the connection to the bus broke"):
            await anext(stream)


async def test_a_body_that_is_too_large_is_refused_here(link: Link) -> None:
    with pytest.raises(BusError, match="does not go over the bus"):
        await answer(link, Ask("0123456789abcdef", "POST", "/v1/x", "x" * (MAX_ASK_BYTES + 1)))


async def test_an_asker_that_follows_says_again_that_it_does(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LEASE_S", 0.3)

    async def take(message: Any) -> None:
        request = decode(Ask, message.data)
        asked.append(request.after)
        if request.after < 0:
            for number in range(20):
                await link.publish(message.reply, encode(Answer(number, 200, body="x")))
                await asyncio.sleep(0.05)
            await link.publish(message.reply, encode(Answer(20, is_last=True)))

    asked: list[int] = []
    async with link.subscribed(SUBJECT, take):
        assert len(await answer(link)) == 21
        await until(lambda: len(asked) > 2, "renewals")
    assert sorted(asked) == asked


@pytest.mark.parametrize(("method", "words"), [("POST", "may have been done"), ("GET", "Ask again")])
async def test_a_time_out_tells_whether_something_may_have_been_done(
    link: Link, monkeypatch: pytest.MonkeyPatch, method: str, words: str
) -> None:
    monkeypatch.setattr(asking, "WAITING_SIGN_S", 0.1)
    async with played(link, lambda request: []):
        with pytest.raises(BusUnavailable, match=words):
            await answer(link, Ask(ASK.id, method, "/v1/jobs"), timeout_s=0.2)


async def test_a_point_that_goes_away_after_it_was_asked_may_have_done_it(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(asking, "WAITING_SIGN_S", 0.1)
    heard = asyncio.Event()

    async def take(message: Any) -> None:
        heard.set()

    async with link.subscribed(SUBJECT, take):
        asked = asyncio.get_running_loop().create_task(answer(link, Ask(ASK.id, "POST", "/v1/jobs"), timeout_s=3))
        await heard.wait()
    with pytest.raises(BusUnavailable, match=r"no longer connected.*may have been done"):
        await asked
