# SPDX-License-Identifier: Apache-2.0
"""The API's routes to boundaries, and to the points of a model that they name."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.model import (
    BoundaryChangeRequest,
    BoundaryList,
    BoundaryParameters,
    BoundaryRequest,
    LookupParameters,
    PointChangeRequest,
    PointList,
    PointParameters,
    PointRequest,
)
from dpd.control.api.openapi import Route
from dpd.control.operations.model import BoundaryChange, PointChange
from dpd.control.operations.site import SiteOperations
from dpd.site.boundaries import BoundaryAnswer
from dpd.site.records import Boundary, Point


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def site(self) -> SiteOperations: ...


async def list_boundaries(api: Asked, request: web.Request, parameters: None, body: None) -> BoundaryList:
    return BoundaryList(api.site.model.boundaries())


async def add_boundary(api: Asked, request: web.Request, parameters: None, body: BoundaryRequest) -> Boundary:
    return api.site.model.add_boundary(Boundary(body.network, tuple(body.points), body.description), actor_of(request))


async def change_boundary(
    api: Asked, request: web.Request, parameters: BoundaryParameters, body: BoundaryChangeRequest
) -> Boundary:
    change = BoundaryChange(None if body.points is None else tuple(body.points), body.description)
    return api.site.model.change_boundary(parameters.network, change, actor_of(request))


async def remove_boundary(api: Asked, request: web.Request, parameters: BoundaryParameters, body: None) -> Boundary:
    return api.site.model.remove_boundary(parameters.network, actor_of(request))


async def look_up(api: Asked, request: web.Request, parameters: LookupParameters, body: None) -> BoundaryAnswer:
    return api.site.model.look_up(parameters.address)


async def list_points(api: Asked, request: web.Request, parameters: None, body: None) -> PointList:
    return PointList(api.site.model.points())


async def show_point(api: Asked, request: web.Request, parameters: PointParameters, body: None) -> Point:
    return api.site.model.point(parameters.point)


async def add_point(api: Asked, request: web.Request, parameters: None, body: PointRequest) -> Point:
    point = Point(body.name, tuple(body.groups), body.url, body.description)
    return api.site.model.add_point(point, actor_of(request))


async def change_point(
    api: Asked, request: web.Request, parameters: PointParameters, body: PointChangeRequest
) -> Point:
    change = PointChange(None if body.groups is None else tuple(body.groups), body.url, body.description)
    return api.site.model.change_point(parameters.point, change, actor_of(request))


async def remove_point(api: Asked, request: web.Request, parameters: PointParameters, body: None) -> Point:
    return api.site.model.remove_point(parameters.point, actor_of(request))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT

BOUNDARY_ROUTES = (
    Route("GET", "/v1/boundaries", "The boundaries, by network", list_boundaries, BoundaryList),
    Route(
        "POST",
        "/v1/boundaries",
        "Say where a network's machines find content",
        add_boundary,
        Boundary,
        body=BoundaryRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "PATCH",
        "/v1/boundaries",
        "Change the boundary of a network",
        change_boundary,
        Boundary,
        parameters=BoundaryParameters,
        body=BoundaryChangeRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/boundaries",
        "Take the boundary of a network out",
        remove_boundary,
        Boundary,
        parameters=BoundaryParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/boundaries/lookup",
        "Where an address is to fetch content, and why",
        look_up,
        BoundaryAnswer,
        parameters=LookupParameters,
    ),
)

POINT_ROUTES = (
    Route("GET", "/v1/points", "The points that the model names", list_points, PointList),
    Route(
        "GET",
        "/v1/points/{point}",
        "One point of the model",
        show_point,
        Point,
        parameters=PointParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/points",
        "Name a distribution point of the site",
        add_point,
        Point,
        body=PointRequest,
        refusals=(_CONFLICT,),
        role=Role.ADMIN,
    ),
    Route(
        "PATCH",
        "/v1/points/{point}",
        "Change what the model says of a point",
        change_point,
        Point,
        parameters=PointParameters,
        body=PointChangeRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/points/{point}",
        "Take a point out that no boundary names",
        remove_point,
        Point,
        parameters=PointParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
)

ROUTES = (*BOUNDARY_ROUTES, *POINT_ROUTES)
