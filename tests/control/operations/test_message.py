# SPDX-License-Identifier: Apache-2.0
"""Positions, pages and following: nothing left out and nothing twice, in whatever state the series is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from dpd.control.operations import message as message_operations
from dpd.control.operations.message import MessageOperations, Page, Position, PositionRefused
from dpd.errors import Unavailable
from dpd.telemetry.spool import Spool
from dpd.telemetry.spool_file import SpoolError, SpoolLimits
from dpd.telemetry.status_messages import Severity

PATIENCE_S = 30.0


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "messages.db", limits=SpoolLimits(100, 1 << 20))) as spool:
        yield spool


@pytest.fixture
def messages(spool: Spool) -> MessageOperations:
    return MessageOperations(spool, lambda: False)


def put(spool: Spool, count: int, event: str = "job.done") -> None:
    for _ in range(count):
        spool.put(event, {})
    assert spool.flush(PATIENCE_S)


def sequences(page: Page) -> list[int]:
    return [each.sequence for each in page.messages]


def test_without_messages_it_is_said_what_to_do() -> None:
    with pytest.raises(Unavailable, match="dpd serve"):
        MessageOperations(None, lambda: False).position(None)


def test_a_position_is_the_end_or_what_is_given_and_never_beyond_the_end(
    spool: Spool, messages: MessageOperations
) -> None:
    put(spool, 5)
    assert messages.position(None) == Position(spool.epoch, 5)
    assert messages.position("0") == Position(spool.epoch, 0)
    assert messages.position(f"{spool.epoch}-3") == Position(spool.epoch, 3)
    assert messages.position("1000000") == Position(spool.epoch, 5)
    assert str(messages.position("3")) == f"{spool.epoch}-3"


@pytest.mark.parametrize("text", ["0123456789abcdef-3", "-3"], ids=["other disk", "no disk then"])
def test_of_another_series_everything_is_new(spool: Spool, messages: MessageOperations, text: str) -> None:
    put(spool, 5)
    assert messages.position(text) == Position(spool.epoch, 0)


@pytest.mark.parametrize("text", ["", "x", "-", "1.5", "-1-1", "9" * 30, "0123456789abcdef0-1"])
def test_what_is_no_position_is_refused(messages: MessageOperations, text: str) -> None:
    with pytest.raises(PositionRefused, match="position"):
        messages.position(text)


async def test_pages_follow_each_other_without_a_gap(spool: Spool, messages: MessageOperations) -> None:
    put(spool, 25)
    found, behind = [], messages.position("0")
    while (page := await messages.page(behind, 10)).messages:
        found += sequences(page)
        behind = page.position
    assert found == list(range(1, 26))
    assert behind == Position(spool.epoch, 25)


async def test_who_asks_for_the_severe_alone_gets_on_past_the_others(spool: Spool, messages: MessageOperations) -> None:
    put(spool, 10)
    put(spool, 1, "job.failed")
    put(spool, 10)
    page = await messages.page(messages.position("0"), 10, Severity.ERROR)
    assert (sequences(page), page.position.sequence) == ([11], 21)
    page = await messages.page(messages.position("0"), 1, Severity.ERROR)
    assert (sequences(page), page.position.sequence) == ([11], 11), "a full page may not be all"


async def test_the_newest_come_in_order_and_lead_on(spool: Spool, messages: MessageOperations) -> None:
    put(spool, 20)
    page = await messages.newest(3)
    assert (sequences(page), page.position.sequence, page.missed) == ([18, 19, 20], 20, None)


async def test_what_was_dropped_before_it_was_asked_for_is_told(spool: Spool, messages: MessageOperations) -> None:
    put(spool, 5)
    behind = messages.position("3")
    put(spool, 300)
    page = await messages.page(behind, 1000)
    assert page.missed == (4, spool.oldest - 1)
    assert sequences(page) == list(range(spool.oldest, 306))
    assert (await messages.page(page.position, 1000)).missed is None


async def test_followers_each_get_everything_once(spool: Spool, messages: MessageOperations) -> None:
    put(spool, 7)

    async def follow(behind: Position) -> list[int]:
        found: list[int] = []
        async with aclosing(messages.follow(behind, Severity.INFO, PATIENCE_S)) as pages:
            async for page in pages:
                found += sequences(page)
                if found and found[-1] == 67:
                    break
        return found

    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(messages.position(text))) for text in ("0", "5", None)]
        for _ in range(20):
            await asyncio.to_thread(put, spool, 3)
    assert [each.result() for each in following] == [list(range(first, 68)) for first in (1, 6, 8)]


async def test_a_silent_time_is_told_by_an_empty_page_and_a_drain_ends_with_everything_told(spool: Spool) -> None:
    is_draining = False
    messages = MessageOperations(spool, lambda: is_draining)
    async with aclosing(messages.follow(messages.position(None), Severity.INFO, 0.05)) as pages:
        assert sequences(await anext(pages)) == []
        is_draining = True
        await asyncio.to_thread(put, spool, 2)
        spool.release()
        told = [sequence async for page in pages for sequence in sequences(page)]
    assert told == [1, 2]


async def test_a_follower_of_a_series_that_is_no_more_gets_the_new_one_from_its_beginning(spool: Spool) -> None:
    messages = MessageOperations(spool, lambda: False)
    put(spool, 3)
    behind = Position("0123456789abcdef", 1000)
    async with aclosing(messages.follow(behind, Severity.INFO, PATIENCE_S)) as pages:
        assert sequences(await anext(pages)) == [1, 2, 3]


class Unreadable:
    """A series whose disk gives nothing for a while."""

    epoch, latest, oldest = "0123456789abcdef", 1, 1

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.is_broken = True

    def after(self, sequence: int, limit: int, *, severity: Severity) -> list[object]:
        if self.is_broken:
            raise SpoolError("the disk gives nothing")
        return list(self._spool.after(sequence, limit, severity=severity))

    async def news(self, sequence: int, wait_s: float) -> bool:
        return True


async def test_a_follower_outlives_a_disk_that_gives_nothing_for_a_while(spool: Spool) -> None:
    put(spool, 1)
    series = Unreadable(spool)
    messages = MessageOperations(series, lambda: False)  # type: ignore[arg-type]
    async with aclosing(messages.follow(messages.position("0"), Severity.INFO, 0.01)) as pages:
        assert sequences(await anext(pages)) == []
        assert sequences(await anext(pages)) == []
        series.is_broken = False
        assert sequences(await anext(pages)) == [1]


async def test_no_more_than_so_many_follow(
    spool: Spool, messages: MessageOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_operations, "MAX_FOLLOWERS", 2)
    monkeypatch.setattr(message_operations, "KEPT_FOR_OPERATORS", 1)
    put(spool, 1)
    async with aclosing(messages.follow(messages.position("0"), Severity.INFO, 1)) as pages:
        await anext(pages)
        with pytest.raises(Unavailable, match=r"1 follow.* are for operators"):
            await anext(messages.follow(messages.position("0"), Severity.INFO, 1))
        operator = messages.follow(messages.position("0"), Severity.INFO, 1, is_operator=True)
        async with aclosing(operator) as places:
            assert sequences(await anext(places)) == [1]
            with pytest.raises(Unavailable, match="2 follow"):
                messages.refuse_crowd(is_operator=True)
    async with aclosing(messages.follow(messages.position("0"), Severity.INFO, 1)) as pages:
        assert sequences(await anext(pages)) == [1]


class Replaced:
    """A series that another takes the place of while it is read."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.epoch, self.latest, self.oldest = "0123456789abcdef", 9, 1

    def after(self, sequence: int, limit: int, *, severity: Severity) -> list[object]:
        self.epoch = self._spool.epoch
        return list(self._spool.after(sequence, limit, severity=severity))

    def last(self, limit: int, *, severity: Severity) -> list[object]:
        return self.after(0, limit, severity=severity)


async def test_messages_of_a_series_that_just_began_are_not_taken_for_those_of_another(spool: Spool) -> None:
    put(spool, 12)
    page = await MessageOperations(Replaced(spool), lambda: False).page(Position("0123456789abcdef", 5), 100)  # type: ignore[arg-type]
    assert (sequences(page), page.position.epoch) == (list(range(1, 13)), spool.epoch)
    newest = await MessageOperations(Replaced(spool), lambda: False).newest(100)  # type: ignore[arg-type]
    assert newest.position.epoch == spool.epoch
