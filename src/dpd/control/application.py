# SPDX-License-Identifier: Apache-2.0
"""The API as an aiohttp application: who may ask, whether the request is well formed, how a failure is told."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from dpd.control.api import ROUTES, Api
from dpd.control.messages import EXPECTED, Failure
from dpd.control.openapi import Route
from dpd.control.operations import Operations
from dpd.control.refusals import RequestRefused, classify, refuse
from dpd.errors import DpdError

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 64 << 10

_WRONG_FIELD = re.compile(r"(.*) - at `\$\.?(.*)`")
_T = TypeVar("_T")


def make_application(operations: Operations, token: str | None = None) -> web.Application:
    """The API; with a token, every request must carry it."""
    middlewares = [_tell_failures] if token is None else [_tell_failures, _ask_for(token)]
    application = web.Application(middlewares=middlewares, client_max_size=MAX_JSON_BYTES)
    api = Api(operations)
    for route in ROUTES:
        application.router.add_route(route.method, route.path, _bind(route, api))
    return application


def _bind(route: Route, api: Api) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        parameters = _read_parameters(request, route)
        reply = await route.verb(api, request, parameters, await _read_body(request, route))
        if isinstance(reply, web.StreamResponse):
            return reply
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")

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
    if route.body is None or (route.is_upload and request.content_type != "application/json"):
        return None
    if route.is_upload and request.query:
        raise RequestRefused(f"{next(iter(request.query))}: a JSON body stands for itself, without a query")
    body = await request.read()
    return _checked(lambda expected: msgspec.json.decode(body, type=expected), route.body)


def _checked(read: Callable[[type[_T]], _T], expected: type[_T]) -> _T:
    try:
        return read(expected)
    except msgspec.ValidationError as error:
        raise RequestRefused(_name_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(f"body: expected JSON: {error}") from None


def _name_field(message: str) -> str:
    """msgspec's sentence with the field in front, and in words where it would show a pattern."""
    found = _WRONG_FIELD.fullmatch(message)
    if found is None:
        return message
    problem, field = found[1], found[2]
    if "matching regex" in problem and field in EXPECTED:
        problem = f"expected {EXPECTED[field]}"
    return f"{field}: {problem}"


def _ask_for(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, expected):  # takes the same time however much of a guess is right
            return await handler(request)
        log.warning("API request without the right token", extra={"peer": request.remote})
        message = "expected the header `Authorization: Bearer TOKEN` with the token of control.token_file"
        return refuse(401, Failure("unauthorized", message), {"WWW-Authenticate": "Bearer"})

    return check


@web.middleware
async def _tell_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The edge: whatever goes wrong with one request ends here, as JSON."""
    try:
        return await handler(request)
    except DpdError as error:
        status, failure = classify(error)
        return refuse(status, failure)
    except web.HTTPException as error:
        message = f"{request.method} {request.path}: {error.reason}; GET /openapi.json lists what there is"
        allow = error.headers.get("Allow")
        return refuse(error.status, Failure(f"http_{error.status}", message), {"Allow": allow} if allow else None)
    except Exception:
        log.exception("API request failed", extra={"method": request.method, "path": request.path})
        return refuse(500, Failure("internal", "a fault inside dpd; its log has the details"))
