# SPDX-License-Identifier: Apache-2.0
"""Following deployments under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.control.deploying import Deploying
from tests.deployment.executions import begin, said

from dpd.control.operations import execution as execution_operations
from dpd.control.operations.execution import KEPT_FOR_OPERATORS, MAX_FOLLOWERS, ExecutionOperations
from dpd.deployment.execution import Execution
from dpd.deployment.execution_table import Wanted
from dpd.errors import Unavailable

PATIENCE_S = 60.0


@pytest.fixture
async def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deploying]:
    monkeypatch.setattr(execution_operations, "GATHER_S", 0.01)
    point = Deploying(tmp_path)
    async with point.open():
        yield point


async def test_a_follower_gets_what_is_and_then_what_changes(point: Deploying) -> None:
    ended, running = begin(point.book, "pc-1"), begin(point.book, "pc-2")
    point.book.take_reports(ended, [said(1, "", "sequence_done")], 1010.0)
    pages = point.operations.executions.follow(Wanted(), PATIENCE_S)
    async with aclosing(pages), asyncio.timeout(PATIENCE_S):
        assert [each.id for each in await anext(pages)] == [ended, running]
        await asyncio.to_thread(point.book.take_reports, running, [said(1, "1", "started", "begins")], 1010.0)
        assert [each.message for each in await anext(pages)] == ["begins"]
        later = asyncio.ensure_future(anext(pages))
        third = await asyncio.to_thread(begin, point.book, "pc-3")
        assert [each.id for each in await later] == [third]


async def test_a_thousand_changes_are_told_as_what_came_of_them(point: Deploying) -> None:
    id = begin(point.book)
    point.book.take_reports(id, [said(1, "2.1", "started")], 1010.0)
    pages = point.operations.executions.follow(Wanted(), PATIENCE_S)
    told = 0
    async with aclosing(pages), asyncio.timeout(PATIENCE_S):
        await anext(pages)
        for done in range(1, 1001):
            point.book.take_reports(id, [said(0, "2.1", "progress", done_bytes=done)], 1010.0)
        async for page in pages:
            told += len(page)
            step = page[-1].find_step("2.1")
            if step is not None and step.done_bytes == 1000:
                break
    assert told < 1000


@pytest.mark.parametrize("wanted", [Wanted(machine="PC-2"), Wanted(deployment=8)])
async def test_who_asks_for_some_hears_of_those(point: Deploying, wanted: Wanted) -> None:
    other, meant = begin(point.book, "pc-1"), begin(point.book, "pc-2", deployment=8)
    pages = point.operations.executions.follow(wanted, PATIENCE_S)
    async with aclosing(pages), asyncio.timeout(PATIENCE_S):
        assert [each.id for each in await anext(pages)] == [meant]
        point.book.take_reports(other, [said(1, "1", "started")], 1010.0)
        point.book.take_reports(meant, [said(1, "1", "started")], 1010.0)
        assert [each.id for each in await anext(pages)] == [meant]


async def test_where_nothing_changes_a_heartbeat_comes_and_a_drain_ends_it(point: Deploying) -> None:
    async def read(pages: AsyncIterator[Sequence[Execution]]) -> list[Sequence[Execution]]:
        return [page async for page in pages]

    pages = point.operations.executions.follow(Wanted(), 0.01)
    async with aclosing(pages), asyncio.timeout(PATIENCE_S):
        assert await anext(pages) == []
        assert await anext(pages) == ()
        point.operations.drain()
        assert all(page == () for page in await read(pages))
    assert point.operations.executions._followers == 0


async def test_those_who_only_look_on_leave_places_for_operators(point: Deploying) -> None:
    executions = point.operations.executions
    executions._followers = MAX_FOLLOWERS - KEPT_FOR_OPERATORS
    with pytest.raises(Unavailable, match="as many as may"):
        executions.refuse_crowd(is_operator=False)
    executions.refuse_crowd(is_operator=True)
    executions._followers = MAX_FOLLOWERS
    with pytest.raises(Unavailable, match="as many as may"):
        executions.refuse_crowd(is_operator=True)


async def test_without_a_book_every_verb_says_so() -> None:
    async def never(*_: object) -> None: ...

    with pytest.raises(Unavailable, match="keeps no book"):
        await ExecutionOperations(None, never, lambda: False).list(Wanted(), 1)
