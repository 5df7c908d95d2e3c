# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about boot policy, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from dpd.control.api.messages.message import Request
from dpd.control.api.messages.model import Confirm
from dpd.control.operations.site import DeploymentStatus
from dpd.site.import_formats import ImportFormat
from dpd.site.records import ApprovalRule, Audience, AuditEntry, Computer, Purpose, Rerun, RuleKind

ComputerName = Annotated[str, Meta(min_length=1, max_length=63, description="A computer's name")]
BootImageId = Annotated[str, Meta(max_length=64, description='A boot image, or "" for the default one')]
DeploymentId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="A deployment, by the number it is listed under")]
RuleId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="An approval rule, by the number it is listed under")]
CodeOrMac = Annotated[str, Meta(min_length=6, max_length=20, description="The code on a machine's screen, or its MAC")]
MachineName = Annotated[
    str, Meta(min_length=1, max_length=63, description="A computer's name, or the MAC of an unknown machine")
]
Target = Annotated[
    str, Meta(min_length=1, max_length=75, description='A computer\'s name, "collection:NAME", "all" or "unknown"')
]
SequenceReference = Annotated[
    str, Meta(max_length=80, description='A task sequence, the newest of "NAME" or "NAME@VERSION"; "" for none')
]
Moment = Annotated[float, Meta(ge=0, le=2**40, description="Seconds since the epoch; 0 is no such moment")]


class ComputerParameters(Request):
    computer: ComputerName


class ComputerRequest(Request):
    """A computer to know, by at least one MAC or its GUID."""

    name: ComputerName
    macs: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=64)] = field(default_factory=list)
    guid: Annotated[str, Meta(max_length=64)] = ""
    boot_image: BootImageId = ""


class ImportParameters(Request):
    """With `dry_run` nothing is done, and the reply tells what would be. `format` says whose file it is."""

    dry_run: bool = False
    format: ImportFormat = ImportFormat.DPD


class DeploymentParameters(Request):
    deployment: DeploymentId


class DeploymentRequest(Request):
    """`target` is a computer's name, "collection:NAME", "all" for every known computer or "unknown" for every unknown one. A
    required deployment boots without a key, once or as `rerun` says; an available one asks. The higher priority wins.
    `expires_at` 0 is never. A required one that reaches many computers needs `confirm`, their number. `audience` clients is
    not offered to network boots. `name` is "" or the only one of that name. The booted machine takes `sequence`, where there is one."""

    target: Target
    boot_image: BootImageId = ""
    purpose: Purpose = Purpose.AVAILABLE
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    available_from: Moment = 0.0
    expires_at: Moment = 0.0
    name: Annotated[str, Meta(max_length=63)] = ""
    audience: Audience = Audience.ALL
    rerun: Rerun = Rerun.NEVER
    sequence: SequenceReference = ""
    confirm: Confirm | None = None


class ClearRequest(Request):
    """Without a machine, every one."""

    machine: MachineName | None = None


class PendingParameters(Request):
    machine: CodeOrMac


class ApproveRequest(Request):
    """With `computer` the machine is known under that name from now on, with its MAC and GUID; else it may boot once."""

    computer: Annotated[str, Meta(max_length=63)] = ""
    boot_image: BootImageId = ""


class RuleParameters(Request):
    rule: RuleId


class RuleRequest(Request):
    """Unknown machines that need no approval: by the first bytes of the MAC, by the network of the relay (or of our own
    address), or by option 82's circuit id in hex."""

    kind: RuleKind
    value: Annotated[str, Meta(min_length=1, max_length=520)]


class MaintenanceRequest(Request):
    """With a reason no machine is answered; boots under way go on. "" ends that."""

    reason: Annotated[str, Meta(max_length=200)]


class AuditParameters(Request):
    limit: Annotated[int, Meta(ge=1, le=10000)] = 100


class ComputerList(Struct):
    computers: list[Computer]


class DeploymentList(Struct):
    deployments: list[DeploymentStatus]


class Cleared(Struct):
    cleared: int


class RuleList(Struct):
    rules: list[ApprovalRule]


class MaintenanceStatus(Struct):
    """`reason` "": machines are answered."""

    reason: str


class Audit(Struct):
    entries: list[AuditEntry]
