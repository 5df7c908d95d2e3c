# SPDX-License-Identifier: Apache-2.0
"""The verbs of deployments under way: which machines run what, how far they are, what they said, and taking one back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from dpd.deployment.capture_table import Capture
from dpd.deployment.captures import Captures
from dpd.deployment.deployment_logs import DeploymentLogs
from dpd.deployment.execution import Execution
from dpd.deployment.execution_book import ExecutionBook
from dpd.deployment.execution_table import KeptReport, Wanted
from dpd.errors import Unavailable
from dpd.telemetry.news import News

log = logging.getLogger(__name__)

InWorker: TypeAlias = Callable[..., Awaitable[Any]]

GATHER_S = 1.0  # between two batches: a thousand machines tell their progress each second
FIRST = 200  # of those that have ended, told to who begins to follow
MAX_FOLLOWERS = 100
KEPT_FOR_OPERATORS = 20  # of these places; whoever only looks on may be anybody


class Opened(Protocol):
    """What is asked of `dpd.deployment.opening.OpenDeployments`."""

    @property
    def book(self) -> ExecutionBook: ...
    @property
    def logs(self) -> DeploymentLogs: ...
    @property
    def captures(self) -> Captures: ...


class ExecutionOperations:
    """The verbs over one book; without one this daemon deploys nothing."""

    def __init__(self, opened: Opened | None, in_worker: InWorker, is_draining: Callable[[], bool]) -> None:
        self._opened = opened
        self._in_worker = in_worker
        self._is_draining = is_draining
        self._news = News()
        self._followers = 0
        if opened is not None:
            opened.book.at_change = self.release

    @property
    def opened(self) -> Opened:
        """Raises Unavailable where this daemon was built without."""
        if self._opened is None:
            raise Unavailable("this dpd keeps no book of deployments; start it with `dpd serve`")
        return self._opened

    async def list(self, wanted: Wanted, limit: int) -> Sequence[Execution]:
        """At most `limit`, the newest first."""
        found: Sequence[Execution] = await self._in_worker(self.opened.book.list, wanted, limit)
        return found

    async def show(self, id: str) -> Execution:
        """Raises ExecutionNotFound."""
        execution: Execution = await self._in_worker(self.opened.book.find, id)
        return execution

    async def reports(self, id: str, after: int, limit: int) -> Sequence[KeptReport]:
        """What its machine said, in order, behind a number. Raises ExecutionNotFound."""
        found: Sequence[KeptReport] = await self._in_worker(self.opened.book.reports, id, after, limit)
        return found

    async def log(self, id: str) -> str:
        """The log that it left. Raises ExecutionNotFound."""
        await self.show(id)
        text: str = await self._in_worker(self.opened.logs.read, id)
        return text

    async def cancel(self, id: str, reason: str, actor: str) -> Execution:
        """Its machine is told at its next report. Raises ExecutionNotFound, DeploymentError where it has ended."""
        execution: Execution = await self._in_worker(self.opened.book.cancel, id, reason, actor)
        log.info("deployment cancelled", extra={"execution": id, "mac": execution.mac, "actor": actor})
        return execution

    async def captures(self, limit: int) -> Sequence[Capture]:
        """Captured images, the newest first."""
        found: Sequence[Capture] = await self._in_worker(self.opened.captures.list, limit)
        return found

    # ---- following

    def refuse_crowd(self, *, is_operator: bool) -> None:
        """Raises Unavailable where as many follow as may."""
        refuse_crowd(self._followers, is_operator=is_operator)

    async def follow(self, wanted: Wanted, heartbeat_s: float) -> AsyncGenerator[Sequence[Execution], None]:
        """What is open and what ended last, then what changes, gathered for a moment; nothing where nothing changed for a while. Ends
        when dpd drains."""
        book = self.opened.book
        self._followers += 1
        try:
            revision = book.revision
            yield await self._in_worker(_first, book, wanted)
            while not self._is_draining():
                if not await self._news.wait(partial(_has_news, book, revision), heartbeat_s):
                    yield ()
                    continue
                revision, changed = await self._in_worker(book.changed, revision)
                if found := [each for each in changed if _matches(each, wanted)]:
                    yield found
                await asyncio.sleep(GATHER_S)
        finally:
            self._followers -= 1

    def release(self) -> None:
        """Let those who wait look again. Any thread."""
        self._news.release()


def refuse_crowd(followers: int, *, is_operator: bool) -> None:
    """Of deployments, here as at the site server. Raises Unavailable where as many follow as may."""
    if followers >= (MAX_FOLLOWERS if is_operator else MAX_FOLLOWERS - KEPT_FOR_OPERATORS):
        raise Unavailable(f"{followers} follow the deployments already, as many as may; try again later")


def _has_news(book: ExecutionBook, behind: int) -> bool:
    return book.revision > behind


def _first(book: ExecutionBook, wanted: Wanted) -> Sequence[Execution]:
    """Those that ended, the oldest first, then those that are open."""
    ended = [each for each in book.list(wanted, FIRST) if not each.is_open]
    return [*reversed(ended), *(each for each in book.open_executions() if _matches(each, wanted))]


def _matches(execution: Execution, wanted: Wanted) -> bool:
    is_machine = not wanted.machine or wanted.machine_key in (execution.machine, execution.mac)
    is_deployment = wanted.deployment in (None, execution.deployment)
    return is_machine and is_deployment and (not wanted.states or execution.state in wanted.states)
