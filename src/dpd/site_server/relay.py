# SPDX-License-Identifier: Apache-2.0
"""Every operation of a distribution point, for one point or each of a group: /v1/points/NAME/… and /v1/groups/NAME/….

The routes are made of the daemon's own table, so that what may be asked, of whom and with which parameters is the same by
every door. The request itself is passed on as it came; the point judges it once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dpd.bus.messages import MAX_ASK_BYTES, Answer
from dpd.control.access.callers import Caller, Role, caller_of, still_may
from dpd.control.api.messages.message import Failure
from dpd.control.api.openapi import JSON, NDJSON, Route
from dpd.control.api.refusals import RequestRefused, classify
from dpd.control.api.streams.server_sent import STALLED_S
from dpd.errors import BusError, DpdError
from dpd.site_server.asker import LINES, Asker, Question, WholeAnswer, ask_each
from dpd.site_server.messages import AtGroup, AtPoint, GroupAnswer, PointAnswer
from dpd.site_server.points import Points

POINT_PREFIX, GROUP_PREFIX = "/v1/points/{dp}", "/v1/groups/{dp_group}"
_ANSWER_HEADERS = ("Content-Type", "Allow", "Cache-Control")
_REFUSALS = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
_EVENTS = "text/event-stream"
MAX_WHOLE_CHARACTERS = 64 << 20  # of an answer that does not come in lines


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def asker(self) -> Asker: ...
    @property
    def points(self) -> Points: ...


def point_routes(routes: Sequence[Route]) -> Iterator[Route]:
    """Each of the daemon's operations at one point, save those that bring a file back."""
    for route in routes:
        if route.path.startswith("/v1/") and route.reply_type in ("", _EVENTS):
            yield replace(
                route,
                path=POINT_PREFIX + route.path.removeprefix("/v1"),
                summary=f"At one point: {route.summary}",
                verb=_passing_on(route),
                parameters=_with(route, AtPoint),
                refusals=tuple(dict.fromkeys((*route.refusals, *_REFUSALS))),
            )


def group_routes(routes: Sequence[Route]) -> Iterator[Route]:
    """Each of the daemon's operations at every point of a group, save those that bring a file or have no end."""
    for route in routes:
        if route.path.startswith("/v1/") and not route.reply_type:
            yield replace(
                route,
                path=GROUP_PREFIX + route.path.removeprefix("/v1"),
                summary=f"At each point of a group: {route.summary}",
                verb=_asking_each(route),
                reply=GroupAnswer,
                is_stream=False,
                parameters=_with(route, AtGroup),
                refusals=tuple(dict.fromkeys((*route.refusals, *_REFUSALS))),
            )


def _with(route: Route, where: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The parameters of a route and where it is to be done."""
    if route.parameters is None:
        return where
    name = f"{route.parameters.__name__}{where.__name__}"
    own = [(each.name, each.type) for each in msgspec.structs.fields(where)]  # no struct may have two bases with fields
    return msgspec.defstruct(name, own, bases=(route.parameters,), kw_only=True, forbid_unknown_fields=True)


def _passing_on(route: Route) -> Any:
    async def pass_on(api: Asked, request: web.Request, parameters: Any, body: Any) -> web.StreamResponse:
        question = await read_question(request, route)
        parts = api.asker.parts(parameters.dp, question, caller_of(request))
        async with contextlib.aclosing(parts):
            first = await anext(parts, None)
            if first is None:
                raise BusError(f"point {parameters.dp}: its answer has no beginning")
            return await _pass_back(request, first, parts)

    pass_on.__name__ = f"{route.verb.__name__}_at_point"
    return pass_on


async def _pass_back(request: web.Request, first: Answer, rest: Any) -> web.StreamResponse:
    headers = {name: first.headers[name] for name in _ANSWER_HEADERS if name in first.headers}
    if not headers.get("Content-Type", "").startswith(LINES):
        return web.Response(status=first.status, body=await _whole(first, rest), headers=headers)
    response = web.StreamResponse(status=first.status, headers=headers)
    try:
        await response.prepare(request)
        await _write(response, first)
        async for part in rest:
            if headers.get("Content-Type", "").startswith(_EVENTS) and not still_may(request, Role.VIEWER):
                break
            await _write(response, part)
    except ConnectionError:
        pass  # whoever asked is gone, and the point is told so by the end of `rest`
    except (DpdError, TimeoutError):
        if request.transport is not None:  # there is no other way to say that an answer has no end
            request.transport.abort()
    return response


async def _whole(first: Answer, rest: Any) -> bytes:
    """Put together before anything is told, since there would be no way to say that the rest does not come. Raises BusError."""
    texts, size = [first.body], len(first.body)
    async for part in rest:
        texts.append(part.body)
        size += len(part.body)
        if size > MAX_WHOLE_CHARACTERS:
            raise BusError(
                f"answer of the point: more than {MAX_WHOLE_CHARACTERS >> 20} MB in one; ask for less, such as by a limit or a name"
            )
    return "".join(texts).encode()


async def _write(response: web.StreamResponse, part: Answer) -> None:
    """Raises TimeoutError for a client that takes nothing: the point would go on for it."""
    async with asyncio.timeout(STALLED_S):
        await response.write(part.body.encode())


def _asking_each(route: Route) -> Any:
    async def ask_group(api: Asked, request: web.Request, parameters: Any, body: Any) -> GroupAnswer:
        question, caller = await read_question(request, route), caller_of(request)
        names = api.points.names(parameters.dp_group)
        return GroupAnswer(await ask_each(names, lambda name: ask_one(api.asker, name, question, caller)))

    ask_group.__name__ = f"{route.verb.__name__}_at_group"
    return ask_group


async def ask_one(asker: Asker, point: str, question: Question, caller: Caller) -> PointAnswer:
    """A point that does not answer has an answer, too: why."""
    try:
        return _judge(point, await asker.whole(point, question, caller))
    except DpdError as error:
        status, failure = classify(error)
        return PointAnswer(point, status, error=failure)


def _judge(point: str, answer: WholeAnswer) -> PointAnswer:
    """Raises BusError for what is no answer of the API."""
    is_lines = answer.content_type.startswith(NDJSON)
    try:
        last: Any = msgspec.json.decode(answer.body.splitlines()[-1]) if is_lines and answer.body else answer.json()
        if isinstance(last, dict) and "error" in last and (answer.status != 200 or is_lines):
            return PointAnswer(point, answer.status, error=msgspec.convert(last["error"], Failure))
    except msgspec.MsgspecError as error:
        raise BusError(f"answer of the point: not as the API has it: {error}; is its dpd of another release?") from None
    return PointAnswer(point, answer.status, reply=last)


async def read_question(request: web.Request, route: Route) -> Question:
    """The request as it is passed on. Raises RequestRefused, BusError for what does not go over the bus."""
    if route.is_upload and request.content_type != JSON:
        raise RequestRefused(
            "body: content does not go over the bus; publish it at one point, and `dpd site content add PACKAGE --dp NAME` lets others fetch it from there"
        )
    # /v1/points/NAME/rest: of the path alone, since a client may ask by a whole URL
    _, _, _, _, rest = request.rel_url.raw_path_qs.split("/", 4)
    content_type = request.content_type if request.body_exists else JSON
    return Question(request.method, f"/v1/{rest}", await read_text(request), content_type)


async def read_text(request: web.Request) -> str:
    """JSON has been read and checked before; a text that is longer than it may be is not read to its end."""
    if request._read_bytes is not None:
        body = request._read_bytes
    else:
        read = bytearray()
        async for piece in request.content.iter_any():
            read += piece
            if len(read) > MAX_ASK_BYTES:
                raise RequestRefused(
                    f"body: larger than {MAX_ASK_BYTES} bytes, as much as goes over the bus; send it in several"
                )
        body = bytes(read)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"body: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
