# SPDX-License-Identifier: Apache-2.0
"""The distribution points of the site: those that the model declares and those that were heard, with what they said last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from dpd.bus.messages import Hello, decode
from dpd.bus_settings import is_name
from dpd.database import Database
from dpd.errors import BusError, DpdError, Unavailable
from dpd.site.records import Point, SiteNotFound
from dpd.telemetry.stats import counter, gauge, levels

log = logging.getLogger(__name__)

TWICE_S = 60.0  # since two hosts were heard under one name, or with one series
MAX_SERIES = 10_000
AWAY_AFTER_S = 35.0  # three hellos were not heard
EVERY_POINT = "all"  # a group that need not be declared


class Presence(StrEnum):
    """Whether a point is there."""

    PRESENT = "present"
    AWAY = "away"
    NEVER = "never"  # declared, and not heard since the site server knows


@dataclass(frozen=True, slots=True)
class PointStatus:
    """One point. `policy_version` is the site's version that it holds (0: none), `policy_lag` how many published ones it is
    behind, `policy_age_s` for how long it had not heard the site's word; what it said is of `last_seen_at`. `trouble`: two hosts
    have its name or its series of status messages, and what to do."""

    name: str
    groups: tuple[str, ...]
    url: str
    description: str
    declared: bool
    state: Presence
    last_seen_at: float
    version: str
    daemon_state: str
    policy_version: int
    policy_lag: int
    policy_age_s: float
    backlog: int
    pending: int
    machines: int
    sessions: int
    jobs: int
    contents: int
    trouble: str


@dataclass(slots=True)
class PointStats:
    """What the registry counted."""

    points: dict[str, float] = levels("Distribution points of the site", "state")
    behind: int = gauge("Points that are there and hold an older policy than the published one")
    most_behind: int = gauge("Versions that the point furthest behind lacks, of those that are there")
    backlog: int = gauge("Status messages that points have yet to send, of those that are there")
    last_seen_age_seconds: dict[str, float] = levels("Time since a declared point was last heard", "point")
    hellos: int = counter("Words of points that they are there")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a hello told that was not known yet: two hosts speak under this name; another name has the same series of status
    messages."""

    is_named_twice: bool = False
    copy_of: str = ""


class PointAway(Unavailable):
    """The point is known and not heard at present."""


class Points:
    """Used on the control loop alone. `declared` tells the model's points, `published` the version of the policy that is out."""

    def __init__(
        self,
        database: Database,
        declared: Callable[[], Sequence[Point]],
        published: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stats = PointStats()
        self._database = database
        self._declared = declared
        self._published = published
        self._clock = clock
        self._unwritten: set[str] = set()
        self._before: dict[
            str, tuple[str, float]
        ] = {}  # the process that spoke under a name before the one that speaks now
        self._twice_at: dict[str, float] = {}
        self._speaking: dict[str, str] = {}  # who spoke last for a series of status messages
        self._copies: dict[str, tuple[str, float]] = {}  # the other name, and when it was noticed last
        self._told: dict[str, Presence] = {}
        self._heard: dict[str, tuple[float, Hello]] = {}
        for point, at, text in database.rows("SELECT point, at, hello FROM heard"):
            try:
                self._heard[point] = (at, decode(Hello, text.encode()))
            except BusError as error:  # of another release; it says hello again soon
                log.warning("what a point said last is not readable", extra={"point": point, "error": str(error)})

    def hear(self, hello: Hello) -> Heard:
        """A point says that it is there. One that settings could not name is nobody's."""
        if not is_name(hello.point):
            return Heard()
        heard = Heard(self._is_spoken_for_twice(hello), self._copy_of(hello))
        self._heard[hello.point] = (self._clock(), hello)
        self._unwritten.add(hello.point)
        self._stats.hellos += 1
        return heard

    def _copy_of(self, hello: Hello) -> str:
        """Another point with the same series, where that is news. One that was given another name speaks no more under the one
        before."""
        name, now = hello.point, self._clock()
        other = self._speaking.pop(hello.epoch, name)
        self._speaking[hello.epoch] = name
        if len(self._speaking) > MAX_SERIES:
            self._speaking.pop(next(iter(self._speaking)))
        at, last = self._heard.get(name, (0.0, hello))
        if not hello.epoch or other == name or last.epoch != hello.epoch or now - at >= AWAY_AFTER_S:
            return ""
        _, known_at = self._copies.get(name, ("", -TWICE_S))
        self._copies[name], self._copies[other] = (other, now), (name, now)
        return other if now - known_at >= TWICE_S else ""

    def _is_spoken_for_twice(self, hello: Hello) -> bool:
        """A process that ended does not come back: one that speaks again after another one did is a second host's."""
        name, now = hello.point, self._clock()
        _, last = self._heard.get(name, (0.0, hello))
        if _sender_of(last) == _sender_of(hello):
            return False
        is_twice = self._before.get(name) == _sender_of(hello)
        self._before[name] = _sender_of(last)
        if not is_twice:
            return False
        was_known = now - self._twice_at.get(name, -TWICE_S) < TWICE_S
        self._twice_at[name] = now
        return not was_known

    def changes(self) -> list[tuple[str, Presence]]:
        """Points that have come or gone since this was asked last."""
        now = {name: self._presence(name) for name in self._heard}
        changed = [(name, state) for name, state in now.items() if self._told.get(name, Presence.AWAY) is not state]
        self._told = now
        return changed

    def write(self) -> None:
        """Put what was heard since the last time on disk. Blocks. Raises SiteServerError, and tries the same next time."""
        self._put(self._take_unwritten())

    async def keep_on_disk(self) -> None:
        """The same, on the control loop."""
        await asyncio.to_thread(self._put, self._take_unwritten())

    def _take_unwritten(self) -> list[tuple[str, float, Hello]]:
        names, self._unwritten = self._unwritten, set()
        return [(name, *self._heard[name]) for name in names if name in self._heard]

    def _put(self, heard: Sequence[tuple[str, float, Hello]]) -> None:
        rows = [(name, at, msgspec.json.encode(hello).decode()) for name, at, hello in heard]
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT INTO heard VALUES (?1, ?2, ?3) ON CONFLICT (point) DO UPDATE SET at = ?2, hello = ?3", rows
                )
        except DpdError:
            self._unwritten |= {name for name, _, _ in heard}
            raise

    async def forget(self, name: str) -> None:
        """A point that is no more declared, as if it had never been heard. Raises SiteServerError."""
        self._heard.pop(name, None)
        self._unwritten.discard(name)
        await asyncio.to_thread(self._delete, name)

    def _delete(self, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM heard WHERE point = ?", (name,))

    # ---- questions

    @property
    def highest_held(self) -> int:
        """The highest version of the site's policy that a point has said to hold."""
        return max((hello.policy_version for _, hello in self._heard.values()), default=0)

    def names(self, group: str = EVERY_POINT) -> list[str]:
        """The points of a group, in the order of their names. Raises SiteNotFound where nobody has heard of the group."""
        declared = self._declared()
        if group == EVERY_POINT:
            return sorted({point.name for point in declared} | set(self._heard))
        found = sorted(point.name for point in declared if group in point.groups)
        if not found:
            known = sorted({name for point in declared for name in point.groups})
            raise SiteNotFound(
                f"no group {group[:70]}; there are {', '.join([*known, EVERY_POINT])}, and `dpd point add` puts points into groups"
            )
        return found

    def all(self, group: str = EVERY_POINT) -> list[PointStatus]:
        """Raises SiteNotFound."""
        declared = {point.name: point for point in self._declared()}
        return [self._status(name, declared.get(name)) for name in self.names(group)]

    def one(self, name: str) -> PointStatus:
        """Raises SiteNotFound."""
        declared = next((point for point in self._declared() if point.name == name), None)
        if declared is None and name not in self._heard:
            raise SiteNotFound(f"no distribution point {name[:70]}; `dpd point list` shows those there are")
        return self._status(name, declared)

    def require_present(self, name: str) -> None:
        """Raises SiteNotFound, PointAway."""
        status = self.one(name)
        if self._is_named_twice(name):
            raise PointAway(
                f"two hosts say that they are distribution point {name}, and each would do it; nothing was done. Give one of them another bus.point"
            )
        if status.state is Presence.NEVER:
            raise PointAway(
                f'distribution point {name} has not been heard yet; set bus.url, bus.site and bus.point = "{name}" there and start it'
            )
        if status.state is Presence.AWAY:
            since_s = self._clock() - status.last_seen_at
            raise PointAway(
                f"distribution point {name} is away: last heard {since_s:.0f} s ago; nothing was done there, ask again when `dpd point show {name}` shows it present"
            )

    def read_stats(self) -> PointStats:
        """As of now."""
        statuses = self.all()
        present = [each for each in statuses if each.state is Presence.PRESENT]
        stats, now = self._stats, self._clock()
        stats.points = {state.value: float(sum(each.state is state for each in statuses)) for state in Presence}
        stats.behind = sum(each.policy_lag > 0 for each in present)
        stats.most_behind = max((each.policy_lag for each in present), default=0)
        stats.backlog = sum(each.backlog for each in present)
        stats.last_seen_age_seconds = {
            each.name: now - each.last_seen_at for each in statuses if each.declared and each.last_seen_at
        }
        return stats

    def _is_named_twice(self, name: str) -> bool:
        return self._clock() - self._twice_at.get(name, -TWICE_S) < TWICE_S

    def _trouble(self, name: str) -> str:
        if self._is_named_twice(name):
            return f"two hosts say that they are {name}, and it is asked nothing; give one of them another bus.point"
        other, at = self._copies.get(name, ("", -TWICE_S))
        if self._clock() - at < TWICE_S:
            both = " and ".join(sorted((name, other)))  # the same words at each of them
            return f"{both} number their status messages alike, as a host and its copy do; stop dpd on the copy, take messages.db out of its state_dir, and start it again"
        return ""

    def _presence(self, name: str) -> Presence:
        if name not in self._heard:
            return Presence.NEVER
        at, hello = self._heard[name]
        is_there = self._clock() - at < AWAY_AFTER_S and hello.state != "gone"
        return Presence.PRESENT if is_there else Presence.AWAY

    def _status(self, name: str, declared: Point | None) -> PointStatus:
        at, hello = self._heard.get(name, (0.0, _SILENT))
        counts = hello.counts
        return PointStatus(
            name=name,
            groups=declared.groups if declared is not None else (),
            url=(declared.url if declared is not None else "") or hello.url,
            description=declared.description if declared is not None else "",
            declared=declared is not None,
            state=self._presence(name),
            last_seen_at=at,
            version=hello.version,
            daemon_state=hello.state,
            policy_version=hello.policy_version,
            policy_lag=max(0, self._published() - hello.policy_version) if at else 0,
            policy_age_s=hello.policy_age_s,
            backlog=hello.backlog,
            pending=counts.get("pending", 0),
            machines=counts.get("machines", 0),
            sessions=counts.get("sessions", 0),
            jobs=counts.get("jobs", 0),
            contents=counts.get("contents", 0),
            trouble=self._trouble(name),
        )


def _sender_of(hello: Hello) -> tuple[str, float]:
    """Whose word it is."""
    return hello.epoch, hello.started_at


_SILENT = Hello("", "", "", "", 0.0, 0, 0.0, "", 0, "", {})
