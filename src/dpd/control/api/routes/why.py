# SPDX-License-Identifier: Apache-2.0
"""The API's routes to why machines did or did not boot."""

from __future__ import annotations

import asyncio
from typing import Annotated, Protocol

from aiohttp import web
from msgspec import Meta, Struct

from dpd.control.api.openapi import Route
from dpd.control.operations.why import LastBoot, Why, WhyOperations

MachineName = Annotated[str, Meta(min_length=12, max_length=38, description="A machine's MAC or GUID")]


class WhyParameters(Struct, forbid_unknown_fields=True):
    machine: MachineName


class BootsParameters(Struct, forbid_unknown_fields=True):
    """At most `limit` machines, those that were heard of last."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class BootList(Struct):
    """`total` counts those that are left out too."""

    boots: list[LastBoot]
    total: int


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def why(self) -> WhyOperations: ...


async def explain_machine(api: Asked, request: web.Request, parameters: WhyParameters, body: None) -> Why:
    return api.why.why(parameters.machine)


async def list_boots(api: Asked, request: web.Request, parameters: BootsParameters, body: None) -> BootList:
    return BootList(*await asyncio.to_thread(api.why.boots, parameters.limit))


ROUTES = (
    Route(
        "GET",
        "/v1/pxe/boots",
        "The last network boot of each machine: how it stands and why, the newest first",
        list_boots,
        BootList,
        parameters=BootsParameters,
    ),
    Route(
        "GET",
        "/v1/pxe/machines/{machine}/why",
        "Why a machine's last network boot ended as it did, and the steps of each attempt",
        explain_machine,
        Why,
        parameters=WhyParameters,
    ),
)
