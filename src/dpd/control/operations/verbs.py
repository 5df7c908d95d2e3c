# SPDX-License-Identifier: Apache-2.0
"""The verbs: what the operator and the site server may ask of a running daemon, by whichever door they come.

All of them are called on the control loop. What blocks (disk, joining a sender's thread) runs in worker threads, at
most MAX_JOBS at once; progress is reported from the worker's thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from dpd import __version__
from dpd.boot.boot_images import BootImageStore
from dpd.boot.chain_guard import ChainGuard
from dpd.content.boot_files import BootFiles
from dpd.content.library import Content, Library
from dpd.control.operations.bundle import BundleOperations
from dpd.control.operations.bus import BusOperations
from dpd.control.operations.content import ContentOperations
from dpd.control.operations.execution import ExecutionOperations
from dpd.control.operations.image import ImageOperations
from dpd.control.operations.job import JobOperations
from dpd.control.operations.message import MessageOperations
from dpd.control.operations.root import RootOperations
from dpd.control.operations.sequence import SequenceOperations
from dpd.control.operations.site import SiteOperations
from dpd.control.operations.source import SourceOperations
from dpd.control.operations.state import StateOperations
from dpd.control.operations.uploads import Uploads
from dpd.control.operations.validation import ValidationOperations
from dpd.control.operations.why import WhyOperations
from dpd.control.operations.wim import WimOperations
from dpd.control.settings_reload import read_settings_again, reloading
from dpd.deployment.opening import OpenDeployments
from dpd.deployment.signed_sequences import SignedSequences
from dpd.distribution.distribution import Distribution
from dpd.distribution.opening import OpenDistribution
from dpd.errors import DpdError, SessionError, SessionNotFound, SettingsError, Unavailable
from dpd.service.multicast.cast import CastChanges
from dpd.service.multicast.roster import MemberStatus
from dpd.service.multicast.session_status import SessionStatus
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.telemetry.events import Event, EventLog
from dpd.telemetry.journal import BootEvent, BootJournal

log = logging.getLogger(__name__)

MAX_JOBS = 8  # publishes, uploads and verifies at once; each may take a core and a disk

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Service(Protocol):
    """One listener of the daemon."""

    name: str
    stats: Any
    ports: dict[str, int]

    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def stop(self) -> None: ...
    def apply(self, settings: Settings) -> None: ...


class MulticastSender(Service, Protocol):
    """The service that holds the sessions."""

    events: EventLog

    @property
    def uplink_mbit_s(self) -> float: ...
    def set_uplink(self, mbit_s: float) -> None: ...
    def sessions(self) -> list[SessionStatus]: ...
    def start_session(
        self, package_id: str, source_version: int | None = None, changes: CastChanges | None = None
    ) -> SessionStatus: ...
    def change_session(self, session_id: str, changes: CastChanges) -> SessionStatus: ...
    def start_now(self, session_id: str) -> SessionStatus: ...
    def stop_session(self, session_id: str) -> None: ...
    def members(self, session_id: str) -> list[MemberStatus]: ...
    def move_member(self, session_id: str, member: str, speed_class: int) -> None: ...
    def kick_member(self, session_id: str, member: str, *, fall_back: bool) -> None: ...
    def forget(self, content: Content) -> None: ...


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One listener: the ports it really has and what it counted."""

    name: str
    ports: dict[str, int]
    counted: dict[str, int | float | dict[str, int]]


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at a glance. `state` is "starting", "ready" or "draining"; `jobs` counts running publishes and jobs;
    `public_key` is what receivers may pin: 64 hex digits."""

    version: str
    pid: int
    state: str
    started_at: float
    settings_path: str
    contents: int
    content_bytes: int
    public_key: str
    boot_files: int
    machines: int
    jobs: int
    services: tuple[ServiceStatus, ...]
    sessions: tuple[SessionStatus, ...]


class Operations:
    """The verbs over one library and one set of services. `opened` is all of distribution; `distribution` its jobs alone."""

    def __init__(
        self,
        settings: Settings,
        *,
        library: Library,
        boot_files: BootFiles,
        journal: BootJournal,
        services: Sequence[Service],
        multicast: MulticastSender | None,
        config_path: Path | None = None,
        chain: ChainGuard | None = None,
        policy: BootPolicy | None = None,
        images: BootImageStore | None = None,
        distribution: Distribution | None = None,
        opened: OpenDistribution | None = None,
        deployments: OpenDeployments | None = None,
        sequences: SignedSequences | None = None,
        events: EventLog | None = None,
    ) -> None:
        self.settings = settings
        self.state = "starting"
        self.draining = asyncio.Event()
        self.ending = asyncio.Event()
        self.at_reload: list[Callable[[], object]] = []
        self._library = library
        self._boot_files = boot_files
        self._chain = chain
        self._journal = journal
        policy = policy or BootPolicy(settings)
        self.site = SiteOperations(policy)
        self.why = WhyOperations(journal, lambda: self.settings)
        self._services = services
        self._multicast = multicast
        self._opened = opened
        self._deployments = deployments
        self._events = events or (multicast.events if multicast is not None else EventLog())
        self.bus = BusOperations()
        self.messages = MessageOperations(self._events.spool, self.draining.is_set)
        self._config_path = config_path
        self._started_at = time.time()
        self._jobs = 0
        self._jobs_done = asyncio.Event()
        self._jobs_done.set()
        self._workers = ThreadPoolExecutor(MAX_JOBS, "operation")
        state_dir = Path(settings.daemon.state_dir)
        self._uploads = Uploads(state_dir / "uploads")
        store = images or BootImageStore(state_dir / "boot-images")
        forget = multicast.forget if multicast is not None else None
        self.images = ImageOperations(store, self._uploads, self._job, self._in_worker)
        distribution = opened.core if opened is not None else distribution
        self.jobs = JobOperations(distribution, self._in_worker, self._refuse_while_draining)
        self.content = ContentOperations(library, self._uploads, self._job, self._in_worker, self.jobs, forget)
        self.roots = RootOperations(library, self._in_worker)
        self.wims = WimOperations(library, self._job, self._in_worker, self.jobs)
        trusted, tell = (opened.trusted_keys, opened.tell) if opened is not None else (None, None)
        self.bundles = BundleOperations(library, self.jobs, self._job, self._in_worker, trusted, tell)
        self.validation = ValidationOperations(opened, self._in_worker)
        self.sources = SourceOperations(opened.puller if opened is not None else None)
        self.executions = ExecutionOperations(deployments, self._in_worker, self.draining.is_set)
        self.sequences = SequenceOperations(policy.store, self._events, self._in_worker, sequences, library)
        self.now = StateOperations(self, self._in_worker)

    # ---- sessions

    def sessions(self) -> list[SessionStatus]:
        """Every multicast session; none where multicast is off."""
        return [] if self._multicast is None else self._multicast.sessions()

    def session(self, session_id: str) -> SessionStatus:
        """Raises SessionNotFound."""
        for session in self.sessions():
            if session.session_id == session_id:
                return session
        raise SessionNotFound(f"no session {session_id}; `dpd session list` shows those there are")

    async def start_session(
        self, package_id: str, source_version: int | None = None, changes: CastChanges | None = None
    ) -> SessionStatus:
        """Open a session for this version, or the newest; an open one gets the changes."""
        self._refuse_while_draining()
        sender = self._sender()
        return await self._in_worker(sender.start_session, package_id, source_version, changes)

    async def change_session(self, session_id: str, changes: CastChanges) -> SessionStatus:
        """Another ceiling or plan for a running session. Raises SessionNotFound."""
        return await self._in_worker(self._sender().change_session, session_id, changes)

    async def start_session_now(self, session_id: str) -> SessionStatus:
        """Send to the receivers that wait, whatever the plan says. Raises SessionNotFound."""
        return await self._in_worker(self._sender().start_now, session_id)

    def members(self, session_id: str) -> list[MemberStatus]:
        """The receivers of a session, those that are gone first. Raises SessionNotFound."""
        return self._sender().members(session_id)

    async def move_member(self, session_id: str, member: str, speed_class: int) -> list[MemberStatus]:
        """Put a receiver into another speed class. Raises SessionNotFound, SessionError."""
        await self._in_worker(self._sender().move_member, session_id, member, speed_class)
        return self.members(session_id)

    async def kick_member(self, session_id: str, member: str, *, fall_back: bool) -> list[MemberStatus]:
        """Take a receiver out, to go on by HTTP or to fail. Raises SessionNotFound, SessionError."""
        await self._in_worker(self._sender().kick_member, session_id, member, fall_back=fall_back)
        return self.members(session_id)

    def uplink_mbit_s(self) -> float:
        """The ceiling of all sessions together; 0 is none."""
        return self._sender().uplink_mbit_s

    def set_uplink(self, mbit_s: float) -> float:
        """Another one, until the settings' value changes."""
        self._sender().set_uplink(mbit_s)
        return self.uplink_mbit_s()

    async def events(self, after: int, wait_s: float) -> list[Event]:
        """What happened in sessions and jobs behind event `after`; waits for the next where there is none yet, but not into
        a drain."""
        return await self._events.wait(after, 0.0 if self.draining.is_set() else wait_s)

    def latest_event(self) -> int:
        """The id to wait behind for what comes next."""
        return self._events.latest

    async def stop_session(self, session_id: str) -> SessionStatus:
        """End a session; the answer is its last status."""
        last = self.session(session_id)
        await self._in_worker(self._sender().stop_session, session_id)
        return last

    def _sender(self) -> MulticastSender:
        if self._multicast is None:
            raise SessionError("multicast is off; set multicast.enabled = true and restart dpd")
        return self._multicast

    # ---- looking

    def status(self) -> Status:
        """Everything at a glance; plain reads, no waiting."""
        totals = self._library.totals()
        return Status(
            version=__version__,
            pid=os.getpid(),
            state=self.state,
            started_at=self._started_at,
            settings_path=self.settings.path,
            contents=totals.contents,
            content_bytes=totals.content_bytes,
            public_key=self._library.public_key().hex(),
            boot_files=len(self._boot_files.files()),
            machines=len(self._journal.machines()),
            jobs=self._jobs + (self._opened.core.desk.running if self._opened is not None else 0),
            services=tuple(ServiceStatus(each.name, dict(each.ports), _counted(each.stats)) for each in self._services),
            sessions=tuple(self.sessions()),
        )

    def machines(self) -> list[str]:
        """MACs of the machines that asked for a network boot, the latest one last."""
        return self._journal.machines()

    def pxe_story(self, mac: str) -> list[BootEvent]:
        """What one machine asked and got, oldest first; empty where it was not heard. Raises DpdError for a wrong MAC."""
        return self._journal.story(normal_mac(mac))

    # ---- the daemon itself

    def reload(self) -> bool:
        """Read settings and boot files again. False: the file is broken and the old settings stay."""
        with reloading():
            return self._reload()

    def _reload(self) -> bool:
        new = read_settings_again(self.settings, self._config_path)
        if new is None:
            return False
        self.settings = new
        files = self._boot_files.refresh()
        sound = self._check_chain()
        for service in self._services:
            service.apply(new)
        if self._opened is not None:
            self._opened.apply(new)
        if self._deployments is not None:
            self._deployments.apply(new)
        for read_again in self.at_reload:
            read_again()
        log.info("reloaded", extra={"path": new.path, "boot_files": files})
        return sound

    def _check_chain(self) -> bool:
        """Whether the manifest of the Secure Boot chain could be used; a broken chain is refused, and that is no failure."""
        try:
            if self._chain is not None:
                self._chain.check()
        except SettingsError as error:
            log.error("secure boot chain not checked, refusals kept as they were", extra={"error": str(error)})
            return False
        return True

    def drain(self) -> None:
        """Take no new work and end when what runs has ended; asked a second time, end now."""
        if self.draining.is_set():
            self.ending.set()
        elif self._events.spool is not None:
            self._events.spool.put("daemon.draining", {})
        self.state = "draining"
        self.draining.set()
        self._events.release()
        self.executions.release()

    async def jobs_done(self) -> None:
        """Wait until no publish, upload or verify runs."""
        await self._jobs_done.wait()

    def close(self) -> None:
        """Let go of the worker threads; the library must have been told to close, so that none runs on for long."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _refuse_while_draining(self) -> None:
        if self.draining.is_set():
            raise Unavailable("dpd is shutting down and takes no new work; ask again when it is back")

    @contextmanager
    def _job(self) -> Iterator[None]:
        """Counts what a drain waits for."""
        self._refuse_while_draining()
        if self._jobs >= MAX_JOBS:
            raise Unavailable(f"{self._jobs} jobs run already, as many as may; ask again when one has ended")
        self._jobs += 1
        self._jobs_done.clear()
        try:
            yield
        finally:
            self._jobs -= 1
            if self._jobs == 0:
                self._jobs_done.set()

    async def _in_worker(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, lambda: work(*args, **kwargs))


def normal_mac(mac: str) -> str:
    """AA-BB-CC-DD-EE-FF or aabbccddeeff as aa:bb:cc:dd:ee:ff. Raises DpdError."""
    digits = re.sub(r"[:.-]", "", mac.lower())
    normal = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    if not _MAC.fullmatch(normal):
        raise DpdError(f"mac {mac[:40]!r}: expected six bytes such as 52:54:00:12:34:56")
    return normal


def _counted(stats: Any) -> dict[str, int | float | dict[str, int]]:
    values = {each.name: getattr(stats, each.name) for each in fields(stats) if "kind" in each.metadata}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
