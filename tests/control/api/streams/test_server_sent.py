# SPDX-License-Identifier: Apache-2.0
"""Server-sent events over a real connection; of clients that stall or go, the tests of both streams tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from dpd.control.access.callers import DOOR, Caller, CallerUnknown, Door, Role
from dpd.control.api.streams.server_sent import EVENT_STREAM, send


class Keeper:
    """A door that somebody shuts."""

    def __init__(self) -> None:
        self.is_open = True

    def __call__(self, request: web.Request) -> Caller:
        if not self.is_open:
            raise CallerUnknown("the token was taken back")
        return Caller("anna", Role.VIEWER, "unix")


async def told(socket: Path, door: Door, pages: AsyncIterator[bytes]) -> tuple[str, bytes]:
    """The content type, and all that a client gets until the stream ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        request[DOOR] = door
        return await send(request, b"id: 7\n\n", pages, lambda page: b"data: %b\n\n" % page)

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        connector = aiohttp.UnixConnector(str(socket))
        async with aiohttp.ClientSession("http://dpd", connector=connector) as client, client.get("/") as answer:
            return answer.content_type, await answer.read()
    finally:
        await runner.cleanup()


async def test_pages_come_behind_the_beginning_until_there_are_no_more(tmp_path: Path) -> None:
    async def pages() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    kind, text = await told(tmp_path / "s", Keeper(), pages())
    assert kind == EVENT_STREAM
    assert text == b"retry: 1000\nid: 7\n\ndata: one\n\ndata: two\n\n"


async def test_who_is_known_no_more_gets_nothing_more(tmp_path: Path) -> None:
    door = Keeper()

    async def pages() -> AsyncIterator[bytes]:
        yield b"one"
        door.is_open = False
        yield b"two"

    _, text = await told(tmp_path / "s", door, pages())
    assert text == b"retry: 1000\nid: 7\n\ndata: one\n\n"
