# SPDX-License-Identifier: Apache-2.0
"""A session, its streams and its receivers as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.multicast.geometry import SYMBOL_BYTES
from dpd.service.multicast.join_answer import OpenStream
from dpd.service.multicast.roster import MemberStatus, describe
from dpd.service.multicast.session import Session


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One speed class. `rate_mbit_s` is its ceiling now, its part of the session's and the uplink's; 0 is none."""

    speed_class: int
    group: str
    port: int
    members: int
    pass_number: int
    rate_mbit_s: float
    datagrams_sent: int
    bytes_sent: int
    repairs_sent: int


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session. `state` is "waiting", "sending", "idle" or "stopped"; `waiting` says in words what for. `rate_mbit_s` is
    the session's own ceiling, 0 for none; counts are of all streams; `group`, `port` and `pass_number` are the first
    one's; `start_at` is seconds since the epoch; `finished` counts the receivers that are gone and still listed."""

    session_id: str
    package_id: str
    source_version: int
    state: str
    waiting: str
    starts_in_s: float | None
    minimum_clients: int
    start_at: float | None
    max_clients: int
    is_encrypted: bool
    group: str
    port: int
    slabs: int
    pass_number: int
    rate_mbit_s: float
    datagrams_sent: int
    bytes_sent: int
    repairs_sent: int
    streams: tuple[StreamStatus, ...]
    members: tuple[MemberStatus, ...]
    finished: int


def describe_session(session: Session) -> SessionStatus:
    """Plain reads; safe from any thread."""
    streams = tuple(_describe_stream(number, session.streams[number]) for number in sorted(session.streams))
    starts_in_s = session.starts_in_s() if session.is_busy else None
    waiting = session.waiting()
    return SessionStatus(
        session_id=session.session_id,
        package_id=session.content.package_id,
        source_version=session.content.source_version,
        state=_state(session, waiting),
        waiting=waiting,
        starts_in_s=None if not starts_in_s else round(starts_in_s, 3),
        minimum_clients=session.plan.minimum_clients,
        start_at=session.plan.start_at,
        max_clients=session.plan.max_clients,
        is_encrypted=session.is_sealed,
        group=streams[0].group,
        port=streams[0].port,
        slabs=session.geometry.slab_count,
        pass_number=streams[0].pass_number,
        rate_mbit_s=session.plan.rate_mbit_s,
        datagrams_sent=sum(stream.datagrams_sent for stream in streams),
        bytes_sent=sum(stream.bytes_sent for stream in streams),
        repairs_sent=sum(stream.repairs_sent for stream in streams),
        streams=streams,
        members=present_members(session),
        finished=len(session.roster.finished),
    )


def present_members(session: Session) -> tuple[MemberStatus, ...]:
    """Those who take part now, in the order in which they came."""
    return tuple(describe(place, session.member(place), session.content.size_bytes) for place in session.roster)


def _state(session: Session, waiting: str) -> str:
    if session.has_ended:
        return "stopped"
    if waiting:
        return "waiting"
    return "sending" if session.is_busy else "idle"


def _describe_stream(number: int, opened: OpenStream) -> StreamStatus:
    machine, counters = opened.stream.machine, opened.stream.machine.counters
    sent = counters.source_symbols + counters.repair_symbols
    return StreamStatus(
        speed_class=number,
        group=opened.group.address,
        port=opened.group.port,
        members=sum(not member.is_leaving for member in list(machine.members.values())),
        pass_number=machine.pass_number,
        rate_mbit_s=round(opened.stream.bucket.rate_bit_s / 1e6, 3),
        datagrams_sent=sent,
        bytes_sent=sent * SYMBOL_BYTES,
        repairs_sent=counters.repair_symbols,
    )
