# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests that are read whole: bounded in bytes and in time, and what is no JSON object is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from dpd.service.http import request_body
from dpd.service.http.file_answers import Refusal
from dpd.service.http.request_body import read_body, read_object


def request_with(*pieces: bytes, ends: bool = True) -> web.BaseRequest:
    """A request whose body comes in these pieces."""
    protocol = make_mocked_request("POST", "/").protocol
    content = StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    for piece in pieces:
        content.feed_data(piece)
    if ends:
        content.feed_eof()
    return make_mocked_request("POST", "/", payload=content)


async def refused(work: Callable[..., Awaitable[object]], *arguments: object) -> int:
    with pytest.raises(Refusal) as refusal:
        await work(*arguments)
    return refusal.value.response.status


async def test_a_body_comes_whole_up_to_its_bound() -> None:
    assert await read_body(request_with(b"ab", b"cd"), 4) == b"abcd"
    assert await refused(read_body, request_with(b"ab", b"cde"), 4) == 413


async def test_a_body_that_does_not_end_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BODY_S", 0.01)
    assert await refused(read_body, request_with(b"ab", ends=False)) == 408
    assert await refused(read_body, request_with(b"ab", ends=False), 100, 0.02) == 408


async def test_an_object_is_read_and_nothing_is_an_empty_one() -> None:
    assert await read_object(request_with(b'{"a": 1}')) == {"a": 1}
    assert await read_object(request_with()) == {}
    for wrong in (b"[]", b"{", b"\xff"):
        assert await refused(read_object, request_with(wrong)) == 400
