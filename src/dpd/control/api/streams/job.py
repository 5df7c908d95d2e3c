# SPDX-License-Identifier: Apache-2.0
"""A long job as a reply: progress lines while it runs, then its outcome.

The status line waits for the first progress report, so that what fails at once (no such file, disk full) is refused
with a status of its own. A client that goes away does not end the job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web
from msgspec import Struct, json

from dpd.content.library import Progress as Report
from dpd.control.api.messages.message import JobLine, Progress
from dpd.control.api.openapi import NDJSON
from dpd.control.api.refusals import classify
from dpd.errors import DpdError

REPORT_INTERVAL_S = 0.1  # a line for each slab of a fast disk would be thousands that nobody can see

Job: TypeAlias = Callable[[Report], Awaitable[object]]
Line: TypeAlias = Callable[..., Struct]  # made with one of progress=, content= and error=


class _Reports:
    """The newest progress, handed from the worker's thread to the loop; older ones are of no interest."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._latest: Progress | None = None
        self._has_ended = False
        self._next_at = 0.0

    def report(self, done: int, total: int) -> None:
        """Called in the worker's thread."""
        now = time.monotonic()
        if now >= self._next_at or done >= total:
            self._next_at = now + REPORT_INTERVAL_S
            self._loop.call_soon_threadsafe(self._set, Progress(done, total))

    def _set(self, progress: Progress) -> None:
        self._latest = progress
        self._changed.set()

    def end(self) -> None:
        """No report will follow."""
        self._has_ended = True
        self._changed.set()

    async def next(self) -> Progress | None:
        """Wait for news; None when the job has ended and everything was told."""
        while self._latest is None and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()
        latest, self._latest = self._latest, None
        return latest


class _Reply:
    """Lines to a client, begun with the first one; nothing more is tried once the client is gone."""

    def __init__(self, request: web.Request) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": NDJSON})
        self._request = request
        self._is_gone = False

    async def tell(self, line: Struct) -> None:
        if self._is_gone:
            return
        try:
            if not self.response.prepared:
                await self.response.prepare(self._request)
            await self.response.write(json.encode(line) + b"\n")
        except ConnectionError:
            self._is_gone = True


async def stream_job(request: web.Request, job: Job, line: Line = JobLine) -> web.StreamResponse:
    """Run the job and tell of it. Raises its DpdError where it failed before any progress."""
    reports, reply = _Reports(), _Reply(request)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_outcome(job, reports))
        while (progress := await reports.next()) is not None:
            await reply.tell(line(progress=progress))
    outcome = running.result()
    if not isinstance(outcome, DpdError):
        await reply.tell(line(content=outcome))
    elif reply.response.prepared:
        await reply.tell(line(error=classify(outcome)[1]))
    else:
        raise outcome
    return reply.response


async def _outcome(job: Job, reports: _Reports) -> object:
    """An error on purpose is an outcome; any other one is a bug and goes up."""
    try:
        return await job(reports.report)
    except DpdError as error:
        return error
    finally:
        reports.end()
