# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a session: one place for each receiver, wherever its bytes come from, and what became of the others."""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dpd.errors import MalformedMessage
from dpd.protocol.multicast.geometry import SLAB_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import Tally

FINISHED_KEPT = 1000
BARRED_KEPT = 4096
MAX_COUNT = 2**53  # what every reader of JSON takes as a whole number
TALLY_NAMES = tuple(each.name for each in fields(Tally))
STATISTICS = (*TALLY_NAMES, "recovered", "nacks", "moves", "seconds", "unicast_bytes")


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One receiver of a session, as the API shows it. `joined_at` and `finished_at` are seconds since the epoch; `mode` is
    "multicast" or "unicast"; `state` is "waiting", "receiving", "moving", "complete" or "silent", and for those who are gone
    "complete", "kicked", "lost" or "ended". Counts are of symbols where the name does not say. Several are what the
    receiver says of itself: `dpd.protocol.multicast.message.Tally`."""

    member: str
    name: str
    address: str
    mode: str
    state: str
    reason: str
    speed_class: int
    class_moves: int
    verified_slabs: int
    joined_at: float
    joined_s_ago: float
    finished_at: float | None
    round_trip_ms: float
    free_slabs: int
    window: int
    received: int
    lost: int
    socket_drops: int
    duplicates: int
    reordered: int
    repairs: int
    suppressed: int
    bad_slabs: int
    unicast_slabs: int
    drain_kib_s: int
    nacks: int
    blame: int
    recovered: int
    bytes_first_sent: int
    bytes_repair: int
    bytes_unicast: int


@dataclass(slots=True)
class Place:
    """One receiver's place. `counted` is what it told in streams that it has left, or at its end."""

    member: int
    address: str
    name: str
    joined_at: float
    heard_at: float  # monotonic; kept for those by unicast, whom no stream hears
    speed_class: int = 0
    next_class: int | None = None  # it has its orders to move and did not come again yet
    is_multicast: bool = True
    stays_unicast: bool = False  # also where it joins again
    class_moves: int = 0
    verified: int = 0  # slab set, as told by join and progress
    reason: str = ""
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name by which operators know it: the low half, since the whole is its credential."""
        return f"{short(self.member):08x}"


def short(member: int) -> int:
    """The half of a member's id that CONTROL and BEAT name it by."""
    return member & 0xFFFFFFFF


class Roster:
    """The places of one session, and the last FINISHED_KEPT who left it."""

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.finished: deque[MemberStatus] = deque(maxlen=FINISHED_KEPT)
        self._shorts: set[int] = set()
        self._barred: deque[tuple[int, str, str]] = deque(maxlen=BARRED_KEPT)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Place]:
        """A copy: other threads come and go."""
        return iter(list(self.places.values()))

    @property
    def multicast_count(self) -> int:
        return sum(place.is_multicast for place in self)

    def seat(self, address: str, name: str, before: Place | None = None) -> Place:
        """A place under a new id; what a receiver that comes again has counted and earned goes with it."""
        now = time.monotonic()
        place = Place(self._new_id(), address, name, time.time(), now)
        if before is not None:
            place.joined_at, place.speed_class = before.joined_at, before.speed_class
            place.class_moves, place.stays_unicast = before.class_moves, before.stays_unicast
        self.places[place.member] = place
        return place

    def _new_id(self) -> int:
        """64 bits that nobody can guess, the low 32 of them used by nobody else: CONTROL names members by those."""
        while True:
            member = secrets.randbits(64)
            if short(member) and short(member) not in self._shorts:
                self._shorts.add(short(member))
                return member

    def leave(self, member: int) -> Place | None:
        """Take a place back. Its short name is not given again while somebody may still hear it called."""
        return self.places.pop(member, None)

    def named(self, label: str) -> Place | None:
        """The place with this short name."""
        return next((place for place in self if place.label == label), None)

    def bar(self, place: Place) -> None:
        """Refuse this receiver from now on."""
        self._barred.append((place.member, place.address, place.name))

    def is_barred(self, member: int, address: str, name: str) -> bool:
        """Whether it was kicked: known by the id of its earlier join, or by its name and address together."""
        return any(
            member == barred or (name and (address, name) == (where, who)) for barred, where, who in self._barred
        )


def describe(place: Place, member: Member | None, size_bytes: int, **final: Any) -> MemberStatus:
    """A place with what its stream knows; `final` replaces fields of those who are gone."""
    counted = _counted(place, member)
    whole = {name: int(counted.get(name, 0)) for name in (*TALLY_NAMES, "nacks", "blame", "recovered")}
    whole["drain_kib_s"] = member.tally.drain_kib_s if member else int(place.counted.get("drain_kib_s", 0))
    unicast = counted.get("unicast_bytes", min(whole["unicast_slabs"] * SLAB_BYTES, size_bytes))
    shown: dict[str, Any] = {
        "member": place.label,
        "name": place.name,
        "address": place.address,
        "mode": "multicast" if place.is_multicast else "unicast",
        "state": _state(place, member),
        "reason": place.reason,
        "speed_class": place.speed_class,
        "class_moves": place.class_moves,
        "verified_slabs": (member.verified if member else place.verified).bit_count(),
        "joined_at": round(place.joined_at, 3),
        "joined_s_ago": round(max(time.time() - place.joined_at, 0.0), 3),
        "finished_at": None,
        "round_trip_ms": round(member.round_trip.smoothed_s * 1000, 3) if member else 0.0,
        "free_slabs": member.free_slabs if member else 0,
        "window": member.credit.limit if member else 0,
        "bytes_first_sent": max(whole["received"] - whole["repairs"], 0) * SYMBOL_BYTES,
        "bytes_repair": whole["repairs"] * SYMBOL_BYTES,
        "bytes_unicast": int(unicast),
    }
    return MemberStatus(**{**shown, **whole, **final})


def _state(place: Place, member: Member | None) -> str:
    if not place.is_multicast:
        return "receiving"
    if place.next_class is not None:
        return "moving"
    if member is None:
        return "waiting"
    return "complete" if member.is_complete else "receiving" if member.is_live else "silent"


def _counted(place: Place, member: Member | None) -> dict[str, float]:
    """What it counted before, and what it counts now."""
    counted = dict(place.counted)
    if member is not None:
        now = {name: getattr(member.tally, name) for name in TALLY_NAMES}
        for name, value in (now | {"nacks": member.nacks, "blame": member.blame}).items():
            counted[name] = counted.get(name, 0) + value
    return counted


def keep_counts(place: Place, member: Member | None) -> None:
    """It leaves its stream: what it counted there stays with its place."""
    place.counted = _counted(place, member)
    if member is not None:
        place.counted["drain_kib_s"] = member.tally.drain_kib_s
        place.verified |= member.verified


def totals(status: MemberStatus) -> dict[str, int | float]:
    """What a receiver counted, for the event of its end."""
    counts = {name: getattr(status, name) for name in (*TALLY_NAMES, "nacks", "blame", "recovered", "class_moves")}
    sources = {name: getattr(status, name) for name in ("bytes_first_sent", "bytes_repair", "bytes_unicast")}
    return {**counts, **sources, "seconds": status.joined_s_ago}


def read_statistics(request: Mapping[str, Any]) -> dict[str, float]:
    """The statistics of a receiver's last word. Unknown names are of later versions. Raises MalformedMessage."""
    given = request.get("statistics", {})
    if not isinstance(given, Mapping):
        raise MalformedMessage("statistics", f"expected an object of numbers, got {type(given).__name__}")
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not 0 <= value <= MAX_COUNT:
            raise MalformedMessage(
                f"statistics.{str(name)[:40]}", f"expected a number from 0 to 2**53, got {str(value)[:40]!r}"
            )
    return {name: given[name] for name in STATISTICS if name in given}
