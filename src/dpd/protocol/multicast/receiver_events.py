# SPDX-License-Identifier: Apache-2.0
"""What a receiver tells its owner, and asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dpd.protocol.multicast.assembly import SlabAssembly
from dpd.protocol.multicast.message import Control, ControlCode


@dataclass(frozen=True, slots=True)
class SlabReady:
    """Request: recover, verify and store this slab, then call `provide_verified`; or, where its hash is wrong and its
    leaves are known, keep what they confirm and call `provide_damaged`."""

    assembly: SlabAssembly


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fact: a datagram that changes nothing; `reason` is from a closed set."""

    reason: str


class SessionFact(Enum):
    """Facts that end a receiver's work here."""

    FINISHED = "every slab is verified"
    ENDED = "the sender ended the session"
    SILENT = "nothing was heard from the sender"
    MOVED = "the sender put us into another speed class"
    FALL_BACK = "the sender asked us to go on by unicast"
    KICKED = "the sender serves us no more"


ReceiverEvent = SlabReady | Ignored | SessionFact

_ORDERS = {
    ControlCode.MOVE: SessionFact.MOVED,
    ControlCode.FALL_BACK: SessionFact.FALL_BACK,
    ControlCode.KICK: SessionFact.KICKED,
}


def event_of(control: Control, member: int) -> ReceiverEvent | None:
    """What an order means to a member: END is for everybody, other orders for those they name by the low 32 bits of their
    ids. None: it is for others."""
    if control.code == ControlCode.END:
        return SessionFact.ENDED
    if control.code not in _ORDERS:
        return Ignored("unknown_order")
    return _ORDERS[ControlCode(control.code)] if member & 0xFFFFFFFF in control.members else None
