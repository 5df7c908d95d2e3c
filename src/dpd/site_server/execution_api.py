# SPDX-License-Identifier: Apache-2.0
"""The site server's routes to deployments under way: those of a point, of all points together."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Protocol

from aiohttp import web
from msgspec import Meta

from dpd.control.access.callers import Role, caller_of
from dpd.control.api.messages.execution import DeploymentNumber, ExecutionParameters, FollowParameters, Machine, Which
from dpd.control.api.messages.message import Request
from dpd.control.api.openapi import JSON, Route
from dpd.control.api.routes.execution import ROUTES as OF_A_POINT
from dpd.control.api.streams.execution import send_executions
from dpd.control.api.streams.server_sent import EVENT_STREAM
from dpd.site_server.asker import Question
from dpd.site_server.executions import SiteExecution, SiteExecutionList, SiteExecutions
from dpd.site_server.relay import read_text


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def executions(self) -> SiteExecutions: ...


class SiteExecutionsParameters(Request):
    machine: Machine | None = None
    deployment: DeploymentNumber | None = None
    state: Which | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def list_site_executions(
    api: Asked, request: web.Request, parameters: SiteExecutionsParameters, body: None
) -> SiteExecutionList:
    given = parameters
    state = given.state.value if given.state is not None else None
    wanted = {"machine": given.machine, "deployment": given.deployment, "state": state, "limit": given.limit}
    return await api.executions.list(caller_of(request), **wanted)


async def stream_site_executions(
    api: Asked, request: web.Request, parameters: FollowParameters, body: None
) -> web.StreamResponse:
    """Until the client goes, or reads no more, or is known no more, or the site server drains. Raises Unavailable."""
    caller = caller_of(request)
    api.executions.refuse_crowd(is_operator=caller.role.covers(Role.OPERATOR))
    pages = api.executions.follow(caller, machine=parameters.machine, deployment=parameters.deployment)
    return await send_executions(request, pages, lambda each: each)


def _passing_on(route: Route) -> Any:
    async def pass_on(api: Asked, request: web.Request, parameters: ExecutionParameters, body: Any) -> web.Response:
        text = await read_text(request)
        question = Question(request.method, request.rel_url.raw_path_qs, text, JSON)
        answer = await api.executions.ask(parameters.execution, question, caller_of(request))
        return web.Response(status=answer.status, text=answer.body, content_type=answer.content_type.partition(";")[0])

    pass_on.__name__ = f"{route.verb.__name__}_wherever_it_is"
    return pass_on


_AWAY = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)

ROUTES = (
    Route(
        "GET",
        "/v1/executions",
        "Machines that run a task sequence or have, at all points that answer, the newest first",
        list_site_executions,
        SiteExecutionList,
        parameters=SiteExecutionsParameters,
    ),
    Route(
        "GET",
        "/v1/executions/stream",
        "Deployments under way at all points as server-sent events: what is, then what changes",
        stream_site_executions,
        SiteExecution,
        parameters=FollowParameters,
        reply_type=EVENT_STREAM,
        refusals=(HTTPStatus.SERVICE_UNAVAILABLE,),
    ),
    *(
        replace(route, verb=_passing_on(route), refusals=tuple(dict.fromkeys((*route.refusals, *_AWAY))))
        for route in OF_A_POINT
        if route.path.startswith("/v1/executions/{execution}")
    ),
)
