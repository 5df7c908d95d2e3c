# SPDX-License-Identifier: Apache-2.0
"""HTTP and JSON over the operations: the handlers, the table of routes, the checks in front and the refusals behind."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiohttp import web

import dpd
from dpd.control.api.messages.message import (
    ChangeRequest,
    EventList,
    EventParameters,
    KickRequest,
    MachineList,
    MachineParameters,
    MemberList,
    MemberParameters,
    MoveRequest,
    MulticastRequest,
    MulticastStatus,
    PxeStory,
    Refusal,
    SessionList,
    SessionParameters,
    StartRequest,
)
from dpd.control.api.openapi import Route, describe
from dpd.control.api.refusals import MachineUnknown
from dpd.control.api.routes.boundary import ROUTES as BOUNDARY_ROUTES
from dpd.control.api.routes.bundle import ROUTES as BUNDLE_ROUTES
from dpd.control.api.routes.bus import ROUTES as BUS_ROUTES
from dpd.control.api.routes.caller import ROUTES as CALLER_ROUTES
from dpd.control.api.routes.collection import ROUTES as COLLECTION_ROUTES
from dpd.control.api.routes.content import ROUTES as CONTENT_ROUTES
from dpd.control.api.routes.declaration import ROUTES as DECLARATION_ROUTES
from dpd.control.api.routes.event import ROUTES as MESSAGE_ROUTES
from dpd.control.api.routes.event import STATE_ROUTES
from dpd.control.api.routes.execution import ROUTES as EXECUTION_ROUTES
from dpd.control.api.routes.image import ROUTES as IMAGE_ROUTES
from dpd.control.api.routes.job import ROUTES as JOB_ROUTES
from dpd.control.api.routes.root import ROUTES as ROOT_ROUTES
from dpd.control.api.routes.sequence import ROUTES as SEQUENCE_ROUTES
from dpd.control.api.routes.site import ROUTES as SITE_ROUTES
from dpd.control.api.routes.source import ROUTES as SOURCE_ROUTES
from dpd.control.api.routes.validation import ROUTES as VALIDATION_ROUTES
from dpd.control.api.routes.variable import ROUTES as VARIABLE_ROUTES
from dpd.control.api.routes.why import ROUTES as WHY_ROUTES
from dpd.control.api.routes.wim import ROUTES as WIM_ROUTES
from dpd.control.operations.verbs import Operations, Status, normal_mac
from dpd.service.multicast.cast import CastChanges
from dpd.service.multicast.session_status import SessionStatus


class Api:
    """One method for each route: (request, checked parameters, checked body) → the reply, or a response of its own."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.content = operations.content
        self.why = operations.why
        self.images = operations.images
        self.site = operations.site
        self.jobs = operations.jobs
        self.roots = operations.roots
        self.wims = operations.wims
        self.messages = operations.messages
        self.now = operations.now
        self.bus = operations.bus
        self.sources = operations.sources
        self.bundles = operations.bundles
        self.validation = operations.validation
        self.executions = operations.executions
        self.sequences = operations.sequences

    async def status(self, request: web.Request, parameters: None, body: None) -> Status:
        return self._operations.status()

    async def list_sessions(self, request: web.Request, parameters: None, body: None) -> SessionList:
        return SessionList(self._operations.sessions())

    async def start_session(self, request: web.Request, parameters: None, body: StartRequest) -> SessionStatus:
        return await self._operations.start_session(body.package_id, body.source_version, _changes(body))

    async def show_session(self, request: web.Request, parameters: SessionParameters, body: None) -> SessionStatus:
        return self._operations.session(parameters.session_id)

    async def stop_session(self, request: web.Request, parameters: SessionParameters, body: None) -> SessionStatus:
        return await self._operations.stop_session(parameters.session_id)

    async def change_session(
        self, request: web.Request, parameters: SessionParameters, body: ChangeRequest
    ) -> SessionStatus:
        return await self._operations.change_session(parameters.session_id, _changes(body))

    async def start_session_now(self, request: web.Request, parameters: SessionParameters, body: None) -> SessionStatus:
        return await self._operations.start_session_now(parameters.session_id)

    async def list_members(self, request: web.Request, parameters: SessionParameters, body: None) -> MemberList:
        return MemberList(self._operations.members(parameters.session_id))

    async def move_member(self, request: web.Request, parameters: MemberParameters, body: MoveRequest) -> MemberList:
        moved = self._operations.move_member(parameters.session_id, parameters.member, body.speed_class)
        return MemberList(await moved)

    async def kick_member(self, request: web.Request, parameters: MemberParameters, body: KickRequest) -> MemberList:
        kicked = self._operations.kick_member(parameters.session_id, parameters.member, fall_back=body.fall_back)
        return MemberList(await kicked)

    async def show_multicast(self, request: web.Request, parameters: None, body: None) -> MulticastStatus:
        return MulticastStatus(self._operations.uplink_mbit_s())

    async def change_multicast(self, request: web.Request, parameters: None, body: MulticastRequest) -> MulticastStatus:
        return MulticastStatus(self._operations.set_uplink(body.uplink_mbit_s))

    async def list_events(self, request: web.Request, parameters: EventParameters, body: None) -> EventList:
        after = self._operations.latest_event() if parameters.after is None else parameters.after
        events = await self._operations.events(after, parameters.wait_s)
        return EventList(events, events[-1].id if events else after)

    async def list_machines(self, request: web.Request, parameters: None, body: None) -> MachineList:
        return MachineList(self._operations.machines())

    async def show_machine(self, request: web.Request, parameters: MachineParameters, body: None) -> PxeStory:
        mac = normal_mac(parameters.mac)
        events = self._operations.pxe_story(mac)
        if not events:
            raise MachineUnknown(
                f"{mac} has not asked for a network boot since dpd started; `dpd pxe list` shows the machines that did"
            )
        return PxeStory(mac, events)

    async def openapi(self, request: web.Request, parameters: None, body: None) -> dict[str, Any]:
        return openapi_document()


def _changes(body: StartRequest | ChangeRequest) -> CastChanges:
    return CastChanges(body.minimum_clients, body.wait_s, body.start_at, body.rate_mbit_s, body.max_clients)


_MISSING, _CONFLICT, _CORRUPT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
_FULL, _BUSY = HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route("GET", "/v1/status", "The daemon at a glance", Api.status, Status),
    *CALLER_ROUTES,
    *BUS_ROUTES,
    *CONTENT_ROUTES,
    Route("GET", "/v1/sessions", "Every multicast session, oldest first", Api.list_sessions, SessionList),
    Route(
        "POST",
        "/v1/sessions",
        "Open a session before its first receiver joins, or again after it was stopped",
        Api.start_session,
        SessionStatus,
        body=StartRequest,
        refusals=(_MISSING, _CONFLICT, _BUSY),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}",
        "One session and its receivers",
        Api.show_session,
        SessionStatus,
        parameters=SessionParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "DELETE",
        "/v1/sessions/{session_id}",
        "Stop a session; joins are refused until it is started again",
        Api.stop_session,
        SessionStatus,
        parameters=SessionParameters,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "PATCH",
        "/v1/sessions/{session_id}",
        "Change the ceiling or the plan of a running session",
        Api.change_session,
        SessionStatus,
        parameters=SessionParameters,
        body=ChangeRequest,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/start",
        "Send to the receivers that wait now, whatever the plan says",
        Api.start_session_now,
        SessionStatus,
        parameters=SessionParameters,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "GET",
        "/v1/sessions/{session_id}/members",
        "The receivers of a session with all they count, also those that are gone",
        Api.list_members,
        MemberList,
        parameters=SessionParameters,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/members/{member}/move",
        "Put a receiver into another speed class",
        Api.move_member,
        MemberList,
        parameters=MemberParameters,
        body=MoveRequest,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "POST",
        "/v1/sessions/{session_id}/members/{member}/kick",
        "Take a receiver out, to go on by HTTP or to fail",
        Api.kick_member,
        MemberList,
        parameters=MemberParameters,
        body=KickRequest,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "GET",
        "/v1/multicast",
        "The ceiling of all sessions together",
        Api.show_multicast,
        MulticastStatus,
        refusals=(_CONFLICT,),
    ),
    Route(
        "PATCH",
        "/v1/multicast",
        "Change that ceiling, until the setting changes or dpd restarts",
        Api.change_multicast,
        MulticastStatus,
        body=MulticastRequest,
        refusals=(_CONFLICT,),
    ),
    Route(
        "GET",
        "/v1/events",
        "What happened in sessions and jobs, behind one event; waits for the next where wait_s says so",
        Api.list_events,
        EventList,
        parameters=EventParameters,
    ),
    *MESSAGE_ROUTES,
    *STATE_ROUTES,
    Route("GET", "/v1/pxe/machines", "MACs of machines that asked for a network boot", Api.list_machines, MachineList),
    Route(
        "GET",
        "/v1/pxe/machines/{mac}",
        "What one machine asked and what it got, oldest first",
        Api.show_machine,
        PxeStory,
        parameters=MachineParameters,
        refusals=(_MISSING,),
    ),
    *WHY_ROUTES,
    *IMAGE_ROUTES,
    *WIM_ROUTES,
    *JOB_ROUTES,
    *ROOT_ROUTES,
    *SOURCE_ROUTES,
    *BUNDLE_ROUTES,
    *VALIDATION_ROUTES,
    *EXECUTION_ROUTES,
    *SEQUENCE_ROUTES,
    *SITE_ROUTES,
    *VARIABLE_ROUTES,
    *DECLARATION_ROUTES,
    *COLLECTION_ROUTES,
    *BOUNDARY_ROUTES,
    Route("GET", "/openapi.json", "This document", Api.openapi, dict),
)


def openapi_document() -> dict[str, Any]:
    """The API, described for machines."""
    return describe(ROUTES, Refusal, dpd.__version__)
