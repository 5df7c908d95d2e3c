# SPDX-License-Identifier: Apache-2.0
"""The API's routes to the folders that hold the library's blobs."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from aiohttp import web

from dpd.content.storage.roots import RootStatus
from dpd.control.access.callers import Role
from dpd.control.api.messages.root import AddRootRequest, ChangeRootRequest, RootList, RootParameters
from dpd.control.api.openapi import Route
from dpd.control.operations.root import RootOperations


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def roots(self) -> RootOperations: ...


async def list_roots(api: Asked, request: web.Request, parameters: None, body: None) -> RootList:
    return RootList(await api.roots.roots())


async def add_root(api: Asked, request: web.Request, parameters: None, body: AddRootRequest) -> RootStatus:
    return await api.roots.add(Path(body.path), body.reserve_bytes)


async def change_root(
    api: Asked, request: web.Request, parameters: RootParameters, body: ChangeRootRequest
) -> RootStatus:
    return await api.roots.change(parameters.root, body.reserve_bytes, body.active)


async def remove_root(api: Asked, request: web.Request, parameters: RootParameters, body: None) -> RootStatus:
    return await api.roots.remove(parameters.root)


_MISSING, _CONFLICT, _FULL = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.INSUFFICIENT_STORAGE

ROUTES = (
    Route(
        "GET", "/v1/roots", "The folders that hold blobs, in the order in which they are filled", list_roots, RootList
    ),
    Route(
        "POST",
        "/v1/roots",
        "Take another folder into use",
        add_root,
        RootStatus,
        body=AddRootRequest,
        refusals=(_CONFLICT, _FULL),
        role=Role.ADMIN,
    ),
    Route(
        "PATCH",
        "/v1/roots/{root}",
        "Change how much of a root stays free, or whether it takes new content",
        change_root,
        RootStatus,
        parameters=RootParameters,
        body=ChangeRootRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/roots/{root}",
        "Take a root out of use that was drained; its folder stays",
        remove_root,
        RootStatus,
        parameters=RootParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
)
