# SPDX-License-Identifier: Apache-2.0
"""The API's routes to what is true now, and to status messages: history, and following what comes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.api.messages.event import (
    MessageList,
    MessageParameters,
    MessageReply,
    StateParameters,
    StreamParameters,
    list_of,
)
from dpd.control.api.openapi import Route
from dpd.control.api.streams.event import Asked, stream_messages
from dpd.control.api.streams.server_sent import EVENT_STREAM
from dpd.control.operations.state import StateNow, StateOperations


class StateAsked(Protocol):
    """What the handler of the state needs of the API."""

    @property
    def now(self) -> StateOperations: ...


async def show_state(api: StateAsked, request: web.Request, parameters: StateParameters, body: None) -> StateNow:
    return await api.now.now(parameters.packages, parameters.machines)


async def list_messages(api: Asked, request: web.Request, parameters: MessageParameters, body: None) -> MessageList:
    messages = api.messages
    if parameters.after is None:
        return list_of(await messages.newest(parameters.limit, parameters.severity))
    behind = messages.position(parameters.after)
    return list_of(await messages.page(behind, parameters.limit, parameters.severity))


_BUSY = HTTPStatus.SERVICE_UNAVAILABLE

STATE_ROUTES = (
    Route(
        "GET",
        "/v1/state",
        "What is true now, apart from history; the messages behind its position tell what changes",
        show_state,
        StateNow,
        parameters=StateParameters,
    ),
)
ROUTES = (
    Route(
        "GET",
        "/v1/messages",
        "Status messages on disk: those behind a position, or the newest",
        list_messages,
        MessageList,
        parameters=MessageParameters,
        refusals=(_BUSY,),
    ),
    Route(
        "GET",
        "/v1/events/stream",
        "Status messages as server-sent events, from behind a position on; goes on after a break with Last-Event-ID",
        stream_messages,
        MessageReply,
        parameters=StreamParameters,
        reply_type=EVENT_STREAM,
        refusals=(_BUSY,),
    ),
)
