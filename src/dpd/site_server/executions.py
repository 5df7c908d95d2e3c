# SPDX-License-Identifier: Apache-2.0
"""Deployments under way at all points: asked of the points while somebody looks, since only the point that gave a machine its task
sequence knows at which step it is.

However many look, the points are asked once for all of them, and no more of them in a second than a site server does with ease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from dpd.control.access.callers import Caller, Role
from dpd.control.api.messages.execution import ExecutionReply
from dpd.control.operations.execution import refuse_crowd
from dpd.errors import DpdError, ExecutionNotFound
from dpd.site_server.asker import Asker, Question, WholeAnswer, ask_each
from dpd.site_server.points import Points, Presence

FRESH_S = 1.0  # an answer is told again to whoever asks the same within that time
POINTS_PER_S = 50  # asked; with more points answers stay good for longer
FOLLOWED_ENDED = 100  # of each point, to who begins to follow
MAX_PLACES = 10_000  # executions of which it is known where they are


class SiteExecution(ExecutionReply):
    """An execution and the point that has it."""

    point: str


class Unanswered(msgspec.Struct):
    """A point whose executions are not known now, and why."""

    point: str
    message: str


class SiteExecutionList(msgspec.Struct):
    """The newest first; `unanswered` are points that may have more."""

    executions: list[SiteExecution]
    unanswered: list[Unanswered]


@dataclass(slots=True)
class _Asked:
    """One question to all points, and when it was asked."""

    at: float
    answer: asyncio.Task[SiteExecutionList]


class SiteExecutions:
    """Used on the control loop."""

    def __init__(
        self, asker: Asker, points: Points, is_draining: Callable[[], bool], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._asker = asker
        self._points = points
        self._is_draining = is_draining
        self._monotonic = monotonic
        self._asked: dict[tuple[str, Role], _Asked] = {}
        self._places: dict[str, str] = {}  # an execution's point
        self._followers = 0

    @property
    def fresh_s(self) -> float:
        """How long an answer is good for others too."""
        return max(FRESH_S, len(self._points.names()) / POINTS_PER_S)

    async def list(self, caller: Caller, **query: object) -> SiteExecutionList:
        """Of all points; `query` as a point's own API takes it, and with `limit` so many at most. Nobody's failure is raised."""
        target = _target(query)
        now, key = self._monotonic(), (target, caller.role)
        self._asked = {key: each for key, each in self._asked.items() if now - each.at < self.fresh_s or not each.answer.done()}  # fmt: skip
        if key not in self._asked:
            answer = asyncio.get_running_loop().create_task(self._gather(target, caller))
            self._asked[key] = _Asked(now, answer)
        found = await asyncio.shield(self._asked[key].answer)
        limit = query.get("limit")
        return SiteExecutionList(found.executions[: limit if isinstance(limit, int) else None], found.unanswered)

    async def ask(self, id: str, question: Question, caller: Caller) -> WholeAnswer:
        """The same question to the point that has this execution. Raises ExecutionNotFound, Unavailable, BusError."""
        point = self._places.get(id) or await self._find(id, caller)
        answer = await self._asker.whole(point, question, caller)
        if answer.status == 404:
            self._places.pop(id, None)
        return answer

    # ---- following

    def refuse_crowd(self, *, is_operator: bool) -> None:
        """Raises Unavailable where as many follow as may."""
        refuse_crowd(self._followers, is_operator=is_operator)

    async def follow(self, caller: Caller, **query: object) -> AsyncGenerator[Sequence[SiteExecution], None]:
        """What is open and what ended last, then what changes, looked for again and again; empty where nothing changed. Ends when
        the site server drains."""
        told: dict[str, SiteExecution] = {}
        self._followers += 1
        try:
            while not self._is_draining():
                ended = await self.list(caller, **query, state="ended", limit=FOLLOWED_ENDED)
                under_way = await self.list(caller, **query, state="open", limit=1000)
                found = {each.id: each for each in (*reversed(ended.executions), *reversed(under_way.executions))}
                news = [each for each in found.values() if told.get(each.id) != each]
                told = found
                yield news
                await asyncio.sleep(self.fresh_s)
        finally:
            self._followers -= 1

    # ---- the points

    async def _gather(self, target: str, caller: Caller) -> SiteExecutionList:
        present = [each.name for each in self._points.all() if each.state is Presence.PRESENT]
        question = Question("GET", target)
        answers = await ask_each(present, lambda point: self._of_point(point, question, caller))
        found = [each for answer in answers if not isinstance(answer, Unanswered) for each in answer]
        for each in found:
            self._places[each.id] = each.point
        while len(self._places) > MAX_PLACES:
            del self._places[next(iter(self._places))]
        away = [Unanswered(each.name, f"away since {each.last_seen_at:.0f}" if each.last_seen_at else "never heard") for each in self._points.all() if each.state is not Presence.PRESENT]  # fmt: skip
        unanswered = [*(each for each in answers if isinstance(each, Unanswered)), *away]
        return SiteExecutionList(sorted(found, key=lambda each: -each.started_at), unanswered)

    async def _of_point(self, point: str, question: Question, caller: Caller) -> Sequence[SiteExecution] | Unanswered:
        try:
            answer = await self._asker.whole(point, question, caller)
            reply: Any = answer.json()
            if answer.status != 200:
                return Unanswered(point, str(reply["error"]["message"]))
            return msgspec.convert([each | {"point": point} for each in reply["executions"]], list[SiteExecution])
        except DpdError as error:
            return Unanswered(point, str(error))
        except (msgspec.ValidationError, TypeError, KeyError) as error:
            return Unanswered(point, f"its answer is not as the API has it: {error}; is its dpd of another release?")

    async def _find(self, id: str, caller: Caller) -> str:
        """The point that has it. Raises ExecutionNotFound."""
        question = Question("GET", f"/v1/executions/{id}")
        names = [each.name for each in self._points.all() if each.state is Presence.PRESENT]

        async def has(point: str) -> bool:
            try:
                return (await self._asker.whole(point, question, caller)).status == 200
            except DpdError:
                return False

        for point, is_there in zip(names, await ask_each(names, has), strict=True):
            if is_there:
                self._places[id] = point
                return point
        raise ExecutionNotFound(
            f"no execution {id} at the points that are here; `dpd --site deploy list` shows those there are, `dpd point list` who is away"
        )


def _target(query: dict[str, object]) -> str:
    said = {name: value for name, value in query.items() if value is not None}
    return f"/v1/executions?{urlencode(said)}" if said else "/v1/executions"
