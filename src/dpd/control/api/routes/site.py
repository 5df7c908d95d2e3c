# SPDX-License-Identifier: Apache-2.0
"""The API's routes to boot policy."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.body_text import read_text
from dpd.control.api.messages.site import (
    ApproveRequest,
    Audit,
    AuditParameters,
    Cleared,
    ClearRequest,
    ComputerList,
    ComputerParameters,
    ComputerRequest,
    DeploymentList,
    DeploymentParameters,
    DeploymentRequest,
    ImportParameters,
    MaintenanceRequest,
    MaintenanceStatus,
    PendingParameters,
    RuleList,
    RuleParameters,
    RuleRequest,
)
from dpd.control.api.openapi import Route
from dpd.control.operations.site import (
    ComputerDetails,
    DeploymentRuns,
    DeploymentStatus,
    ImportReport,
    SiteOperations,
    Unknown,
)
from dpd.site.records import ApprovalRule, Computer, Deployment, MachineVerdict, normal_mac_prefix
from dpd.site.waiting_room import PendingMachine

MAX_CSV_BYTES = 16 << 20  # some 200000 computers


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def site(self) -> SiteOperations: ...


async def list_computers(api: Asked, request: web.Request, parameters: None, body: None) -> ComputerList:
    return ComputerList(api.site.computers())


async def add_computer(api: Asked, request: web.Request, parameters: None, body: ComputerRequest) -> Computer:
    computer = Computer(body.name, tuple(body.macs), body.guid, body.boot_image)
    return await asyncio.to_thread(api.site.add_computer, computer, actor_of(request))


async def import_computers(api: Asked, request: web.Request, parameters: ImportParameters, body: None) -> ImportReport:
    text = await read_text(request, MAX_CSV_BYTES, "import the computers in several files")
    actor = actor_of(request)
    return await asyncio.to_thread(
        api.site.import_computers, text, actor, dry_run=parameters.dry_run, form=parameters.format
    )


async def show_computer(
    api: Asked, request: web.Request, parameters: ComputerParameters, body: None
) -> ComputerDetails:
    return api.site.computer(parameters.computer)


async def remove_computer(api: Asked, request: web.Request, parameters: ComputerParameters, body: None) -> Computer:
    return await asyncio.to_thread(api.site.remove_computer, parameters.computer, actor_of(request))


async def list_deployments(api: Asked, request: web.Request, parameters: None, body: None) -> DeploymentList:
    return DeploymentList(await asyncio.to_thread(api.site.deployments))


async def add_deployment(
    api: Asked, request: web.Request, parameters: None, body: DeploymentRequest
) -> DeploymentStatus:
    wanted = Deployment(
        0,
        body.target,
        body.boot_image,
        body.purpose,
        body.priority,
        body.available_from,
        body.expires_at,
        name=body.name,
        audience=body.audience,
        rerun=body.rerun,
        sequence=body.sequence,
    )
    return await asyncio.to_thread(api.site.add_deployment, wanted, actor_of(request), body.confirm)


async def show_deployment(
    api: Asked, request: web.Request, parameters: DeploymentParameters, body: None
) -> DeploymentRuns:
    return api.site.deployment(parameters.deployment)


async def remove_deployment(
    api: Asked, request: web.Request, parameters: DeploymentParameters, body: None
) -> Deployment:
    return await asyncio.to_thread(api.site.remove_deployment, parameters.deployment, actor_of(request))


async def clear_deployment(
    api: Asked, request: web.Request, parameters: DeploymentParameters, body: ClearRequest
) -> Cleared:
    return Cleared(await asyncio.to_thread(api.site.clear_runs, parameters.deployment, body.machine, actor_of(request)))


async def list_pending(api: Asked, request: web.Request, parameters: None, body: None) -> Unknown:
    return await asyncio.to_thread(api.site.unknown)


async def approve_machine(
    api: Asked, request: web.Request, parameters: PendingParameters, body: ApproveRequest
) -> PendingMachine:
    return await asyncio.to_thread(
        api.site.approve, parameters.machine, actor_of(request), body.computer, body.boot_image
    )


async def deny_machine(api: Asked, request: web.Request, parameters: PendingParameters, body: None) -> MachineVerdict:
    return await asyncio.to_thread(api.site.deny, parameters.machine, actor_of(request))


async def take_back_verdict(
    api: Asked, request: web.Request, parameters: PendingParameters, body: None
) -> MachineVerdict:
    return await asyncio.to_thread(
        api.site.take_back, normal_mac_prefix(parameters.machine, whole=True), actor_of(request)
    )


async def list_rules(api: Asked, request: web.Request, parameters: None, body: None) -> RuleList:
    return RuleList(api.site.rules())


async def add_rule(api: Asked, request: web.Request, parameters: None, body: RuleRequest) -> ApprovalRule:
    return await asyncio.to_thread(api.site.add_rule, body.kind, body.value, actor_of(request))


async def remove_rule(api: Asked, request: web.Request, parameters: RuleParameters, body: None) -> ApprovalRule:
    return await asyncio.to_thread(api.site.remove_rule, parameters.rule, actor_of(request))


async def show_maintenance(api: Asked, request: web.Request, parameters: None, body: None) -> MaintenanceStatus:
    return MaintenanceStatus(api.site.maintenance())


async def change_maintenance(
    api: Asked, request: web.Request, parameters: None, body: MaintenanceRequest
) -> MaintenanceStatus:
    return MaintenanceStatus(await asyncio.to_thread(api.site.set_maintenance, body.reason.strip(), actor_of(request)))


async def show_audit(api: Asked, request: web.Request, parameters: AuditParameters, body: None) -> Audit:
    return Audit(await asyncio.to_thread(api.site.audit, parameters.limit))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT

ROUTES = (
    Route("GET", "/v1/computers", "The known computers, by name", list_computers, ComputerList),
    Route(
        "POST",
        "/v1/computers",
        "Know a computer from now on",
        add_computer,
        Computer,
        body=ComputerRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "POST",
        "/v1/computers/import",
        "Add and change computers out of a CSV file, dpd's with the columns name, mac, guid, boot_image, or another system's; all of them or none",
        import_computers,
        ImportReport,
        parameters=ImportParameters,
        upload_type="text/csv",
        refusals=(_CONFLICT,),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/computers/{computer}",
        "One computer, its deployments and what it has run",
        show_computer,
        ComputerDetails,
        parameters=ComputerParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "DELETE",
        "/v1/computers/{computer}",
        "Know a computer no longer",
        remove_computer,
        Computer,
        parameters=ComputerParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route("GET", "/v1/deployments", "The deployments, oldest first", list_deployments, DeploymentList),
    Route(
        "POST",
        "/v1/deployments",
        "Deploy a boot image",
        add_deployment,
        DeploymentStatus,
        body=DeploymentRequest,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/deployments/{deployment}",
        "One deployment and the machines that were given it",
        show_deployment,
        DeploymentRuns,
        parameters=DeploymentParameters,
        refusals=(_MISSING,),
    ),
    Route(
        "DELETE",
        "/v1/deployments/{deployment}",
        "Take a deployment out; boots that it began end",
        remove_deployment,
        Deployment,
        parameters=DeploymentParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route(
        "POST",
        "/v1/deployments/{deployment}/clear",
        "Let machines that have run a required deployment have it once more",
        clear_deployment,
        Cleared,
        parameters=DeploymentParameters,
        body=ClearRequest,
        refusals=(_MISSING,),
    ),
    Route(
        "GET",
        "/v1/pxe/pending",
        "Unknown machines: who waits for approval, and what was said about others",
        list_pending,
        Unknown,
    ),
    Route(
        "POST",
        "/v1/pxe/pending/{machine}/approve",
        "Let a machine that waits boot, once or as a known computer",
        approve_machine,
        PendingMachine,
        parameters=PendingParameters,
        body=ApproveRequest,
        refusals=(_MISSING, _CONFLICT),
    ),
    Route(
        "POST",
        "/v1/pxe/pending/{machine}/deny",
        "Answer an unknown machine no more",
        deny_machine,
        MachineVerdict,
        parameters=PendingParameters,
    ),
    Route(
        "DELETE",
        "/v1/pxe/verdicts/{machine}",
        "Take back what was said about a MAC",
        take_back_verdict,
        MachineVerdict,
        parameters=PendingParameters,
        refusals=(_MISSING,),
    ),
    Route("GET", "/v1/pxe/rules", "Rules by which unknown machines need no approval", list_rules, RuleList),
    Route(
        "POST",
        "/v1/pxe/rules",
        "Add such a rule",
        add_rule,
        ApprovalRule,
        body=RuleRequest,
        refusals=(_CONFLICT,),
        role=Role.ADMIN,
    ),
    Route(
        "DELETE",
        "/v1/pxe/rules/{rule}",
        "Take such a rule out",
        remove_rule,
        ApprovalRule,
        parameters=RuleParameters,
        refusals=(_MISSING, _CONFLICT),
        role=Role.ADMIN,
    ),
    Route("GET", "/v1/pxe/maintenance", "Whether machines are answered", show_maintenance, MaintenanceStatus),
    Route(
        "PATCH",
        "/v1/pxe/maintenance",
        "Answer no machine, or all again",
        change_maintenance,
        MaintenanceStatus,
        body=MaintenanceRequest,
        refusals=(_CONFLICT,),
        role=Role.ADMIN,
    ),
    Route(
        "GET",
        "/v1/audit",
        "The last changes of boot policy, oldest first: who, what, and the version that came of it",
        show_audit,
        Audit,
        parameters=AuditParameters,
    ),
)
