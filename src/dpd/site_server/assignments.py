# SPDX-License-Identifier: Apache-2.0
"""Which content which points are to hold: what the operator assigned to points and groups, and what of it each point is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dpd.bus.link import Link
from dpd.bus.messages import Desired, DesiredPackage, encode
from dpd.bus.subjects import Subjects
from dpd.database import Database
from dpd.site.records import SiteNotFound
from dpd.site_server.points import EVERY_POINT, Points

POINT, GROUP = "dp", "group"
LOOK_S = 5.0  # at the model's groups, where nobody told of a change

HandDown: TypeAlias = Callable[[Link, Sequence["Assignment"]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A package for a point ("dp:NAME") or a group ("group:NAME"). Without a version: the newest that there is."""

    target: str
    package_id: str
    source_version: int | None
    priority: int
    added_at: float
    actor: str


class Assignments:
    """`keep_telling` is a work of the bus connection. What is for a point itself goes before what is for its groups."""

    def __init__(
        self, database: Database, points: Points, site: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._points = points
        self._subjects = Subjects(site)
        self._clock = clock
        self._changed = asyncio.Event()
        self.hand_down: HandDown | None = None  # to the next site server, before any point hears of it

    def all(self) -> list[Assignment]:
        """By target and package."""
        rows = self._database.rows(
            "SELECT target, package_id, source_version, priority, added_at, actor FROM assignments ORDER BY target, package_id"
        )
        return [Assignment(*row) for row in rows]

    def add(self, target: str, package_id: str, source_version: int | None, priority: int, actor: str) -> Assignment:
        """Also in place of an earlier one. Raises SiteNotFound where nobody has heard of the target."""
        self._check(target)
        added = Assignment(target, package_id, source_version, priority, self._clock(), actor)
        values = target, package_id, source_version, priority, added.added_at, actor
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO assignments VALUES (?, ?, ?, ?, ?, ?)", values)
        self._changed.set()
        return added

    def remove(self, target: str, package_id: str) -> Assignment:
        """The points let go of it. Raises SiteNotFound."""
        found = next((each for each in self.all() if (each.target, each.package_id) == (target, package_id)), None)
        if found is None:
            raise SiteNotFound(
                f"{package_id[:64]} is not assigned to {target[:70]}; `dpd site content list` shows what is"
            )
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM assignments WHERE target = ? AND package_id = ?", (target, package_id))
        self._changed.set()
        return found

    def replace_all(self, assigned: Iterable[Assignment]) -> None:
        """These are all that there are, as the site server before had them."""
        rows = [(a.target, a.package_id, a.source_version, a.priority, a.added_at, a.actor) for a in assigned]
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM assignments")
            connection.executemany("INSERT INTO assignments VALUES (?, ?, ?, ?, ?, ?)", rows)

    def desired(self, point: str, groups: Sequence[str], assigned: Sequence[Assignment]) -> Desired:
        """What this point is to hold."""
        packages: dict[str, DesiredPackage] = {}
        targets = [f"{GROUP}:{EVERY_POINT}", *(f"{GROUP}:{group}" for group in groups), f"{POINT}:{point}"]
        for target in targets:
            for each in assigned:
                if each.target == target:
                    packages[each.package_id] = DesiredPackage(each.package_id, each.source_version, each.priority)
        return Desired([packages[package_id] for package_id in sorted(packages)])

    async def keep_telling(self, link: Link) -> None:
        """Until the link breaks: each point's key, where it differs."""
        from nats.js.errors import KeyNotFoundError

        bucket = await link.bucket(self._subjects.desired_bucket)
        told: dict[str, bytes] = {}
        while True:
            self._changed.clear()
            assigned = await asyncio.to_thread(self.all)
            if self.hand_down is not None:
                await self.hand_down(link, assigned)
            for point in self._points.all():
                wanted = encode(self.desired(point.name, point.groups, assigned))
                if point.name not in told:
                    try:
                        told[point.name] = (await bucket.get(point.name)).value or b""
                    except KeyNotFoundError:
                        told[point.name] = encode(Desired())
                if told[point.name] != wanted:
                    await bucket.put(point.name, wanted)
                    told[point.name] = wanted
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _check(self, target: str) -> None:
        kind, _, name = target.partition(":")
        if kind == POINT:
            self._points.one(name)
        else:
            self._points.names(name)
