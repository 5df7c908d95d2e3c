# SPDX-License-Identifier: Apache-2.0
"""Requests to points, over the bus: at once refused for a point that is away, part by part for whoever streams."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from dpd.bus.asking import ask
from dpd.bus.connection import BusConnection
from dpd.bus.messages import Answer, Ask, BusCaller
from dpd.bus.subjects import Subjects
from dpd.control.access.callers import Caller
from dpd.control.api.messages.message import Refusal
from dpd.errors import BusError, Unavailable
from dpd.site_server.points import Points

JSON = "application/json"
LINES = ("application/x-ndjson", "text/event-stream")
AT_ONCE = 64  # points that are asked at the same time

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Question:
    """A request of the API. `target` is the path with its query."""

    method: str
    target: str
    body: str = ""
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer with its body put together."""

    status: int
    content_type: str
    body: str

    def json(self) -> Any:
        """Raises BusError where it is none."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise BusError(f"answer of the point: expected JSON: {error}") from None


class Asker:
    """`timeout_s` tells how long to wait for a sign of a point; `require` raises where another server is to be asked."""

    def __init__(
        self,
        connection: BusConnection,
        points: Points,
        site: str,
        timeout_s: Callable[[], float],
        require: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._points = points
        self._subjects = Subjects(site)
        self._timeout_s = timeout_s
        self._require = require

    async def parts(self, point: str, question: Question, caller: Caller) -> AsyncGenerator[Answer, None]:
        """As they come. Raises SiteNotFound, Unavailable, BusError."""
        self._points.require_present(point)
        link = self._connection.link
        if link is None:
            raise Unavailable(f"the site server has no connection to the bus: {self._connection.trouble}")
        await self._require()
        request = Ask(
            secrets.token_hex(16),
            question.method,
            question.target,
            question.body,
            question.content_type,
            BusCaller(caller.name, caller.role.value),
        )
        answers = ask(link, self._subjects.ask(point), request, timeout_s=self._timeout_s())
        is_lines = False
        async with contextlib.aclosing(answers):
            async for part in answers:
                is_lines = is_lines or (part.sequence == 0 and part.headers.get("Content-Type", "").startswith(LINES))
                if part.is_broken and not is_lines:  # in lines it is one more of them
                    raise BusError(f"point {point}: {_reason(part)}")
                yield part

    async def whole(self, point: str, question: Question, caller: Caller) -> WholeAnswer:
        """Raises SiteNotFound, Unavailable, BusError."""
        first: Answer | None = None
        body: list[str] = []
        parts = self.parts(point, question, caller)
        async with contextlib.aclosing(parts):
            async for part in parts:
                first = first or part
                body.append(part.body)
        if first is None:
            raise BusError(f"point {point}: its answer has no beginning")
        return WholeAnswer(first.status, first.headers.get("Content-Type", JSON), "".join(body))


async def ask_each(points: Sequence[str], ask_one: Callable[[str], Awaitable[A]]) -> list[A]:
    """What `ask_one` makes of each of many points, in their order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(point: str) -> A:
        async with places:
            return await ask_one(point)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(point)) for point in points]
    return [each.result() for each in asked]


def _reason(part: Answer) -> str:
    try:
        return msgspec.json.decode(part.body, type=Refusal).error.message
    except msgspec.MsgspecError:
        return "its answer broke off"
