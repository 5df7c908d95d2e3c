# SPDX-License-Identifier: Apache-2.0
"""The body of a request that is to be whole before it is looked at: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import hdrs, web

from dpd.service.http.file_answers import Refusal

MAX_BODY_BYTES = 65536
BODY_S = 30.0


async def read_body(request: web.BaseRequest, most: int = MAX_BODY_BYTES, within_s: float = 0.0) -> bytes:
    """All of it; within BODY_S where no other time is given. Raises Refusal."""
    text, within_s = bytearray(), within_s or BODY_S
    try:
        async with asyncio.timeout(within_s):
            async for piece in read_pieces(request):
                text += piece
                if len(text) > most:
                    raise Refusal(413, "body_too_large", f"the body has more than {most} bytes")
    except TimeoutError:
        raise Refusal(408, "request_timeout", f"the body did not come within {within_s:.0f} s") from None
    return bytes(text)


async def read_pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """As they come. Raises Refusal."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        while piece := await request.content.readany():
            yield piece
    except web.RequestPayloadError as error:
        raise Refusal(400, "bad_request", f"the body cannot be read: {error}") from None


async def read_object(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object that a request carries; none is an empty one. Raises Refusal."""
    text = await read_body(request)
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except msgspec.MsgspecError as error:
        raise Refusal(400, "bad_request", f"the body is no JSON object: {error}") from None
