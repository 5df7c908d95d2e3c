# SPDX-License-Identifier: Apache-2.0
"""The API's routes to validation."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Protocol

from aiohttp import web
from msgspec import Meta, Struct

from dpd.control.api.messages.message import Request
from dpd.control.api.openapi import Route
from dpd.control.operations.validation import ValidationOperations, ValidationStatus
from dpd.distribution.validation.store import DamagedBlob


class RunsParameters(Request):
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class DamageParameters(Request):
    limit: Annotated[int, Meta(ge=1, le=10000)] = 100


class DamageList(Struct):
    damage: list[DamagedBlob]


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def validation(self) -> ValidationOperations: ...


async def show_validation(api: Asked, request: web.Request, parameters: RunsParameters, body: None) -> ValidationStatus:
    return await api.validation.status(parameters.limit)


async def list_damage(api: Asked, request: web.Request, parameters: DamageParameters, body: None) -> DamageList:
    return DamageList(await api.validation.damage(parameters.limit))


_BUSY = HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/validation",
        "When content was compared, when it will be, and how far that is",
        show_validation,
        ValidationStatus,
        parameters=RunsParameters,
        refusals=(_BUSY,),
    ),
    Route(
        "GET",
        "/v1/validation/damage",
        "Files that are damaged, then those that were, and what came of them",
        list_damage,
        DamageList,
        parameters=DamageParameters,
        refusals=(_BUSY,),
    ),
)
