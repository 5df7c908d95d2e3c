# SPDX-License-Identifier: Apache-2.0
"""A long reply: early failure, late failure, a client that goes away, reports from a worker's thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from dpd.content.library import Content, Library, Progress
from dpd.control.access.listener import bind_tcp, serve
from dpd.control.api.streams.job import Job, stream_job
from dpd.errors import ContentCorrupt, DpdError


@asynccontextmanager
async def serving(job: Job, early: list[DpdError]) -> AsyncIterator[aiohttp.ClientSession]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await stream_job(request, job)
        except DpdError as error:
            early.append(error)
            return web.Response(status=400)

    application = web.Application()
    application.router.add_get("/", handle)
    async with AsyncExitStack() as stack:
        sock = bind_tcp("127.0.0.1:0", "test")
        await serve(stack, application, sock)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        yield await stack.enter_async_context(aiohttp.ClientSession(base))


@pytest.fixture
def content(library: Library, image: Path) -> Content:
    return library.publish(image, "LAB1")


async def test_reports_of_a_thread_arrive_thinned_out_and_the_last_one_for_certain(content: Content) -> None:
    def work(progress: Progress) -> Content:
        for done in range(1, 1001):
            progress(done, 1000)
        return content

    async def job(progress: Progress) -> Content:
        return await asyncio.to_thread(work, progress)

    async with serving(job, []) as client, client.get("/") as response:
        lines = [json.loads(line) async for line in response.content]
    assert len(lines) < 100
    assert lines[-2] == {"progress": {"done_bytes": 1000, "total_bytes": 1000}}
    assert lines[-1]["content"]["package_id"] == "LAB1"


async def test_a_job_without_progress_still_tells_its_content(content: Content) -> None:
    async def job(progress: Progress) -> Content:
        return content

    async with serving(job, []) as client, client.get("/") as response:
        (line,) = [json.loads(line) async for line in response.content]
    assert line["content"]["sha256"] == content.sha256


async def test_what_fails_before_any_progress_is_raised() -> None:
    failure = ContentCorrupt("no WIM")

    async def job(progress: Progress) -> Content:
        raise failure

    early: list[DpdError] = []
    async with serving(job, early) as client, client.get("/") as response:
        assert response.status == 400
    assert early == [failure]


async def test_what_fails_later_is_the_last_line() -> None:
    async def job(progress: Progress) -> Content:
        progress(1, 2)
        await asyncio.sleep(0)
        raise ContentCorrupt("slab 1")

    async with serving(job, []) as client, client.get("/") as response:
        lines = [json.loads(line) async for line in response.content]
    assert lines == [
        {"progress": {"done_bytes": 1, "total_bytes": 2}},
        {"error": {"code": "content_corrupt", "message": "slab 1"}},
    ]


async def test_a_client_that_goes_away_does_not_end_the_job(content: Content) -> None:
    gone, ended = asyncio.Event(), asyncio.Event()

    async def job(progress: Progress) -> Content:
        progress(1, 2)
        await gone.wait()
        for done in (2, 2, 2, 2):  # the first write after a reset may still succeed
            progress(done, 2)
            await asyncio.sleep(0.01)
        ended.set()
        return content

    async with serving(job, []) as client:
        response = await client.get("/")
        await response.content.readline()
        response.close()
        gone.set()
        await asyncio.wait_for(ended.wait(), 5)
