# SPDX-License-Identifier: Apache-2.0
"""Who may ask the API for what: roles, callers, and the doors that say who a caller is.

A door looks at a request and says who asks and in which role, or raises CallerUnknown. Each route says which role it
needs. So the same operation has the same rule by every door, and a door knows nothing of operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from aiohttp import web

from dpd.errors import DpdError


class Role(StrEnum):
    """What a caller may do: a viewer looks, an operator moves content and machines, an admin says what the rules are."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what that one may."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the audit has it. `door` is by which way: "unix", "tcp", "console", "bus"."""

    name: str
    role: Role
    door: str


CALLER = web.RequestKey("caller", Caller)

Door: TypeAlias = Callable[[web.Request], Caller]
"""Who asks. Raises CallerUnknown. Called on the control loop for each request, so it never waits."""

DOOR: web.RequestKey[Door] = web.RequestKey("door")


class CallerUnknown(DpdError):
    """Nothing in the request says who asks, or what says so is wrong."""


class RoleMissing(DpdError):
    """The caller is known, and may not do this."""


def caller_of(request: web.Request) -> Caller:
    """Who asks, as the door said."""
    return request[CALLER]


def require(request: web.Request, needed: Role) -> None:
    """Raises RoleMissing where the caller may not do what this role may."""
    caller = caller_of(request)
    if not caller.role.covers(needed):
        raise RoleMissing(
            f"{request.method} {request.path}: needs the role {needed}, and {caller.name} is {caller.role}; ask as somebody who is {needed}"
        )


def still_may(request: web.Request, needed: Role) -> bool:
    """Whether the door would let the same request in now: a reply without end outlives a token that is taken back."""
    try:
        return request[DOOR](request).role.covers(needed)
    except CallerUnknown:
        return False
