# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a site server: the policy of the site, its points, what they hold and said, and itself."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpd import __version__
from dpd.bus.connection import BusConnection
from dpd.control.operations.message import MessageOperations
from dpd.control.operations.sequence import SequenceOperations
from dpd.control.operations.site import SiteOperations
from dpd.control.settings_reload import read_settings_again, reloading
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.store import SiteStore
from dpd.site_server.archive import Archive
from dpd.site_server.asker import Asker
from dpd.site_server.assignments import Assignments
from dpd.site_server.executions import SiteExecutions
from dpd.site_server.lease import Lease, LeaseState
from dpd.site_server.messages import BusStatus, SiteStatus
from dpd.site_server.points import Points, PointStatus
from dpd.site_server.publisher import Publisher
from dpd.telemetry.events import EventLog

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SiteParts:
    """What a site server is made of."""

    store: SiteStore
    policy: BootPolicy
    archive: Archive
    points: Points
    assignments: Assignments
    publisher: Publisher
    connection: BusConnection
    lease: Lease
    events: EventLog


class SiteServerOperations:
    """The verbs of one site server. Used on the control loop."""

    def __init__(self, settings: Settings, parts: SiteParts, config_path: Path | None = None) -> None:
        self.settings = settings
        self.state = "starting"
        self.draining = asyncio.Event()
        self.ending = asyncio.Event()
        self.at_reload: list[Callable[[], None]] = []
        self.site = SiteOperations(parts.policy)
        self.sequences = SequenceOperations(parts.store, parts.events, asyncio.to_thread)
        self.points = parts.points
        self.assignments = parts.assignments
        self.archive = parts.archive
        self.messages = MessageOperations(parts.archive, self.draining.is_set)
        self.publisher = parts.publisher
        self.asker = Asker(
            parts.connection,
            parts.points,
            settings.bus.site,
            lambda: self.settings.bus.ask_timeout_s,
            parts.lease.require,
        )
        self.executions = SiteExecutions(self.asker, parts.points, self.draining.is_set)
        self._parts = parts
        self._config_path = config_path
        self._started_at = time.time()

    @property
    def shared_ids(self) -> frozenset[str]:
        """Addresses and GUIDs that several machines have, so that nobody is known by them."""
        return frozenset(each.lower() for each in self.settings.pxe.duplicate_ids)

    def status(self) -> SiteStatus:
        """Everything at a glance; plain reads, no waiting."""
        store, connection, stats = self._parts.store, self._parts.connection, self.points.read_stats()
        bus = BusStatus(
            connection.link is not None,
            connection.link.server if connection.link is not None else "",
            connection.since,
            connection.trouble,
        )
        return SiteStatus(
            role="site",
            site=self.settings.bus.site,
            version=__version__,
            pid=os.getpid(),
            state=self.state,
            started_at=self._started_at,
            settings_path=self.settings.path,
            bus=bus,
            lease=self._parts.lease.status(),
            policy_version=self.publisher.version,
            policy_is_out=self.publisher.is_up_to_date,
            computers=len(store.computers.by_name),
            collections=len(store.membership.collections),
            deployments=len(store.deployments),
            sequences=len(store.sequences.by_name),
            points={state: int(count) for state, count in stats.points.items()},
            points_behind=stats.behind,
            messages=self.archive.stats.kept,
        )

    async def require_steering(self) -> None:
        """For what points are told: refused while another server tells them. Raises Unavailable."""
        if self._parts.lease.state is LeaseState.WAITING:
            await self._parts.lease.require()

    async def remove_point(self, name: str, actor: str) -> PointStatus:
        """Also one that was heard and never declared. Raises SiteNotFound, SiteConflict."""
        status = self.points.one(name)
        if status.declared:
            self._parts.store.remove_point(name, actor)
        await self.points.forget(name)
        return status

    def reload(self) -> bool:
        """Read the settings again. False: the file is broken and the old settings stay."""
        with reloading():
            return self._reload()

    def _reload(self) -> bool:
        new = read_settings_again(self.settings, self._config_path)
        if new is None:
            return False
        self.settings = new
        self.archive.keep_days = new.site.keep_events_days
        self._parts.policy.apply(new)
        for follow in self.at_reload:
            follow()
        log.info("reloaded", extra={"path": new.path})
        return True

    def drain(self) -> None:
        """End when what runs has ended; asked a second time, end now."""
        if self.draining.is_set():
            self.ending.set()
        self.state = "draining"
        self.draining.set()
        self.archive.release()
