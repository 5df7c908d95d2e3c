# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: valid, and about the very routes that the server has."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
import pytest
from openapi_spec_validator import validate

from dpd.control.api.application import make_application
from dpd.control.api.openapi import Route
from dpd.control.api.table import ROUTES, openapi_document
from dpd.control.operations.verbs import Operations


def test_the_document_is_valid_openapi_3_1() -> None:
    document = openapi_document()
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_the_server_hands_the_document_out(api: aiohttp.ClientSession) -> None:
    async with api.get("/openapi.json") as response:
        assert await response.json() == openapi_document()


async def test_the_document_has_every_route_of_the_server_and_no_other(operations: Operations) -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in make_application(operations).router.routes()
        if route.resource is not None
    }
    paths = openapi_document()["paths"]
    assert {(method.upper(), path) for path, verbs in paths.items() for method in verbs} == served


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_operation_tells_its_parameters_and_refusals(route: Route) -> None:
    operation = openapi_document()["paths"][route.path][route.method.lower()]
    told = {p["name"]: p for p in operation.get("parameters", [])}
    assert {name for name, p in told.items() if p["in"] == "path"} == route.placeholders
    fields = route.parameters.__struct_fields__ if route.parameters else ()
    assert set(told) == set(fields)
    expected = {HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, *route.refusals}
    expected |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE} if route.body else set()
    assert set(operation["responses"]) == {str(int(status)) for status in expected}
    assert operation["x-dpd-role"] == route.needed_role("")


def test_a_json_body_that_names_files_of_the_daemon_has_a_role_of_its_own() -> None:
    operation = openapi_document()["paths"]["/v1/content"]["post"]
    assert (operation["x-dpd-role"], operation["x-dpd-role-of-json"]) == ("operator", "admin")


def test_rules_of_fields_are_in_the_document() -> None:
    parameters = openapi_document()["paths"]["/v1/content/{package_id}"]["get"]["parameters"]
    package, version = parameters
    assert package["required"] is True
    assert package["schema"]["pattern"].startswith("^[A-Za-z0-9]")
    assert version["required"] is False
    assert {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}.items() <= version["schema"]["anyOf"][0].items()
