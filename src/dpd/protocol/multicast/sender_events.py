# SPDX-License-Identifier: Apache-2.0
"""What a sender asks of its owner and tells it, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParityNeeded:
    """Request: compute parity rows `first` .. `first + count - 1` of a slab, then call `provide_parity`."""

    slab: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class SlabSettled:
    """Fact: no live member lacks this slab; its parity rows may go."""

    slab: int


@dataclass(frozen=True, slots=True)
class MemberSilent:
    """Fact: nothing was heard from a member for `member_timeout_s`; it is no longer waited for."""

    member: int


@dataclass(frozen=True, slots=True)
class MemberForgotten:
    """Fact: a member was silent for so long that nothing is kept of it."""

    member: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fact: a datagram, or a part of one, that changes nothing; `reason` is from a closed set."""

    reason: str


SenderEvent = ParityNeeded | SlabSettled | MemberSilent | MemberForgotten | Ignored


@dataclass(slots=True)
class SenderCounters:
    """Plain counts for the owner's statistics."""

    source_symbols: int = 0
    repair_symbols: int = 0  # asked for or promised
    promised_symbols: int = 0  # those of them that came unasked
    beats: int = 0
    ncfs: int = 0
    nacks: int = 0
    reports: int = 0
    credit_stalls: int = 0
