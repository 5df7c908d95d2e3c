# SPDX-License-Identifier: Apache-2.0
"""Bodies that are texts, asked of a real application."""

from __future__ import annotations

import io

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dpd.control.api.body_text import read_text
from dpd.control.api.refusals import RequestRefused


async def echo(request: web.Request) -> web.Response:
    try:
        return web.Response(text=await read_text(request, 10, "write less"))
    except RequestRefused as error:
        return web.Response(status=400, text=str(error))


@pytest.mark.parametrize(
    ("body", "status", "reply"),
    [
        (b"", 200, ""),
        ("zehn Büß".encode(), 200, "zehn Büß"),
        (b"0123456789", 200, "0123456789"),
        (b"0123456789x", 400, "body: larger than 10 bytes; write less"),
        (b"ab\xff", 400, "body: not UTF-8 text: byte 2 is 0xff; save the file as UTF-8"),
    ],
)
async def test_a_text_comes_whole_or_is_refused_in_words(body: bytes, status: int, reply: str) -> None:
    application = web.Application()
    application.router.add_post("/", echo)
    async with TestClient(TestServer(application)) as client:
        async with client.post("/", data=body) as response:
            assert (response.status, await response.text()) == (status, reply)
        async with client.post("/", data=io.BytesIO(body)) as response:
            assert (response.status, await response.text()) == (status, reply)
