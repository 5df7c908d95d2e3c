# SPDX-License-Identifier: Apache-2.0
"""The API's route to the bus."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from dpd.control.api.openapi import Route
from dpd.control.operations.bus import BusOperations, BusStatus


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def bus(self) -> BusOperations: ...


async def show_bus(api: Asked, request: web.Request, parameters: None, body: None) -> BusStatus:
    return api.bus.status()


ROUTES = (
    Route("GET", "/v1/bus", "How this point stands with its site: connection, policy, status messages", show_bus, BusStatus),
)  # fmt: skip
