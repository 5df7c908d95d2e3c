# SPDX-License-Identifier: Apache-2.0
"""The site server's routes: the site's own, those of its policy as a distribution point has them, and the relay to points."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import web

import dpd
from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.message import Refusal
from dpd.control.api.openapi import Route, describe
from dpd.control.api.table import ROUTES as POINT_ROUTES
from dpd.site_server.approval import APPROVE, approve_as_computer, names_computer
from dpd.site_server.assignments import Assignment
from dpd.site_server.execution_api import ROUTES as EXECUTION_ROUTES
from dpd.site_server.messages import (
    AssignmentList,
    AssignmentParameters,
    AssignmentRequest,
    PointListParameters,
    PointParameters,
    PointStatusList,
    SiteStatus,
)
from dpd.site_server.operations import SiteServerOperations
from dpd.site_server.points import PointStatus
from dpd.site_server.relay import group_routes, point_routes

# What a site server has of a distribution point's operations: they need of the API what SiteApi has, too.
SHARED_PATHS = (
    "/v1/audit",
    "/v1/boundaries",
    "/v1/caller",
    "/v1/collections",
    "/v1/computers",
    "/v1/deployments",
    "/v1/events/stream",
    "/v1/messages",
    "/v1/policy",
    "/v1/pxe/maintenance",
    "/v1/pxe/rules",
    "/v1/sequences",
    "/v1/site/",
    "/v1/variables",
)


class SiteApi:
    """One method for each route of its own: (request, checked parameters, checked body) → the reply, or a response of its own."""

    def __init__(self, operations: SiteServerOperations) -> None:
        self._operations = operations
        self.site = operations.site
        self.sequences = operations.sequences
        self.points = operations.points
        self.assignments = operations.assignments
        self.messages = operations.messages
        self.asker = operations.asker
        self.publisher = operations.publisher
        self.executions = operations.executions

    @property
    def shared_ids(self) -> frozenset[str]:
        return self._operations.shared_ids

    async def site_status(self, request: web.Request, parameters: None, body: None) -> SiteStatus:
        return self._operations.status()

    async def list_points(self, request: web.Request, parameters: PointListParameters, body: None) -> PointStatusList:
        return PointStatusList(self.points.all(parameters.group))

    async def show_point(self, request: web.Request, parameters: PointParameters, body: None) -> PointStatus:
        return self.points.one(parameters.point)

    async def remove_point(self, request: web.Request, parameters: PointParameters, body: None) -> PointStatus:
        return await self._operations.remove_point(parameters.point, actor_of(request))

    async def list_assignments(self, request: web.Request, parameters: None, body: None) -> AssignmentList:
        return AssignmentList(await asyncio.to_thread(self.assignments.all))

    async def add_assignment(self, request: web.Request, parameters: None, body: AssignmentRequest) -> Assignment:
        await self._operations.require_steering()
        return self.assignments.add(body.target, body.package_id, body.source_version, body.priority, actor_of(request))

    async def remove_assignment(self, request: web.Request, parameters: AssignmentParameters, body: None) -> Assignment:
        await self._operations.require_steering()
        return self.assignments.remove(parameters.target, parameters.package_id)

    async def site_openapi(self, request: web.Request, parameters: None, body: None) -> dict[str, Any]:
        return openapi_document()


def _approving(route: Route) -> Any:
    async def approve_machine_at_point(api: SiteApi, request: web.Request, parameters: Any, body: Any) -> Any:
        held = api.points.one(parameters.dp).policy_version
        if names_computer(held > 0, body):
            return await approve_as_computer(api, request, parameters.dp, parameters.machine, body)
        return await route.verb(api, request, parameters, body)

    return approve_machine_at_point


def _relayed() -> list[Route]:
    """At points; an approval with a computer's name is the site's own matter."""
    method, path = APPROVE
    return [
        replace(route, verb=_approving(route))
        if (route.method, route.path) == (method, f"/v1/points/{{dp}}{path[3:]}")
        else route
        for route in point_routes(POINT_ROUTES)
    ]


def _is_shared(route: Route) -> bool:
    """Also what is said of points in the model; how they are is the site server's own to tell."""
    says_of_points = route.path.startswith("/v1/points") and route.method in ("POST", "PATCH")
    return route.path.startswith(SHARED_PATHS) or says_of_points


_MISSING, _CONFLICT, _UNAVAILABLE = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE

OWN_ROUTES = (
    Route("GET", "/v1/status", "The site server at a glance", SiteApi.site_status, SiteStatus),
    Route(
        "GET",
        "/v1/points",
        "The site's distribution points, by name: which are there, what they hold, how far they are behind",
        SiteApi.list_points,
        PointStatusList,
        parameters=PointListParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "GET",
        "/v1/points/{point}",
        "One distribution point",
        SiteApi.show_point,
        PointStatus,
        parameters=PointParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "DELETE",
        "/v1/points/{point}",
        "Expect a distribution point no longer, and forget what it said",
        SiteApi.remove_point,
        PointStatus,
        parameters=PointParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/assignments",
        "Content that points and groups are to hold",
        SiteApi.list_assignments,
        AssignmentList,
    ),
    Route(
        "POST",
        "/v1/assignments",
        "Have a point, or each of a group, hold a package from now on",
        SiteApi.add_assignment,
        Assignment,
        body=AssignmentRequest,
        refusals=(_MISSING, _UNAVAILABLE),
    ),
    Route(
        "DELETE",
        "/v1/assignments/{target}/{package_id}",
        "Have a point, or each of a group, let go of a package",
        SiteApi.remove_assignment,
        Assignment,
        parameters=AssignmentParameters,
        refusals=(_MISSING, _UNAVAILABLE),
    ),
    Route("GET", "/openapi.json", "This document", SiteApi.site_openapi, dict),
)

ROUTES = (
    *OWN_ROUTES,
    *EXECUTION_ROUTES,
    *(route for route in POINT_ROUTES if _is_shared(route)),
    *_relayed(),
    *group_routes(POINT_ROUTES),
)


def openapi_document() -> dict[str, Any]:
    """The API, described for machines."""
    return describe(ROUTES, Refusal, dpd.__version__)
