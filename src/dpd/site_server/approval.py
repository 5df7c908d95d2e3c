# SPDX-License-Identifier: Apache-2.0
"""Approval of an unknown machine that waits at a point, as a computer of the site."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dpd.control.access.callers import Caller, caller_of
from dpd.control.api.messages.site import ApproveRequest
from dpd.control.operations.site import SiteOperations, Unknown
from dpd.errors import BusError, Unavailable
from dpd.site.identity import EMPTY_GUIDS
from dpd.site.records import Computer, SiteError, SiteNotFound, normal_guid, normal_mac_prefix
from dpd.site.waiting_room import PendingMachine
from dpd.site_server.asker import Asker, Question, WholeAnswer
from dpd.site_server.points import Points
from dpd.site_server.publisher import Publisher

FOLLOW_S = 10.0  # for the policy to be on the bus and at the point
LOOK_S = 0.1
APPROVE = ("POST", "/v1/pxe/pending/{machine}/approve")


class Asked(Protocol):
    """What approval needs of the API."""

    @property
    def asker(self) -> Asker: ...
    @property
    def points(self) -> Points: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def site(self) -> SiteOperations: ...
    @property
    def shared_ids(self) -> frozenset[str]: ...


def names_computer(point_holds_policy: bool, body: ApproveRequest) -> bool:
    """Whether the site's own model has to know the computer first."""
    return point_holds_policy and bool(body.computer)


async def approve_as_computer(
    api: Asked, request: web.Request, point: str, machine: str, body: ApproveRequest
) -> PendingMachine:
    """The machine is a computer of the site from now on, and the point lets it boot as that. Raises SiteNotFound, SiteConflict,
    SiteError, Unavailable, BusError."""
    caller = caller_of(request)
    waiting = await _find(api, point, machine, caller)
    guid = "" if not waiting.guid or normal_guid(waiting.guid) in EMPTY_GUIDS | api.shared_ids else waiting.guid
    api.site.add_computer(Computer(body.computer, (waiting.mac,), guid, body.boot_image), caller.name)
    await _wait_for_policy(api, point, caller)
    question = Question("POST", f"/v1/pxe/pending/{waiting.mac}/approve", "{}")
    answer = await api.asker.whole(point, question, caller)
    if answer.status not in (200, 404):  # 404: it has asked meanwhile, was known, and waits no more
        raise _refused(point, answer)
    return waiting


async def _find(api: Asked, point: str, machine: str, caller: Caller) -> PendingMachine:
    """Who waits there under this code or MAC."""
    answer = await api.asker.whole(point, Question("GET", "/v1/pxe/pending"), caller)
    if answer.status != 200:
        raise _refused(point, answer)
    mac = _mac_of(machine)
    try:
        waiting = msgspec.convert(answer.json(), Unknown).pending
    except msgspec.ValidationError as error:
        raise BusError(f"point {point}: who waits there: {error}; is its dpd of another release?") from None
    for each in waiting:
        if each.code == machine.upper() or each.mac == mac:
            return each
    raise SiteNotFound(
        f"no machine {machine[:40]} waits for approval at {point}; `dpd --dp {point} pxe pending` shows those that do, `dpd --site computer add` takes any in"
    )


def _mac_of(text: str) -> str:
    try:
        return normal_mac_prefix(text, whole=True)
    except SiteError:
        return ""


async def _wait_for_policy(api: Asked, point: str, caller: Caller) -> None:
    """Until the point holds the policy that has the computer. Raises Unavailable, BusError."""
    until = time.monotonic() + FOLLOW_S
    if await api.publisher.wait_published(FOLLOW_S):
        while time.monotonic() < until:
            answer = await api.asker.whole(point, Question("GET", "/v1/bus"), caller)  # sooner than its next hello
            if answer.status == 200 and answer.json()["policy_version"] >= api.publisher.version:
                return
            await asyncio.sleep(LOOK_S)
    raise Unavailable(
        f"the computer is known, and point {point} has not taken the policy with it within {FOLLOW_S:g} s; it boots as soon as that has come"
    )


def _refused(point: str, answer: WholeAnswer) -> BusError:
    reply: Any = answer.json()
    return BusError(
        f"point {point}: {reply['error']['message']}" if "error" in reply else f"point {point}: {answer.status}"
    )
