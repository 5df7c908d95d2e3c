# SPDX-License-Identifier: Apache-2.0
"""Server-sent events (WHATWG HTML, 9.2) to one client, for as long as it reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from aiohttp import web

from dpd.control.access.callers import Role, still_may

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0  # so that either side notices when the other is gone
RECONNECT_MS = 1000
STALLED_S = 60.0  # a client that takes nothing for so long is gone, and keeps its place from nobody

_HEADERS = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

P = TypeVar("P")


async def send(
    request: web.Request, begin: bytes, pages: AsyncIterator[P], lines: Callable[[P], bytes]
) -> web.StreamResponse:
    """Until the pages end, or the client goes, or reads no more, or is known no more."""
    response = web.StreamResponse(headers=_HEADERS)
    try:
        await response.prepare(request)
        await response.write(b"retry: %d\n%b" % (RECONNECT_MS, begin))
        async for page in pages:
            if not still_may(request, Role.VIEWER):
                break
            async with asyncio.timeout(STALLED_S):
                await response.write(lines(page))
    except ConnectionError:
        pass  # the client went
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response
