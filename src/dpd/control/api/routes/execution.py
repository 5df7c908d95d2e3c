# SPDX-License-Identifier: Apache-2.0
"""The API's routes to deployments under way: executions, their reports and logs, and captured images."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.execution import (
    CancelRequest,
    CaptureList,
    CapturesParameters,
    ExecutionDetail,
    ExecutionList,
    ExecutionParameters,
    ExecutionReply,
    ExecutionsParameters,
    FollowParameters,
    LogReply,
    ReportList,
    ReportsParameters,
    detail_of,
    reply_of,
)
from dpd.control.api.openapi import Route
from dpd.control.api.streams.execution import Asked, stream_executions
from dpd.control.api.streams.server_sent import EVENT_STREAM


async def list_executions(
    api: Asked, request: web.Request, parameters: ExecutionsParameters, body: None
) -> ExecutionList:
    found = await api.executions.list(parameters.wanted(), parameters.limit)
    return ExecutionList([reply_of(each) for each in found])


async def show_execution(
    api: Asked, request: web.Request, parameters: ExecutionParameters, body: None
) -> ExecutionDetail:
    return detail_of(await api.executions.show(parameters.execution))


async def list_reports(api: Asked, request: web.Request, parameters: ReportsParameters, body: None) -> ReportList:
    found = api.executions.reports(parameters.execution, parameters.after, parameters.limit)
    return ReportList(list(await found))


async def show_execution_log(api: Asked, request: web.Request, parameters: ExecutionParameters, body: None) -> LogReply:
    return LogReply(parameters.execution, await api.executions.log(parameters.execution))


async def cancel_execution(
    api: Asked, request: web.Request, parameters: ExecutionParameters, body: CancelRequest
) -> ExecutionDetail:
    cancelled = api.executions.cancel(parameters.execution, body.reason.strip(), actor_of(request))
    return detail_of(await cancelled)


async def list_captures(api: Asked, request: web.Request, parameters: CapturesParameters, body: None) -> CaptureList:
    return CaptureList(list(await api.executions.captures(parameters.limit)))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/executions",
        "Machines that run a task sequence or have, the newest first",
        list_executions,
        ExecutionList,
        parameters=ExecutionsParameters,
        refusals=(_CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/executions/stream",
        "Deployments under way as server-sent events: what is, then what changes",
        stream_executions,
        ExecutionReply,
        parameters=FollowParameters,
        reply_type=EVENT_STREAM,
        refusals=(_CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/executions/{execution}",
        "One execution with each of its steps",
        show_execution,
        ExecutionDetail,
        parameters=ExecutionParameters,
        refusals=(_MISSING, _CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/executions/{execution}/reports",
        "What the machine said, in its order",
        list_reports,
        ReportList,
        parameters=ReportsParameters,
        refusals=(_MISSING, _CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/executions/{execution}/log",
        "The log that the machine left when its sequence failed",
        show_execution_log,
        LogReply,
        parameters=ExecutionParameters,
        refusals=(_MISSING, _CONFLICT, _BUSY),
        role=Role.OPERATOR,
    ),
    Route(
        "POST",
        "/v1/executions/{execution}/cancel",
        "Tell the machine to stop; it does so behind the piece of work that it is at, and says so",
        cancel_execution,
        ExecutionDetail,
        parameters=ExecutionParameters,
        body=CancelRequest,
        refusals=(_MISSING, _CONFLICT, _FULL, _BUSY),
    ),
    Route(
        "GET",
        "/v1/captures",
        "Captured images on their way in, and those that came, the newest first",
        list_captures,
        CaptureList,
        parameters=CapturesParameters,
        refusals=(_CONFLICT, _BUSY),
    ),
)
