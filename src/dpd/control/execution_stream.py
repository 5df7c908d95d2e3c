# SPDX-License-Identifier: Apache-2.0
"""Deployments under way as server-sent events: first what is, then what changes, each an event `execution` with all that a line
of a table needs. Who reconnects gets what is once more; what it missed needs no telling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

from aiohttp import web
from msgspec import json

from dpd.control.access import Role, caller_of, still_may
from dpd.control.event_stream import HEARTBEAT_S, RECONNECT_MS, STALLED_S
from dpd.control.execution_messages import FollowParameters, reply_of
from dpd.control.execution_operations import ExecutionOperations
from dpd.deployment.execution import Execution

EVENT_STREAM = "text/event-stream"
_HEADERS = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Asked(Protocol):
    """What the handler needs of the API."""

    @property
    def executions(self) -> ExecutionOperations: ...


async def stream_executions(
    api: Asked, request: web.Request, parameters: FollowParameters, body: None
) -> web.StreamResponse:
    """Until the client goes, or reads no more, or is known no more, or dpd drains. Raises Unavailable for too many followers."""
    operations = api.executions
    operations.refuse_crowd(is_operator=caller_of(request).role.covers(Role.OPERATOR))
    pages = operations.follow(parameters.wanted(), HEARTBEAT_S)
    response = web.StreamResponse(headers=_HEADERS)
    async with aclosing(pages):
        first = await anext(pages)  # while a refusal can still have a status of its own
        try:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RECONNECT_MS + _lines(first) + b"event: current\ndata: {}\n\n")
            async for page in pages:
                if not still_may(request, Role.VIEWER):
                    break
                async with asyncio.timeout(STALLED_S):
                    await response.write(_lines(page) or b": heartbeat\n\n")
        except ConnectionError:
            pass  # the client went
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
    return response


def _lines(page: Sequence[Execution]) -> bytes:
    return b"".join(b"event: execution\ndata: %b\n\n" % json.encode(reply_of(each)) for each in page)
