# SPDX-License-Identifier: Apache-2.0
"""The verbs of status messages: a page of history behind a position, the newest, and a following that ends with the daemon.

A position is the epoch of a series and a sequence in it, so that it stays right when a disk was replaced: of another series
everything is new. Disks are read in threads of their own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from dpd.errors import DpdError, Unavailable
from dpd.telemetry.status_messages import Severity, StatusMessage

DRAIN_S = 0.5  # for what was noted at the drain to be on the disk, which a busy machine's writer needs
PAGE = 500  # messages read at once by who follows
MAX_FOLLOWERS = 200
KEPT_FOR_OPERATORS = 50  # of these: a page that whoever reaches it may read is not to keep out who has to act

_POSITION = re.compile(r"(?:([0-9a-f]{0,16})-)?([0-9]{1,18})")


class Series(Protocol):
    """What messages are read from: `dpd.telemetry.spool.Spool`. `after` and `last` block, and raise DpdError."""

    @property
    def epoch(self) -> str: ...
    @property
    def latest(self) -> int: ...
    @property
    def oldest(self) -> int: ...
    def after(self, sequence: int, limit: int, *, severity: Severity) -> list[StatusMessage]: ...
    def last(self, limit: int, *, severity: Severity) -> list[StatusMessage]: ...
    async def news(self, sequence: int, wait_s: float) -> bool: ...


class PositionRefused(DpdError):
    """What was given as a position is none."""


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which message; the text that names it is for programs to keep and give back, and not to look into."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class Page:
    """Messages, where to go on behind them, and which sequences were dropped before they could be told: from, to."""

    messages: list[StatusMessage]
    position: Position
    missed: tuple[int, int] | None = None


class MessageOperations:
    """The verbs over one series. Without one there is no history, only events in memory."""

    def __init__(self, series: Series | None, is_draining: Callable[[], bool]) -> None:
        self._series = series
        self._is_draining = is_draining
        self._followers = 0

    @property
    def series(self) -> Series:
        """Raises Unavailable where this dpd keeps no messages."""
        if self._series is None:
            raise Unavailable("this dpd keeps no status messages; start it with `dpd serve`")
        return self._series

    def position(self, text: str | None) -> Position:
        """What the text names, or the end for None; of an earlier series the beginning of this one. Raises PositionRefused."""
        series = self.series
        if text is None:
            return Position(series.epoch, series.latest)
        found = _POSITION.fullmatch(text)
        if found is None:
            raise PositionRefused(
                f"after: {text[:60]!r} is no position; give back the one of a reply, or 0 for the beginning"
            )
        if found[1] is not None and found[1] != series.epoch:
            return Position(series.epoch, 0)
        return Position(series.epoch, min(int(found[2]), series.latest))  # beyond: the file came from a backup

    async def page(self, behind: Position, limit: int, severity: Severity = Severity.INFO) -> Page:
        """The messages behind a position, oldest first. Raises DpdError where the disk cannot be read."""
        series = self.series
        if behind.epoch != series.epoch:
            behind = Position(series.epoch, 0)
        latest = series.latest
        found, oldest = await asyncio.to_thread(_read, series, behind.sequence, limit, severity)
        if behind.epoch != series.epoch:  # another file took its place just now
            return await self.page(behind, limit, severity)
        missed = None
        if behind.sequence + 1 < oldest:
            last = min(oldest, found[0].sequence if found else oldest) - 1
            missed = (behind.sequence + 1, last) if last > behind.sequence else None
        end = found[-1].sequence if len(found) == limit else max(latest, found[-1].sequence if found else 0)
        return Page(found, Position(behind.epoch, max(end, behind.sequence)), missed)

    async def newest(self, limit: int, severity: Severity = Severity.INFO) -> Page:
        """The last messages, oldest of them first; to go on behind them."""
        series = self.series
        epoch, latest = series.epoch, series.latest
        found = await asyncio.to_thread(series.last, limit, severity=severity)
        if epoch != series.epoch:
            return await self.newest(limit, severity)
        return Page(found, Position(epoch, max(latest, found[-1].sequence if found else 0)))

    def refuse_crowd(self, *, is_operator: bool) -> None:
        """Raises Unavailable where as many follow as may."""
        places = MAX_FOLLOWERS if is_operator else MAX_FOLLOWERS - KEPT_FOR_OPERATORS
        if self._followers >= places:
            kept = "" if is_operator else "; the places that are left are for operators"
            raise Unavailable(
                f"{self._followers} follow the status messages already, as many as may{kept}; try again later"
            )

    async def follow(
        self, behind: Position, severity: Severity, heartbeat_s: float, *, is_operator: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Pages behind a position as they come, an empty one where nothing came for a while; ends when dpd drains, with
        everything told. Raises Unavailable where too many follow."""
        self.refuse_crowd(is_operator=is_operator)
        self._followers += 1
        try:
            while True:
                was_draining = self._is_draining()
                page, can_be_read = await self._try_page(behind, severity)
                behind = page.position
                if page.messages or page.missed:
                    yield page
                elif was_draining:
                    if not await self.series.news(behind.sequence, DRAIN_S):
                        return
                elif self._is_draining():
                    continue  # once more, for what was noted meanwhile
                elif not can_be_read or not await self.series.news(behind.sequence, heartbeat_s):
                    yield page
                    if not can_be_read:
                        await asyncio.sleep(heartbeat_s)
        finally:
            self._followers -= 1

    async def _try_page(self, behind: Position, severity: Severity) -> tuple[Page, bool]:
        """An empty one where the disk cannot be read now; and whether it can."""
        try:
            return await self.page(behind, PAGE, severity), True
        except DpdError:
            return Page([], behind), False


def _read(series: Series, sequence: int, limit: int, severity: Severity) -> tuple[list[StatusMessage], int]:
    """The messages, and then what is the oldest, since some may have been dropped meanwhile."""
    found = series.after(sequence, limit, severity=severity)
    return found, series.oldest
