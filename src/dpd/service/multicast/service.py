# SPDX-License-Identifier: Apache-2.0
"""The multicast service: one session per published image, and the doors by which receivers and operators reach them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dpd.content.library import Content, Library
from dpd.errors import MalformedMessage, ServiceError, SessionError, SessionNotFound
from dpd.protocol.multicast.geometry import Geometry
from dpd.service.isal import best_codec
from dpd.service.multicast.cast import CastChanges, CastPlan
from dpd.service.multicast.join_request import read_join, read_member, read_verified
from dpd.service.multicast.lookout import Lookout
from dpd.service.multicast.roster import MemberStatus, read_statistics
from dpd.service.multicast.session import Session
from dpd.service.multicast.session_status import SessionStatus, describe_session, present_members
from dpd.service.multicast.slab_source import SlabSource, open_slab_source, parity_code
from dpd.service.multicast.stats import MulticastStats
from dpd.service.multicast.stream import Outfit, Stream
from dpd.service.multicast.uplink import Uplink
from dpd.service.network.groups import Group, GroupRange
from dpd.service.network.qdisc import heeds_pacing, queue_kinds
from dpd.service.network.sending_socket import sender_address
from dpd.settings import MulticastSettings, Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

IDLE_S = 300.0  # a session without members keeps its group this long


class MulticastService:
    """All sessions, and the door by which receivers and operators reach them. Thread-safe."""

    name = "multicast"

    def __init__(
        self, settings: MulticastSettings, *, library: Library, epoch: int, events: EventLog | None = None
    ) -> None:
        self.stats = MulticastStats()
        self.ports: dict[str, int] = {}
        self.events = events or EventLog()
        self._settings = settings
        self._library = library
        self._codec = best_codec()
        library.parity_code = parity_code(settings.stored_parity_rows, self._codec)
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._stopped: set[tuple[str, int]] = set()
        self._is_draining = False
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="parity")
        self._uplink = Uplink(settings.uplink_mbit_s * 1e6)
        self._epoch = epoch
        self._outfit: Outfit | None = None
        self._lookout = Lookout(self._uplink, lambda: list(self._sessions.values()), self._look_after)

    async def start(self) -> None:
        """Nothing is bound until a session exists; a wrong interface is told now."""
        if self._settings.interface:
            sender_address(self._settings.interface, self._settings.group_range)
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
        await asyncio.to_thread(self._lookout.stop)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def apply(self, settings: Settings) -> None:
        """New ceilings, limits and rules for slow receivers. Those that have changed reach running sessions at once, also where
        an operator had set others for one of them; plans for casts are those of sessions opened from now on."""
        before, self._settings = self._settings, settings.multicast
        if before.stored_parity_rows != self._settings.stored_parity_rows:
            self._library.parity_code = parity_code(self._settings.stored_parity_rows, self._codec)
        now = self._settings
        changes = CastChanges(
            rate_mbit_s=None if before.rate_mbit_s == now.rate_mbit_s else now.rate_mbit_s,
            max_clients=None if before.max_clients == now.max_clients else now.max_clients,
        )
        for session in list(self._sessions.values()):
            session.apply(now)
            session.change(changes)
        if before.uplink_mbit_s != self._settings.uplink_mbit_s:
            self._uplink.rate_bit_s = self._settings.uplink_mbit_s * 1e6
        self._lookout.wake()

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
        content = self._find_sendable(package_id, source_version)
        wanted = read_join(request, Geometry(content.size_bytes).slab_count)
        try:
            with self._lock:
                self._refuse(content)
                session = self._find(content) or self._open(content, CastPlan.of(self._settings))
                answer = session.join(wanted, client_address, is_secure=is_secure)
        except (ServiceError, SessionError) as error:
            self.stats.joins_refused += 1
            raise SessionError(str(error)) from None
        self.stats.joins += 1
        bump(self.stats.joins_by_mode, answer["mode"])
        self._count_members()
        self._lookout.wake()
        return answer

    def _refuse(self, content: Content) -> None:
        if self._is_draining:
            raise SessionError("the distribution point is shutting down; try again in a minute")
        if (content.package_id, content.source_version) in self._stopped:
            name = content.package_id
            raise SessionError(f"the session of {name} was stopped; `dpd session start {name}` opens it again")

    def complete(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """A receiver has verified every slab. Raises SessionError for an unknown session or member, MalformedMessage."""
        session, member = self._sessions.get(session_id), read_member(request)
        statistics = read_statistics(request)
        if session is None or not session.complete(member, statistics):
            raise SessionError(f"session {session_id} has no such member")
        self.stats.completions += 1
        self._count_members()
        return {"session_id": session_id, "completed": True}

    def progress(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """A receiver that fetches by HTTP tells how far it is. Raises SessionError, MalformedMessage as `complete`."""
        session, member = self._sessions.get(session_id), read_member(request)
        if session is None:
            raise SessionError(f"session {session_id} has no such member")
        if not session.progress(member, read_verified(request, session.geometry.slab_count)):
            raise SessionError(f"session {session_id} has no such member")
        return {"session_id": session_id}

    # ---- the door for operators

    def sessions(self) -> list[SessionStatus]:
        """Every session, oldest first."""
        return [describe_session(session) for session in list(self._sessions.values())]

    def start_session(
        self, package_id: str, source_version: int | None = None, changes: CastChanges | None = None
    ) -> SessionStatus:
        """Open a session before the first receiver joins, or again after it was stopped; an open one gets the changes.
        Raises ContentNotFound, SessionError."""
        content = self._find_sendable(package_id, source_version)
        changes = changes or CastChanges()
        with self._lock:
            if self._is_draining:
                raise SessionError("the distribution point is shutting down")
            self._stopped.discard((content.package_id, content.source_version))
            session = self._find(content)
            if session:
                session.change(changes)
            else:
                session = self._open(content, CastPlan.of(self._settings).with_changes(changes))
        self._lookout.wake()
        return describe_session(session)

    def change_session(self, session_id: str, changes: CastChanges) -> SessionStatus:
        """Another ceiling or plan for a running session. Raises SessionNotFound."""
        session = self._session(session_id)
        session.change(changes)
        self._lookout.wake()
        return describe_session(session)

    def start_now(self, session_id: str) -> SessionStatus:
        """Send to those who wait. Raises SessionNotFound."""
        session = self._session(session_id)
        session.start_now()
        return describe_session(session)

    def move_member(self, session_id: str, member: str, speed_class: int) -> None:
        """Put a receiver into another speed class. Raises SessionNotFound, SessionError."""
        try:
            self._session(session_id).move(member, speed_class)
        except ServiceError as error:
            raise SessionError(str(error)) from None
        self._lookout.wake()

    def kick_member(self, session_id: str, member: str, *, fall_back: bool) -> None:
        """Take a receiver out of a session. Raises SessionNotFound, SessionError."""
        self._session(session_id).kick(member, fall_back=fall_back)
        self._count_members()

    def members(self, session_id: str) -> list[MemberStatus]:
        """Those who take part, and before them those who did. Raises SessionNotFound."""
        session = self._session(session_id)
        return [*list(session.roster.finished), *present_members(session)]

    @property
    def uplink_mbit_s(self) -> float:
        return self._uplink.rate_bit_s / 1e6

    def set_uplink(self, mbit_s: float) -> None:
        """The ceiling of all sessions together, until a reload changes it."""
        self._uplink.rate_bit_s = mbit_s * 1e6
        self._lookout.wake()

    def stop_session(self, session_id: str) -> None:
        """End a session; joins are refused until it is started again. Raises SessionNotFound."""
        with self._lock:
            session = self._session(session_id)
            del self._sessions[session_id]
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

    def _session(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(f"no session {session_id}; `dpd session list` shows those there are")
        return session

    # ---- sessions

    def _find_sendable(self, package_id: str, source_version: int | None) -> Content:
        content = self._library.find(package_id, source_version)
        if not content.is_one_file:
            raise SessionError(
                f"{content}: a {content.format} of {content.file_count} files; multicast sends content of one file, such as a WIM"
            )
        return content

    def _find(self, content: Content) -> Session | None:
        wanted = (content.package_id, content.source_version)
        for session in self._sessions.values():
            its = (session.content.package_id, session.content.source_version)
            if its == wanted and not session.has_ended:
                return session
        return None

    def _open(self, content: Content, plan: CastPlan) -> Session:
        self._close_idle()
        try:
            session = Session(content, self._settings, plan, self._own_outfit())
        except ServiceError as error:
            raise SessionError(str(error)) from None
        self._sessions[session.session_id] = session
        self.stats.sessions = len(self._sessions)
        group = session.streams[0].group
        session.note("session_started", group=group.address, port=group.port, minimum_clients=plan.minimum_clients)
        self._lookout.wake()
        return session

    def _own_outfit(self) -> Outfit:
        if self._outfit is None:
            self._outfit = Outfit(
                epoch=self._epoch,
                public_key=self._library.public_key(),
                sign=self._library.sign_control,
                workers=self._workers,
                open_source=self._open_source,
                allocate=self._allocate,
                flush=self._flush,
                first_rate=self._uplink.first_rate,
                events=self.events,
                is_paced_by_kernel=self._finds_pacing(),
            )
        return self._outfit

    def _finds_pacing(self) -> bool:
        """Whether the interface's queue spaces trains out as it is told. Says in the log what was found."""
        interface = self._settings.interface
        if not interface:
            log.info("kernel pacing unused: multicast.interface is not set, so its queue is not known")
            return False
        try:
            kinds = queue_kinds(interface)
        except OSError as error:
            log.info("kernel pacing unused: the queue is not known", extra={"error": error.strerror or str(error)})
            return False
        heeds = heeds_pacing(kinds)
        found = {"interface": interface, "queue": " ".join(sorted(kinds)) or "none"}
        log.info("kernel pacing used" if heeds else "kernel pacing unused: only the fq queue heeds it", extra=found)
        return heeds

    def _open_source(self, content: Content) -> SlabSource:
        return open_slab_source(self._library, content, self._codec)

    def _close_idle(self) -> None:
        now = time.monotonic()
        for session_id, session in list(self._sessions.items()):
            is_idle = not session.roster and now - session.idle_since > IDLE_S and not session.plan.is_to_come
            if is_idle or session.has_ended:
                del self._sessions[session_id]
                threading.Thread(target=session.stop, daemon=True).start()

    def _close_ended(self) -> None:
        """A stream of it could not go on; receivers have been told and join a new one."""
        with self._lock:
            ended = [session for session in self._sessions.values() if session.has_ended]
            for session in ended:
                del self._sessions[session.session_id]
        for session in ended:
            session.stop()

    def _allocate(self, content: Content, speed_class: int) -> Group:
        """A group of our range that no stream of ours uses."""
        taken = frozenset().union(*(session.groups for session in list(self._sessions.values())))
        groups = GroupRange(self._settings.group_range, self._settings.port_low, self._settings.port_high)
        return groups.allocate(f"{content.sha256}/{content.source_version}/{speed_class}", taken)

    def _count_members(self) -> None:
        sessions = list(self._sessions.values())
        by_multicast = {session: session.roster.multicast_count for session in sessions}
        self.stats.sessions = len(sessions)
        self.stats.members = sum(by_multicast.values())
        self.stats.members_waiting = sum(count for session, count in by_multicast.items() if session.waiting())
        self.stats.members_unicast = sum(len(session.roster) for session in sessions) - self.stats.members

    def _look_after(self) -> None:
        """Once a second, on the lookout's thread."""
        self._close_ended()
        now = time.monotonic()
        for session in list(self._sessions.values()):
            session.look_after(now)
        self._count_members()

    def _flush(self, stream: Stream) -> None:
        """Called by the streams' own threads a few times a second."""
        with self._lock:
            self.stats.take_over(stream)


__all__ = ["MalformedMessage", "MulticastService", "MulticastStats", "SessionStatus"]
