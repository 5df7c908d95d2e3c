# SPDX-License-Identifier: Apache-2.0
"""What the site store remembers, each thing as one frozen record; and the form in which it is written down.

Times are seconds since the epoch, 0 where there is none. MACs are aa:bb:cc:dd:ee:ff, GUIDs lower-case with hyphens.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

from dpd.errors import DpdError
from dpd.sequence.variables import HIDDEN

ALL_COMPUTERS, UNKNOWN_COMPUTERS = "all", "unknown"  # targets beside the names of computers
COLLECTION_TARGET = "collection:"  # and a collection's name: a target too

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAC_PREFIX = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){0,5}")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SiteError(DpdError):
    """Policy cannot take this: names what, which and what was expected."""


class SiteNotFound(SiteError):
    """No such computer, deployment, pending machine or rule."""


class SiteConflict(SiteError):
    """It would contradict what is there: a name, MAC or GUID that another computer has."""


class NotConfirmed(SiteConflict):
    """It would reach more computers than are reached without being asked once more; `computers` is how many."""

    def __init__(self, message: str, computers: int) -> None:
        super().__init__(message)
        self.computers = computers


class Purpose(StrEnum):
    """What a deployment is for, in Configuration Manager's words."""

    REQUIRED = "required"  # boots without a key, once
    AVAILABLE = "available"  # whoever sits there decides


class Audience(StrEnum):
    """Who is offered a deployment. Only those with PXE in them count at a network boot."""

    CLIENTS = "clients"  # from a running operating system alone
    ALL = "all"  # clients, media and PXE
    MEDIA_AND_PXE = "media_and_pxe"
    HIDDEN = "media_and_pxe_hidden"  # only who names the deployment gets it


class Rerun(StrEnum):
    """Whether a required deployment that a machine was given counts once more at its next network boot."""

    NEVER = "never"  # until somebody clears it
    IF_FAILED = "if_failed"  # while it has not finished
    IF_SUCCEEDED = "if_succeeded"
    ALWAYS = "always"


class MemberKind(StrEnum):
    """What a membership rule looks at."""

    NAME = "name"  # a shell pattern such as "LAB-*", in any case
    MAC_PREFIX = "mac_prefix"
    GUID = "guid"  # a shell pattern


class RuleKind(StrEnum):
    """What an approval rule looks at."""

    MAC_PREFIX = "mac_prefix"
    NETWORK = "network"
    CIRCUIT = "circuit"


class AffinityMode(StrEnum):
    """What becomes of the user whom a booted machine names as its own, in Configuration Manager's words."""

    NONE = "none"
    PENDING = "pending"  # somebody has to approve it
    AUTO = "auto"


class Verdict(StrEnum):
    """What was said about an unknown machine."""

    ALLOWED = "allowed"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Computer:
    """A known computer: one of its MACs or its GUID is enough to be it. `boot_image` stands before a deployment's."""

    name: str
    macs: tuple[str, ...]
    guid: str = ""
    boot_image: str = ""
    added_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A boot image for a computer, a "collection:NAME", "all" known computers or every "unknown" one. `boot_image` "" is the
    default one. `name` is "" or the only one of that name: by it a declaration knows the deployment again. `sequence` is the task
    sequence that the booted machine takes: "NAME", the newest of it, or "NAME@3"; "" is none."""

    id: int
    target: str
    boot_image: str
    purpose: Purpose
    priority: int = 0  # the higher one wins
    available_from: float = 0.0
    expires_at: float = 0.0
    added_at: float = 0.0
    name: str = ""
    audience: Audience = Audience.ALL
    rerun: Rerun = Rerun.NEVER
    sequence: str = ""

    @property
    def collection(self) -> str:
        """The name of the collection that it is for, "" where it is for something else."""
        is_one = self.target[: len(COLLECTION_TARGET)].lower() == COLLECTION_TARGET
        return self.target[len(COLLECTION_TARGET) :] if is_one else ""

    def has_begun(self, at: float) -> bool:
        return at >= self.available_from

    def has_ended(self, at: float) -> bool:
        return 0 < self.expires_at <= at


@dataclass(frozen=True, slots=True)
class MembershipRule:
    """Computers that belong to a collection without being named."""

    kind: MemberKind
    value: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Known computers that are spoken of as one: `computers` are named, `rules` find others, `include` and `exclude` are other
    collections; who is excluded is no member whatever else says so."""

    name: str
    computers: tuple[str, ...] = ()
    rules: tuple[MembershipRule, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    description: str = ""
    added_at: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Variable:
    """What a task sequence reads at a machine. `target` is as a deployment's. The value of one that is `secret` is for machines
    alone: no text that is made of the record has it."""

    target: str
    name: str
    value: str
    secret: bool = False

    @property
    def shown(self) -> str:
        """The value as people may see it."""
        return HIDDEN if self.secret else self.value

    def __repr__(self) -> str:
        return f"Variable({self.target!r}, {self.name!r}, {self.shown!r}, {self.secret})"


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a network's machines find content: distribution points by name, the best first."""

    network: str
    points: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A distribution point of the site. `groups` are names by which several are steered at once; `url` is where others fetch
    content from it, "" where nobody may."""

    name: str
    groups: tuple[str, ...] = ()
    url: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose policy this is: the site that a distribution point mirrors, the version of its policy, and when that came."""

    site: str
    version: int
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """A machine that was given a required deployment. `machine` is the computer's name in lower case, or the MAC of an
    unknown one; `finished_at` is when it had fetched the last of its boot image."""

    deployment: int
    machine: str
    mac: str
    started_at: float
    finished_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Unknown machines that need nobody's word."""

    id: int
    kind: RuleKind
    value: str
    added_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MachineVerdict:
    """What was said about one unknown machine, and until when (0: for good)."""

    mac: str
    verdict: Verdict
    expires_at: float
    decided_at: float
    actor: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what; `policy_version` is the one that came of it."""

    id: int
    at: float
    actor: str
    action: str
    detail: str
    policy_version: int


def check_name(name: str) -> str:
    """A computer's name. Raises SiteError."""
    if not _NAME.fullmatch(name) or name.lower() in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
        raise SiteError(
            f'name {name[:70]!r}: expected 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit, and not "all" or "unknown"'
        )
    return name


def normal_mac_prefix(text: str, *, whole: bool = False) -> str:
    """AA-BB-CC, aabb.cc or aa:bb:cc as aa:bb:cc; with `whole`, six bytes. Raises SiteError."""
    digits = re.sub(r"[:.-]", "", text.strip().lower())
    normal = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    if not _MAC_PREFIX.fullmatch(normal) or (whole and len(normal) != 17):
        expected = "six bytes such as 52:54:00:12:34:56" if whole else "one to six bytes such as 52:54:00"
        raise SiteError(f"mac {text[:40]!r}: expected {expected}")
    return normal


def normal_guid(text: str) -> str:
    """With or without braces, in any case. Raises SiteError."""
    normal = text.strip().strip("{}").lower()
    if not _GUID.fullmatch(normal):
        raise SiteError(f"guid {text[:60]!r}: expected such as 4c4c4544-0044-3510-8052-b4c04f4e4d31")
    return normal


def normal_computer(
    name: str, macs: tuple[str, ...], guid: str = "", boot_image: str = "", added_at: float = 0.0
) -> Computer:
    """A computer in the form in which it is looked up. Raises SiteError."""
    known_macs = tuple(dict.fromkeys(normal_mac_prefix(mac, whole=True) for mac in macs))
    known_guid = normal_guid(guid) if guid.strip() else ""
    if not known_macs and not known_guid:
        raise SiteError(f"computer {name}: expected a MAC or a GUID to know it by")
    return Computer(check_name(name), known_macs, known_guid, boot_image.strip(), added_at)


def normal_rule_value(kind: RuleKind, value: str) -> str:
    """What a rule compares with. Raises SiteError."""
    if kind is RuleKind.MAC_PREFIX:
        return normal_mac_prefix(value)
    if kind is RuleKind.CIRCUIT:
        digits = value.strip().lower().removeprefix("0x").replace(":", "")
        if not re.fullmatch(r"([0-9a-f]{2}){1,255}", digits):
            raise SiteError(
                f"circuit {value[:60]!r}: expected option 82's circuit id in hex, as `dpd pxe pending` shows it"
            )
        return digits
    try:
        return str(ipaddress.ip_network(value.strip()))
    except ValueError:
        raise SiteError(f"network {value[:60]!r}: expected such as 10.1.0.0/16 or fd00:1::/64") from None
