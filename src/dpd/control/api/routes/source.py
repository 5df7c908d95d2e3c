# SPDX-License-Identifier: Apache-2.0
"""The API's routes to the sources of content."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.callers import Role
from dpd.control.api.messages.source import SourceList, SourceParameters
from dpd.control.api.openapi import Route
from dpd.control.operations.source import SourceOperations
from dpd.distribution.pulling.sources import SourceStatus


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def sources(self) -> SourceOperations: ...


async def list_sources(api: Asked, request: web.Request, parameters: None, body: None) -> SourceList:
    return SourceList(await api.sources.sources())


async def show_source(api: Asked, request: web.Request, parameters: SourceParameters, body: None) -> SourceStatus:
    return await api.sources.test(parameters.source)


async def forget_key(api: Asked, request: web.Request, parameters: SourceParameters, body: None) -> SourceStatus:
    return await api.sources.forget(parameters.source)


_MISSING = (HTTPStatus.NOT_FOUND,)

ROUTES = (
    Route("GET", "/v1/sources", "Where content is pulled from, each asked how it is now", list_sources, SourceList),
    Route(
        "GET",
        "/v1/sources/{source}",
        "Ask one source how it is now",
        show_source,
        SourceStatus,
        parameters=SourceParameters,
        refusals=_MISSING,
    ),
    Route(
        "DELETE",
        "/v1/sources/{source}/key",
        "Forget the key that was pinned for a source, so that a new one can be",
        forget_key,
        SourceStatus,
        parameters=SourceParameters,
        refusals=_MISSING,
        role=Role.ADMIN,
    ),
)
