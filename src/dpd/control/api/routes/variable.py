# SPDX-License-Identifier: Apache-2.0
"""The API's routes to variables of computers and collections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.variable import (
    ComputerParameters,
    VariableList,
    VariableParameters,
    VariableRequest,
    VariablesParameters,
)
from dpd.control.api.openapi import Route
from dpd.control.operations.site import SiteOperations
from dpd.control.operations.variable import ShownVariable
from dpd.site.records import Variable


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def site(self) -> SiteOperations: ...


async def list_variables(api: Asked, request: web.Request, parameters: VariablesParameters, body: None) -> VariableList:
    return VariableList(api.site.variables.variables(parameters.target))


async def list_variables_of(
    api: Asked, request: web.Request, parameters: ComputerParameters, body: None
) -> VariableList:
    return VariableList(api.site.variables.variables_of(parameters.computer))


async def set_variable(api: Asked, request: web.Request, parameters: None, body: VariableRequest) -> ShownVariable:
    wanted = Variable(body.target, body.name, body.value, body.secret)
    return await asyncio.to_thread(api.site.variables.set_variable, wanted, actor_of(request))


async def remove_variable(
    api: Asked, request: web.Request, parameters: VariableParameters, body: None
) -> ShownVariable:
    target, name = parameters.target, parameters.variable
    return await asyncio.to_thread(api.site.variables.remove_variable, target, name, actor_of(request))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT

ROUTES = (
    Route(
        "GET",
        "/v1/variables",
        "Variables that task sequences read, by whom they are for; nothing that is secret",
        list_variables,
        VariableList,
        parameters=VariablesParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/variables",
        "Set a variable of a computer, a collection, all known or the unknown computers",
        set_variable,
        ShownVariable,
        body=VariableRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/variables/{target}/{variable}",
        "Take a variable out",
        remove_variable,
        ShownVariable,
        parameters=VariableParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/computers/{computer}/variables",
        "The variables that a computer's task sequence begins with, and whose each is",
        list_variables_of,
        VariableList,
        parameters=ComputerParameters,
        refusals=(_MISSING, _CONFLICT),
    ),
)
