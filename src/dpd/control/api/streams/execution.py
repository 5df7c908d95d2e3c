# SPDX-License-Identifier: Apache-2.0
"""Deployments under way as server-sent events: first what is, then what changes, each an event `execution` with all that a line
of a table needs. Who reconnects gets what is once more; what it missed needs no telling."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

from aiohttp import web
from msgspec import json

from dpd.control.access.callers import Role, caller_of
from dpd.control.api.messages.execution import ExecutionReply, FollowParameters, reply_of
from dpd.control.api.streams.server_sent import HEARTBEAT_S, send
from dpd.control.operations.execution import ExecutionOperations

E = TypeVar("E")


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
    return await send_executions(request, operations.follow(parameters.wanted(), HEARTBEAT_S), reply_of)


async def send_executions(
    request: web.Request, pages: AsyncGenerator[Sequence[E], None], reply: Callable[[E], ExecutionReply]
) -> web.StreamResponse:
    """The first page is what is, then come changes; an empty one is a heartbeat."""

    def events(page: Sequence[E]) -> bytes:
        return b"".join(b"event: execution\ndata: %b\n\n" % json.encode(reply(each)) for each in page)

    async with aclosing(pages):
        first = await anext(pages)  # while a refusal can still have a status of its own
        begin = b"\n" + events(first) + b"event: current\ndata: {}\n\n"
        return await send(request, begin, pages, lambda page: events(page) or b": heartbeat\n\n")
