# SPDX-License-Identifier: Apache-2.0
"""What receivers say by HTTP, read and checked: join, progress, complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.geometry import decode_slab_set
from dpd.protocol.multicast.message import WIRE_VERSION

MAX_CREDIT = 1 << 20
MAX_SLOTS = 1024
MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """`verified` is a slab set; `member` is the id of an earlier join, 0 for none; `name` is the host's."""

    verified: int = 0
    credit: int = 1024
    slots: int = 16
    name: str = ""
    member: int = 0
    ciphers: tuple[str, ...] = ()


def read_join(request: Mapping[str, Any], slab_count: int) -> JoinRequest:
    """Raises MalformedMessage that names the field."""
    wires = request.get("wire", [WIRE_VERSION])
    if not isinstance(wires, list) or WIRE_VERSION not in wires:
        raise MalformedMessage(
            "wire", f"this distribution point speaks version {WIRE_VERSION}, the receiver offers {wires}"
        )
    return JoinRequest(
        read_verified(request, slab_count),
        _whole(request, "credit", 1024, MAX_CREDIT),
        _whole(request, "slots", 16, MAX_SLOTS),
        _name(request),
        read_member(request) if request.get("member") else 0,
        _ciphers(request),
    )


def read_verified(request: Mapping[str, Any], slab_count: int) -> int:
    """The slab set of `verified`; a missing one is empty. Raises MalformedMessage."""
    try:
        return decode_slab_set(bytes.fromhex(request["verified"]), slab_count) if request.get("verified") else 0
    except (TypeError, ValueError) as error:
        raise MalformedMessage("verified", f"expected a slab set as hex digits: {error}") from None


def read_member(request: Mapping[str, Any]) -> int:
    """The member id. Raises MalformedMessage."""
    try:
        return int(request.get("member", ""), 16)
    except (TypeError, ValueError):
        raise MalformedMessage("member", "expected the 16 hex digits that the join answered") from None


def _name(request: Mapping[str, Any]) -> str:
    name = request.get("name", "")
    if not isinstance(name, str):
        raise MalformedMessage("name", f"expected the receiver's host name, got {type(name).__name__}")
    return "".join(each for each in name if each.isprintable())[:MAX_NAME]


def _ciphers(request: Mapping[str, Any]) -> tuple[str, ...]:
    ciphers = request.get("ciphers", [])
    if not isinstance(ciphers, list) or not all(isinstance(each, str) for each in ciphers):
        raise MalformedMessage("ciphers", 'expected a list such as ["aes-128-gcm"]')
    return tuple(ciphers)


def _whole(request: Mapping[str, Any], field: str, default: int, highest: int) -> int:
    value = request.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
        raise MalformedMessage(field, f"expected a whole number from 1 to {highest}, got {value!r}")
    return value
