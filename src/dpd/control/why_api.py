# SPDX-License-Identifier: Apache-2.0
"""The API's route to why a machine did or did not boot."""

from __future__ import annotations

from typing import Annotated, Protocol

from aiohttp import web
from msgspec import Meta, Struct

from dpd.control.openapi import Route
from dpd.control.why_operations import Why, WhyOperations

MachineName = Annotated[str, Meta(min_length=12, max_length=38, description="A machine's MAC or GUID")]


class WhyParameters(Struct, forbid_unknown_fields=True):
    machine: MachineName


class Asked(Protocol):
    """What the handler needs of the API."""

    @property
    def why(self) -> WhyOperations: ...


async def explain_machine(api: Asked, request: web.Request, parameters: WhyParameters, body: None) -> Why:
    return api.why.why(parameters.machine)


ROUTES = (
    Route(
        "GET",
        "/v1/pxe/machines/{machine}/why",
        "Why a machine's last network boot ended as it did, and the steps of each attempt",
        explain_machine,
        Why,
        parameters=WhyParameters,
    ),
)
