# SPDX-License-Identifier: Apache-2.0
"""The API's route to who is asking, for whoever wants to know what it may do before it does."""

from __future__ import annotations

from aiohttp import web

from dpd.control.access.callers import Caller, caller_of
from dpd.control.api.openapi import Route


async def show_caller(api: object, request: web.Request, parameters: None, body: None) -> Caller:
    return caller_of(request)


ROUTES = (Route("GET", "/v1/caller", "Who asks, in which role and by which door", show_caller, Caller),)
