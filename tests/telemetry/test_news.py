# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another thread brings: woken by it, let go without it, never missed."""

from __future__ import annotations

import asyncio
import threading

from dpd.telemetry.news import News


async def test_who_waits_is_woken_by_a_thread_that_brings_something() -> None:
    news, brought = News(), list[int]()

    def bring() -> None:
        brought.append(1)
        news.release()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(news.wait(lambda: bool(brought), 1000)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(bring)
    assert [each.result() for each in waiting] == [True] * 3


async def test_who_is_let_go_is_told_that_nothing_came() -> None:
    news = News()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(news.wait(lambda: False, 1000))
        await asyncio.sleep(0)
        news.release()
    assert not waiting.result()


async def test_nobody_waits_for_what_is_there_or_without_time() -> None:
    news = News()
    async with asyncio.timeout(60):
        assert await news.wait(lambda: True, 1000)
        assert not await news.wait(lambda: False, 0)
        assert not await news.wait(lambda: False, 0.01)
    assert news._waiting == {}


async def test_what_is_brought_while_somebody_begins_to_wait_is_not_missed() -> None:
    """A thread brings one after the other, as fast as it can, and never waits for who reads."""
    news, count, last = News(), [0], 5000

    def bring() -> None:
        for _ in range(last):
            count[0] += 1
            news.release()

    thread = threading.Thread(target=bring)
    thread.start()
    seen = 0
    async with asyncio.timeout(60):
        while seen < last:
            known = seen
            assert await news.wait(lambda known=known: count[0] > known, 1000) or count[0] == known  # type: ignore[misc]
            seen = count[0]
    thread.join()


def test_a_loop_that_is_closed_hinders_nobody() -> None:
    news = News()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(news.wait(lambda: False, 1000))
    loop.run_until_complete(asyncio.sleep(0))
    kept = dict(news._waiting)
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    news._waiting = kept  # as where the loop was closed in between
    news.release()
    assert news._waiting == {}
