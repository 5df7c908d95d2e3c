# SPDX-License-Identifier: Apache-2.0
"""The API's routes to collections, and to whose policy it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.messages.model import (
    CollectionChangeRequest,
    CollectionList,
    CollectionMembers,
    CollectionParameters,
    CollectionRequest,
    MemberParameters,
    MembersRequest,
    RuleOfMembership,
)
from dpd.control.api.openapi import Route
from dpd.control.operations.model import CollectionChange, CollectionStatus, PolicyStatus
from dpd.control.operations.site import SiteOperations
from dpd.site.records import Collection, MembershipRule


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def site(self) -> SiteOperations: ...


def _rules(given: Iterable[RuleOfMembership]) -> tuple[MembershipRule, ...]:
    return tuple(MembershipRule(each.kind, each.value) for each in given)


async def list_collections(api: Asked, request: web.Request, parameters: None, body: None) -> CollectionList:
    return CollectionList(api.site.model.collections())


async def add_collection(
    api: Asked, request: web.Request, parameters: None, body: CollectionRequest
) -> CollectionStatus:
    lists = tuple(body.computers), _rules(body.rules), tuple(body.include), tuple(body.exclude)
    wanted = Collection(body.name, *lists, body.description)
    return await asyncio.to_thread(api.site.model.add_collection, wanted, actor_of(request))


async def show_collection(
    api: Asked, request: web.Request, parameters: CollectionParameters, body: None
) -> CollectionStatus:
    return api.site.model.collection(parameters.collection)


async def list_collection_members(
    api: Asked, request: web.Request, parameters: CollectionParameters, body: None
) -> CollectionMembers:
    return CollectionMembers(await asyncio.to_thread(api.site.model.members, parameters.collection))


async def change_collection(
    api: Asked, request: web.Request, parameters: CollectionParameters, body: CollectionChangeRequest
) -> CollectionStatus:
    change = CollectionChange(
        None if body.computers is None else tuple(body.computers),
        None if body.rules is None else _rules(body.rules),
        None if body.include is None else tuple(body.include),
        None if body.exclude is None else tuple(body.exclude),
        body.description,
    )
    actor = actor_of(request)
    return await asyncio.to_thread(api.site.model.change_collection, parameters.collection, change, actor, body.confirm)


async def add_members(
    api: Asked, request: web.Request, parameters: CollectionParameters, body: MembersRequest
) -> CollectionStatus:
    named, actor = tuple(body.computers), actor_of(request)
    return await asyncio.to_thread(api.site.model.add_members, parameters.collection, named, actor, body.confirm)


async def remove_member(api: Asked, request: web.Request, parameters: MemberParameters, body: None) -> CollectionStatus:
    actor = actor_of(request)
    return await asyncio.to_thread(api.site.model.remove_member, parameters.collection, parameters.computer, actor)


async def remove_collection(
    api: Asked, request: web.Request, parameters: CollectionParameters, body: None
) -> Collection:
    return await asyncio.to_thread(api.site.model.remove_collection, parameters.collection, actor_of(request))


async def show_policy(api: Asked, request: web.Request, parameters: None, body: None) -> PolicyStatus:
    return api.site.model.policy()


async def release_policy(api: Asked, request: web.Request, parameters: None, body: None) -> PolicyStatus:
    return await asyncio.to_thread(api.site.model.release, actor_of(request))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT

ROUTES = (
    Route("GET", "/v1/collections", "The collections, by name", list_collections, CollectionList),
    Route(
        "POST",
        "/v1/collections",
        "Make a collection of known computers",
        add_collection,
        CollectionStatus,
        body=CollectionRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/collections/{collection}",
        "One collection, how many belong to it, and its deployments",
        show_collection,
        CollectionStatus,
        parameters=CollectionParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "PATCH",
        "/v1/collections/{collection}",
        "Change a collection",
        change_collection,
        CollectionStatus,
        parameters=CollectionParameters,
        body=CollectionChangeRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/collections/{collection}",
        "Take a collection out that nothing is deployed to",
        remove_collection,
        Collection,
        parameters=CollectionParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/collections/{collection}/members",
        "The computers that belong to a collection now, and by what",
        list_collection_members,
        CollectionMembers,
        parameters=CollectionParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "POST",
        "/v1/collections/{collection}/members",
        "Name computers in a collection",
        add_members,
        CollectionStatus,
        parameters=CollectionParameters,
        body=MembersRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/collections/{collection}/members/{computer}",
        "Name a computer in a collection no longer",
        remove_member,
        CollectionStatus,
        parameters=MemberParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route("GET", "/v1/policy", "Policy at a glance, and whose it is", show_policy, PolicyStatus),
    Route(
        "DELETE",
        "/v1/policy/authority",
        "Make the policy that a site said this point's own",
        release_policy,
        PolicyStatus,
        refusals=(_CONFLICT,),
        role=Role.ADMIN,
    ),
)
