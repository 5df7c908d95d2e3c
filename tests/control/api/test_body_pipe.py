# SPDX-License-Identifier: Apache-2.0
"""Bodies between a thread and a loop, over real connections."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from dpd.control.api.body_pipe import PIECE_BYTES, BodyReader, BodyWriter
from dpd.errors import ContentError

CONTENT = os.urandom(3 * PIECE_BYTES + 12345)


class Doors:
    """Two routes: one reads in a thread, one writes in a thread."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    async def take(self, request: web.Request) -> web.Response:
        reader = BodyReader(request)

        def read() -> str:
            whole = hashlib.sha256()
            while piece := reader.read(7000):
                whole.update(piece)
            return whole.hexdigest()

        try:
            return web.Response(text=await asyncio.to_thread(read))
        except ContentError as error:
            self.errors.append(error)
            raise

    async def give(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        writer = BodyWriter(response)

        def write() -> None:
            for begin in range(0, len(CONTENT), 500):
                writer.write(memoryview(CONTENT)[begin : begin + 500])
            writer.flush()

        try:
            await asyncio.to_thread(write)
        except ConnectionError as error:
            self.errors.append(error)
        return response


@pytest.fixture
def doors() -> Doors:
    return Doors()


@pytest.fixture
async def client(doors: Doors, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    application = web.Application(client_max_size=1)
    application.router.add_post("/take", doors.take)
    application.router.add_get("/give", doors.give)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "sock").start()
    async with aiohttp.ClientSession("http://x", connector=aiohttp.UnixConnector(str(tmp_path / "sock"))) as client:
        yield client
    await runner.cleanup()


async def test_every_byte_arrives_in_order(client: aiohttp.ClientSession) -> None:
    async with client.post("/take", data=io.BytesIO(CONTENT)) as reply:
        assert await reply.text() == hashlib.sha256(CONTENT).hexdigest()


async def test_every_byte_leaves_in_order(client: aiohttp.ClientSession) -> None:
    async with client.get("/give") as reply:
        assert await reply.read() == CONTENT


async def test_an_empty_body_is_empty(client: aiohttp.ClientSession) -> None:
    async with client.post("/take") as reply:
        assert await reply.text() == hashlib.sha256().hexdigest()


async def test_a_sender_that_goes_away_is_told(client: aiohttp.ClientSession, doors: Doors) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield CONTENT[:PIECE_BYTES]
        raise ConnectionResetError("gone")

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await client.post("/take", data=cut())
    async with asyncio.timeout(10):
        while not doors.errors:
            await asyncio.sleep(0.01)
    assert "the upload broke off" in str(doors.errors[0])


async def test_a_reader_that_goes_away_ends_the_writing(client: aiohttp.ClientSession, doors: Doors) -> None:
    reply = await client.get("/give")
    await reply.content.readexactly(1000)
    reply.close()
    async with asyncio.timeout(10):
        while not doors.errors:
            await asyncio.sleep(0.01)
