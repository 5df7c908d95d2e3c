# SPDX-License-Identifier: Apache-2.0
"""The API's table of routes, and the OpenAPI 3.1 document made of it.

One Route says everything: what the server checks, what the document tells. So the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from dpd.control.access.callers import Role

TITLE = "dpd control API"
JSON = "application/json"
NDJSON = "application/x-ndjson"
ABOUT = (
    "What the operator and the site server may ask of one distribution point. The door is a Unix socket, whose users are "
    "admins; over TCP a request carries `Authorization: Bearer TOKEN`, or its connection a client certificate, and the role "
    "of that token or certificate counts: `x-dpd-role` is the role that an operation needs, `x-dpd-role-of-json` the one for "
    "a JSON body where bytes may be sent instead (it names files of the daemon's machine). Each role may what those before "
    "it may: viewer, operator, admin. Replies of type application/x-ndjson are one JSON object a line: "
    "`progress` lines while the work runs, then one line with `content` or `error`. What can be refused at once has a "
    "status of its own; what fails on the way, after the 200, ends in the `error` line."
)
SECURITY = {"token": {"type": "http", "scheme": "bearer"}, "certificate": {"type": "mutualTLS"}}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

Verb = Callable[[Any, web.Request, Any, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One verb at one path. `parameters` is a Struct of the path's placeholders and the query, `body` one of the JSON
    body; `is_upload`: raw bytes may come instead; `upload_type`: the body is a text of this type, which the verb reads;
    `is_stream`: the reply is many `reply`, one a line; `reply_type`: the reply is a file of this type. `role`: who may ask;
    where none is given, a viewer may GET and an operator do the rest. `json_role`: who may send JSON where bytes may come
    instead, since it names files of the daemon's machine, which an upload does not."""

    method: str
    path: str
    summary: str
    verb: Verb
    reply: type
    parameters: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    is_upload: bool = False
    upload_type: str = ""
    is_stream: bool = False
    reply_type: str = ""
    refusals: tuple[HTTPStatus, ...] = ()
    role: Role | None = None
    json_role: Role | None = None

    def needed_role(self, content_type: str) -> Role:
        """Who may ask, with a body of this type."""
        if self.json_role is not None and content_type == JSON:
            return self.json_role
        return self.role or (Role.VIEWER if self.method == "GET" else Role.OPERATOR)

    @property
    def placeholders(self) -> frozenset[str]:
        return frozenset(_PLACEHOLDER.findall(self.path))


def describe(routes: Sequence[Route], failure: type, version: str) -> dict[str, Any]:
    """The OpenAPI document. `failure` is the body of every refusal."""
    types = {failure, *(route.reply for route in routes), *(route.body for route in routes if route.body)} - {dict}
    ordered = sorted(types, key=lambda each: each.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    schemas, components = msgspec.json.decode(msgspec.json.encode((schemas, components)))  # a default of () is a list
    by_type = dict(zip(ordered, schemas, strict=True)) | {dict: {"type": "object"}}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, failure)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }  # fmt: skip


def _operation(route: Route, schemas: dict[type, Any], failure: type) -> dict[str, Any]:
    media = NDJSON if route.is_stream else JSON
    reply = {route.reply_type: {}} if route.reply_type else {media: {"schema": schemas[route.reply]}}
    done = {"description": route.summary, "content": reply}
    refused = {JSON: {"schema": schemas[failure]}}
    responses: dict[str, Any] = {"200": done}
    statuses = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, *route.refusals}
    if route.body is not None:
        statuses.add(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    responses |= {str(each.value): {"description": each.phrase, "content": refused} for each in sorted(statuses)}
    operation: dict[str, Any] = {"operationId": route.verb.__name__, "summary": route.summary, "responses": responses}
    operation["x-dpd-role"] = route.needed_role("")
    if route.json_role is not None:
        operation["x-dpd-role-of-json"] = route.json_role
    if route.parameters is not None:
        operation["parameters"] = list(_parameters(route))
    if route.body is not None:
        content: dict[str, Any] = {JSON: {"schema": schemas[route.body]}}
        if route.is_upload:
            content["application/octet-stream"] = {}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.upload_type:
        content = {route.upload_type: {"schema": {"type": "string"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    assert route.parameters is not None
    schemas = msgspec.json.schema_components([route.parameters])[1]
    schema = schemas[route.parameters.__name__]
    for name, rule in schema["properties"].items():
        inside = "path" if name in route.placeholders else "query"
        required = inside == "path" or name in schema.get("required", ())
        yield {"name": name, "in": inside, "required": required, "schema": _whole(rule, schemas)}


def _whole(rule: Any, schemas: dict[str, Any]) -> Any:
    """A rule without references: the document has a place for the types of bodies, and none for those of parameters."""
    if isinstance(rule, dict) and "$ref" in rule:
        return _whole(schemas[rule["$ref"].removeprefix("#/$defs/")], schemas)
    if isinstance(rule, dict):
        return {name: _whole(value, schemas) for name, value in rule.items()}
    return [_whole(value, schemas) for value in rule] if isinstance(rule, list) else rule
