# SPDX-License-Identifier: Apache-2.0
"""The API's routes to the site as a declaration."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.body_text import read_text
from dpd.control.api.messages.declaration import ApplyParameters, ExportParameters
from dpd.control.api.openapi import Route
from dpd.control.operations.declaration import Export, PlanReport
from dpd.control.operations.site import SiteOperations
from dpd.site.declaration import MAX_BYTES, Kind

TOML = "application/toml"


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def site(self) -> SiteOperations: ...


async def plan_site(api: Asked, request: web.Request, parameters: None, body: None) -> PlanReport:
    text = await read_text(request, MAX_BYTES)
    return await asyncio.to_thread(api.site.declaration.plan, text)


async def apply_site(api: Asked, request: web.Request, parameters: ApplyParameters, body: None) -> PlanReport:
    text = await read_text(request, MAX_BYTES)
    given = parameters.policy_version, parameters.confirm, actor_of(request)
    return await asyncio.to_thread(api.site.declaration.apply, text, *given)


async def export_site(api: Asked, request: web.Request, parameters: ExportParameters, body: None) -> Export:
    kinds = [Kind(each) for each in parameters.kinds.split(",")] if parameters.kinds else list(Kind)
    return await asyncio.to_thread(api.site.declaration.export, kinds)


ROUTES = (
    Route(
        "POST",
        "/v1/site/plan",
        "What a declaration (TOML) would change of the site, field by field, or what is wrong with it, line by line",
        plan_site,
        PlanReport,
        upload_type=TOML,
    ),
    Route(
        "POST",
        "/v1/site/apply",
        "Make the site what a declaration (TOML) says, all of it or nothing, if policy is still of the plan's version",
        apply_site,
        PlanReport,
        parameters=ApplyParameters,
        upload_type=TOML,
        refusals=(HTTPStatus.CONFLICT,),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/site/export",
        "The site as a declaration that makes any site the same",
        export_site,
        Export,
        parameters=ExportParameters,
    ),
)
