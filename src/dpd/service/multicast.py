# SPDX-License-Identifier: Apache-2.0
"""The multicast service: one session per published image, and the doors by which receivers and operators reach them."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dpd.content.library import Content, Library
from dpd.errors import MalformedMessage, ServiceError, SessionError
from dpd.protocol.multicast.geometry import SYMBOL_BYTES, Geometry, decode_slab_set
from dpd.protocol.multicast.message import WIRE_VERSION
from dpd.service.isal import best_codec
from dpd.service.session import MemberStatus, Session, SessionStatus
from dpd.service.slab_source import SlabSource
from dpd.service.udp import interface_address
from dpd.settings import MulticastSettings, Settings
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

IDLE_S = 300.0  # a session without members keeps its group this long
MAX_CREDIT = 1 << 20
MAX_SLOTS = 1024


@dataclass(slots=True)
class MulticastStats:
    """What Prometheus sees of all sessions together."""

    sessions: int = gauge("Sessions that exist now")
    members: int = gauge("Receivers in all sessions now")
    joins: int = counter("Receivers that joined a session")
    joins_refused: int = counter("Joins refused: session stopped or full, or the daemon is draining")
    completions: int = counter("Receivers that reported every slab verified")
    datagrams: int = counter("Symbols sent to groups, repairs included")
    bytes: int = counter("Payload bytes sent to groups, repairs included")
    repairs: int = counter("Symbols sent because a receiver asked for repair")
    nacks: int = counter("NACKs taken in")
    reports: int = counter("REPORTs taken in")
    credit_stalls: int = counter("Times a sender waited for its slowest representative receiver")
    members_silent: int = counter("Receivers given up after silence")
    send_errors: int = counter("Trains the kernel refused")
    trains_split: int = counter("Sessions whose trains left datagram by datagram for want of segmentation offload")
    ignored: dict[str, int] = counts("Feedback datagrams that changed nothing, by reason", "reason")


class MulticastService:
    """All sessions, and the door by which receivers and operators reach them. Thread-safe."""

    name = "multicast"

    def __init__(self, settings: MulticastSettings, *, library: Library, epoch: int) -> None:
        self.stats = MulticastStats()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._library = library
        self._epoch = epoch
        self._codec = best_codec()
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._stopped: set[tuple[str, int]] = set()
        self._flushed: dict[str, tuple[int, ...]] = {}
        self._is_draining = False
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="parity")

    async def start(self) -> None:
        """Nothing is bound until a session exists; a wrong interface is told now."""
        if self._settings.interface:
            interface_address(self._settings.interface)
        log.info(
            "multicast ready",
            extra={"codec": self._codec.name, "epoch": self._epoch, "range": self._settings.group_range},
        )

    async def drain(self) -> None:
        """Admit nobody; return when no session has a live receiver that still lacks something."""
        self._is_draining = True
        # The sender threads know, and owe this loop no wake-up.
        while any(session.is_busy for session in list(self._sessions.values())):  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End every session now."""
        self._is_draining = True
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        await asyncio.gather(*(asyncio.to_thread(session.stop) for session in sessions))
        self._workers.shutdown(wait=False, cancel_futures=True)

    def apply(self, settings: Settings) -> None:
        """New ceilings and limits; the rate of running sessions changes at once."""
        self._settings = settings.multicast
        for session in list(self._sessions.values()):
            session.set_rate(settings.multicast.rate_mbit_s)

    # ---- the door for receivers

    def join(
        self,
        package_id: str,
        source_version: int | None,
        request: Mapping[str, Any],
        client_address: str,
        *,
        is_secure: bool = False,
    ) -> dict[str, Any]:
        """Admit a receiver to the session of a package, starting it if it is the first. Raises ContentNotFound, SessionError,
        MalformedMessage."""
        content = self._library.find(package_id, source_version)
        verified, credit, slots = _read_join(request, Geometry(content.size_bytes).slab_count)
        with self._lock:
            session = self._find(content)
            refusal = self._refusal(content, session)
            if refusal:
                self.stats.joins_refused += 1
                raise SessionError(refusal)
            session = session or self._open(content)
            answer = session.join(client_address, verified, credit, slots)
            self.stats.joins += 1
            self._count_members()
        log.info(
            "receiver joined",
            extra={
                "session": session.session_id,
                "package": package_id,
                "peer": client_address,
                "verified_slabs": verified.bit_count(),
            },
        )
        return answer

    def _refusal(self, content: Content, session: Session | None) -> str:
        if self._is_draining:
            return "the distribution point is shutting down; try again in a minute"
        if (content.package_id, content.source_version) in self._stopped:
            return f"the session of {content.package_id} was stopped; `dpd session start {content.package_id}` opens it again"
        if session and len(session.guests) >= self._settings.max_clients:
            return f"the session of {content.package_id} is full: multicast.max_clients = {self._settings.max_clients}"
        return ""

    def complete(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """A receiver has verified every slab. Raises SessionError for an unknown session or member, MalformedMessage."""
        session = self._sessions.get(session_id)
        try:
            member = int(request.get("member", ""), 16)
        except (TypeError, ValueError):
            raise MalformedMessage("member", "expected the 16 hex digits that the join answered") from None
        if session is None or not session.leave(member):
            raise SessionError(f"session {session_id} has no such member")
        self.stats.completions += 1
        self._count_members()
        log.info("receiver completed", extra={"session": session_id, "package": session.content.package_id})
        return {"session_id": session_id, "completed": True}

    # ---- the door for operators

    def sessions(self) -> list[SessionStatus]:
        """Every session, oldest first."""
        return [session.status() for session in list(self._sessions.values())]

    def start_session(self, package_id: str, source_version: int | None = None) -> SessionStatus:
        """Open a session before the first receiver joins, or again after it was stopped. Raises ContentNotFound."""
        content = self._library.find(package_id, source_version)
        with self._lock:
            if self._is_draining:
                raise SessionError("the distribution point is shutting down")
            self._stopped.discard((content.package_id, content.source_version))
            return (self._find(content) or self._open(content)).status()

    def stop_session(self, session_id: str) -> None:
        """End a session; joins are refused until it is started again. Raises SessionError."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
            if session is None:
                raise SessionError(f"no session {session_id}; `dpd session list` shows them")
            self._stopped.add((session.content.package_id, session.content.source_version))
        session.stop()
        self._count_members()

    def forget(self, content: Content) -> None:
        """The content was removed: end its session."""
        with self._lock:
            session = self._find(content)
            if session:
                del self._sessions[session.session_id]
            self._stopped.discard((content.package_id, content.source_version))
        if session:
            session.stop()
        self._count_members()

    # ---- sessions

    def _find(self, content: Content) -> Session | None:
        wanted = (content.package_id, content.source_version)
        for session in self._sessions.values():
            its = (session.content.package_id, session.content.source_version)
            if its == wanted and not session.machine.has_ended:
                return session
        return None

    def _open(self, content: Content) -> Session:
        self._close_idle()
        group, port = self._allocate(content)
        source = SlabSource(self._library.open_blob(content), Geometry(content.size_bytes), self._codec)
        try:
            session = Session(
                content=content,
                source=source,
                settings=self._settings,
                group=group,
                port=port,
                epoch=self._epoch,
                workers=self._workers,
                flush=self._flush,
            )
        except ServiceError as error:
            source.close()
            raise SessionError(str(error)) from None
        self._sessions[session.session_id] = session
        self.stats.sessions = len(self._sessions)
        log.info(
            "session opened",
            extra={"session": session.session_id, "package": content.package_id, "group": group, "port": port},
        )
        return session

    def _close_idle(self) -> None:
        now = time.monotonic()
        for session_id, session in list(self._sessions.items()):
            if (not session.guests and now - session.idle_since > IDLE_S) or session.machine.has_ended:
                del self._sessions[session_id]
                threading.Thread(target=session.stop, daemon=True).start()

    def _allocate(self, content: Content) -> tuple[str, int]:
        """A group and port of our ranges that no session of ours uses: by the content's hash, so that they seldom change."""
        network = ipaddress.ip_network(self._settings.group_range)
        ports = self._settings.port_high - self._settings.port_low + 1
        taken = {session.group for session in self._sessions.values()}
        seed = int.from_bytes(hashlib.sha256(f"{content.sha256}/{content.source_version}".encode()).digest()[:8], "big")
        for attempt in range(min(network.num_addresses, 65536)):
            address = network[(seed + attempt) % network.num_addresses]
            # 224.0.0.x and what shares its Ethernet addresses is flooded by every switch, snooping or not (RFC 4541).
            if str(address) not in taken and int(address) & 0x7FFF00:
                return str(address), self._settings.port_low + (seed >> 32) % ports
        raise SessionError(f"every group of multicast.group_range = {self._settings.group_range} is in use")

    def _count_members(self) -> None:
        sessions = list(self._sessions.values())
        self.stats.sessions = len(sessions)
        self.stats.members = sum(len(session.guests) for session in sessions)

    def _flush(self, session: Session) -> None:
        """Add what a session counted since its last flush; called by its own thread a few times a second."""
        counters = session.machine.counters
        now = (
            session.datagrams,
            counters.repair_symbols,
            counters.nacks,
            counters.reports,
            counters.credit_stalls,
            session.silent,
            session.send_errors,
            int(session.has_split_trains),
        )
        with self._lock:
            before = self._flushed.get(session.session_id, (0,) * len(now))
            self._flushed[session.session_id] = now
            if session.machine.has_ended:
                del self._flushed[session.session_id]
            stats = self.stats
            counted = (a - b for a, b in zip(now, before, strict=True))
            sent, repairs, nacks, reports, stalls, silent, errors, split = counted
            stats.datagrams += sent
            stats.bytes += sent * SYMBOL_BYTES
            stats.repairs += repairs
            stats.nacks += nacks
            stats.reports += reports
            stats.credit_stalls += stalls
            stats.members_silent += silent
            stats.send_errors += errors
            stats.trains_split += split
            for reason, count in session.ignored.items():
                bump(stats.ignored, reason, count)
            session.ignored.clear()


def _read_join(request: Mapping[str, Any], slab_count: int) -> tuple[int, int, int]:
    """(verified, credit, slots) of a join request. Raises MalformedMessage that names the field."""
    wires = request.get("wire", [WIRE_VERSION])
    if not isinstance(wires, list) or WIRE_VERSION not in wires:
        raise MalformedMessage(
            "wire", f"this distribution point speaks version {WIRE_VERSION}, the receiver offers {wires}"
        )
    try:
        verified = decode_slab_set(bytes.fromhex(request["verified"]), slab_count) if request.get("verified") else 0
    except (TypeError, ValueError) as error:
        raise MalformedMessage("verified", f"expected a slab set as hex digits: {error}") from None
    return verified, _whole(request, "credit", 1024, MAX_CREDIT), _whole(request, "slots", 16, MAX_SLOTS)


def _whole(request: Mapping[str, Any], field: str, default: int, highest: int) -> int:
    value = request.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
        raise MalformedMessage(field, f"expected a whole number from 1 to {highest}, got {value!r}")
    return value


__all__ = ["MemberStatus", "MulticastService", "MulticastStats", "SessionStatus"]
