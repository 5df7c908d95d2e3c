# SPDX-License-Identifier: Apache-2.0
"""Status messages as server-sent events (WHATWG HTML, 9.2): each with its position as id, so that who reconnects with
Last-Event-ID goes on exactly where the connection broke, also over a restart of dpd.

What the bound has dropped before it could be told is an event `missed`. A comment comes where nothing else does, so that either
side notices when the other is gone.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Protocol

from aiohttp import web
from msgspec import json

from dpd.control.access.callers import Role, caller_of
from dpd.control.api.messages.event import MissedReply, StreamParameters, reply_of
from dpd.control.api.streams.server_sent import HEARTBEAT_S, send
from dpd.control.operations.message import MessageOperations, Page, Position


class Asked(Protocol):
    """What the handler needs of the API."""

    @property
    def messages(self) -> MessageOperations: ...


async def stream_messages(
    api: Asked, request: web.Request, parameters: StreamParameters, body: None
) -> web.StreamResponse:
    """Until the client goes, or reads no more, or is known no more, or dpd drains. Raises DpdError for a wrong position and for too many followers."""
    behind = api.messages.position(request.headers.get("Last-Event-ID") or parameters.after)
    is_operator = caller_of(request).role.covers(Role.OPERATOR)
    api.messages.refuse_crowd(is_operator=is_operator)  # while the answer can still have a status of its own
    following = api.messages.follow(behind, parameters.severity, HEARTBEAT_S, is_operator=is_operator)
    async with aclosing(following) as pages:
        return await send(request, f"id: {behind}\n\n".encode(), pages, _lines)


def _lines(page: Page) -> bytes:
    """An empty page is a heartbeat; its id says how far the follower is, whatever severity it asked for."""
    told: list[bytes] = []
    epoch = page.position.epoch
    if page.missed:
        missed = json.encode(MissedReply(*page.missed))
        told.append(b"event: missed\nid: %b\ndata: %b\n\n" % (str(Position(epoch, page.missed[1])).encode(), missed))
    for message in page.messages:
        reply = reply_of(message, epoch)
        told.append(b"id: %b\ndata: %b\n\n" % (reply.position.encode(), json.encode(reply)))
    return b"".join(told) or f": heartbeat\nid: {page.position}\n\n".encode()
