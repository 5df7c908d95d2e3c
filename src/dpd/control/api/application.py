# SPDX-License-Identifier: Apache-2.0
"""The API as an aiohttp application: who may ask, whether the request is well formed, how a failure is told."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from dpd.control.access.actor import local_user
from dpd.control.access.callers import CALLER, DOOR, CallerUnknown, Door, require
from dpd.control.api.messages.message import EXPECTED, Failure
from dpd.control.api.openapi import JSON, Route
from dpd.control.api.refusals import RequestRefused, classify, refuse
from dpd.control.api.table import ROUTES, Api
from dpd.control.operations.verbs import Operations
from dpd.errors import DpdError

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 1 << 20  # ten thousand names in one collection

_LENGTH = re.compile(r"Expected `str` of length (<=|>=) ([0-9]+)")
_WRONG_FIELD = re.compile(r"(.*) - at `\$\.?(.*)`")
_T = TypeVar("_T")


def make_application(operations: Operations, door: Door = local_user) -> web.Application:
    """The API of a distribution point, for whoever this door knows."""
    return serve_routes(Api(operations), ROUTES, door)


def serve_routes(api: object, routes: Sequence[Route], door: Door) -> web.Application:
    """A table of routes over the Api whose verbs are in it, for whoever this door knows."""
    application = web.Application(middlewares=[_tell_failures, _ask(door)], client_max_size=MAX_JSON_BYTES)
    for route in routes:
        application.router.add_route(route.method, route.path, _bind(route, api))
    return application


def _ask(door: Door) -> Any:
    """Who asks, before anything else is looked at: a caller that nobody knows is not even told which routes there are."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CALLER], request[DOOR] = door(request), door
        return await handler(request)

    return ask


def _bind(route: Route, api: object) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        require(request, route.needed_role(request.content_type))
        parameters = _read_parameters(request, route)
        reply = await route.verb(api, request, parameters, await _read_body(request, route))
        if isinstance(reply, web.StreamResponse):
            return reply
        return web.Response(body=msgspec.json.encode(reply), content_type=JSON)

    return handle


def _read_parameters(request: web.Request, route: Route) -> Any:
    """The placeholders and the query, checked. Raises RequestRefused that names the parameter."""
    given: dict[str, str] = {}
    for name, value in (*request.match_info.items(), *request.query.items()):
        if name in given:
            raise RequestRefused(f"{name}: given more than once")
        given[name] = value
    if route.parameters is None:
        if given:
            raise RequestRefused(f"{next(iter(given))}: no such parameter here")
        return None
    return _checked(lambda expected: msgspec.convert(given, expected, strict=False), route.parameters)


async def _read_body(request: web.Request, route: Route) -> Any:
    """The JSON body, checked. Where a file may be sent instead, the content type decides."""
    if route.body is None or (route.is_upload and request.content_type != JSON):
        return None
    if route.is_upload and request.query:
        raise RequestRefused(f"{next(iter(request.query))}: a JSON body stands for itself, without a query")
    body = await request.read()
    return _checked(lambda expected: msgspec.json.decode(body, type=expected), route.body)


def _checked(read: Callable[[type[_T]], _T], expected: type[_T]) -> _T:
    try:
        return read(expected)
    except msgspec.ValidationError as error:
        raise RequestRefused(_name_field(str(error), expected)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(f"body: expected JSON: {error}") from None


def _choices_of(expected: type, field: str) -> str:
    """The words that a field of this may be, to be told behind what was given."""
    hint = get_type_hints(expected).get(field)
    kinds = [each for each in (hint, *get_args(hint)) if isinstance(each, type) and issubclass(each, Enum)]
    return "; expected one of " + ", ".join(str(each.value) for each in kinds[0]) if kinds else ""


def _name_field(message: str, expected: type) -> str:
    """msgspec's sentence with the field in front, and in words where it would show a pattern or a type of Python's."""
    found = _WRONG_FIELD.fullmatch(message)
    if found is None:
        return message
    problem, field = found[1], found[2]
    if "matching regex" in problem and field in EXPECTED:
        problem = f"expected {EXPECTED[field]}"
    elif problem.startswith("Invalid enum value"):
        problem = f"{problem}{_choices_of(expected, field)}"
    elif length := _LENGTH.fullmatch(problem):
        problem = f"expected at {'most' if length[1] == '<=' else 'least'} {length[2]} characters"
    return f"{field}: {problem}"


@web.middleware
async def _tell_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The edge: whatever goes wrong with one request ends here, as JSON."""
    try:
        return await handler(request)
    except DpdError as error:
        if isinstance(error, CallerUnknown):
            log.warning("API request of nobody known", extra={"peer": request.remote, "reason": str(error)})
        status, failure = classify(error)
        return refuse(status, failure)
    except web.HTTPException as error:
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            message = f"{request.method} {request.path}: expected a body of at most {MAX_JSON_BYTES} bytes"
            return refuse(error.status, Failure("http_413", message))
        message = f"{request.method} {request.path}: {error.reason}; GET /openapi.json lists what there is"
        allow = error.headers.get("Allow")
        return refuse(error.status, Failure(f"http_{error.status}", message), {"Allow": allow} if allow else None)
    except Exception:
        log.exception("API request failed", extra={"method": request.method, "path": request.path})
        return refuse(500, Failure("internal", "a fault inside dpd; its log has the details"))
