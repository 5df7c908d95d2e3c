# SPDX-License-Identifier: Apache-2.0
"""Executions of all points, gathered: points that answer badly or not at all, and many who look."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.deployment.executions import begin, open_book, said

from dpd.control.access.callers import Caller, Role
from dpd.control.api.messages.execution import reply_of
from dpd.control.operations.execution import MAX_FOLLOWERS
from dpd.errors import BusError, ExecutionNotFound, Unavailable
from dpd.site_server.asker import Question, WholeAnswer
from dpd.site_server.executions import SiteExecutions
from dpd.site_server.points import Presence

ANNA = Caller("anna", Role.VIEWER, "unix")


@dataclass
class Estate:
    """Points that answer what a test says, one after the other."""

    answers: dict[str, Any]
    asked: list[tuple[str, str]] = field(default_factory=list)
    now: float = 1000.0
    is_draining: bool = False

    async def whole(self, point: str, question: Question, caller: Caller) -> WholeAnswer:
        self.asked.append((point, question.target))
        await asyncio.sleep(0)
        found = self.answers[point]
        if isinstance(found, Exception):
            raise found
        status, body = found
        return WholeAnswer(
            status, "application/json", body if isinstance(body, str) else msgspec.json.encode(body).decode()
        )

    def names(self) -> list[str]:
        return sorted(self.answers)

    def all(self) -> list[Any]:
        return [
            SimpleNamespace(name=name, state=Presence.PRESENT if self.answers[name] is not None else Presence.AWAY, last_seen_at=5.0)
            for name in self.names()
        ]  # fmt: skip

    def opened(self) -> SiteExecutions:
        return SiteExecutions(self, self, lambda: self.is_draining, monotonic=lambda: self.now)  # type: ignore[arg-type]


@pytest.fixture
def execution(tmp_path: Any) -> dict[str, Any]:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(1, "1", "started")], 1010.0)
    found: dict[str, Any] = msgspec.to_builtins(reply_of(book.find(id)))
    return found


def listed(*executions: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"executions": list(executions)}


async def test_a_point_that_answers_badly_is_named_and_spoils_nothing(execution: dict[str, Any]) -> None:
    estate = Estate(
        {
            "a": listed(execution | {"of_a_newer_dpd": 1}),
            "b": (409, {"error": {"code": "x", "message": "keeps no book"}}),
            "c": BusError("point c: broke off"),
            "d": listed({"id": "of an older dpd"}),
            "e": (200, "nonsense"),
            "f": None,
        }
    )
    found = await estate.opened().list(ANNA, state="open")
    assert [(each.point, each.id) for each in found.executions] == [("a", execution["id"])]
    told = {each.point: each.message for each in found.unanswered}
    assert sorted(told) == ["b", "c", "d", "e", "f"]
    assert (told["b"], told["c"], told["f"]) == ("keeps no book", "point c: broke off", "away since 5")
    assert "of another release" in told["d"]
    assert ("f", "/v1/executions?state=open") not in estate.asked


async def test_however_many_look_points_are_asked_once_a_while(execution: dict[str, Any]) -> None:
    estate = Estate({"a": listed(execution)})
    executions = estate.opened()
    await asyncio.gather(*(executions.list(ANNA, limit=9) for _ in range(20)))
    assert len(estate.asked) == 1
    estate.now += executions.fresh_s
    await executions.list(ANNA, limit=9)
    assert len(estate.asked) == 2
    estate.answers |= {f"p{number}": listed() for number in range(499)}
    assert executions.fresh_s == 10.0


async def test_an_execution_is_asked_for_where_it_is(execution: dict[str, Any]) -> None:
    estate = Estate({"a": (404, {}), "b": (200, {"found": 1}), "c": BusError("broke off")})
    executions, question = estate.opened(), Question("GET", f"/v1/executions/{execution['id']}/log")
    assert (await executions.ask(execution["id"], question, ANNA)).json() == {"found": 1}
    estate.asked.clear()
    await executions.ask(execution["id"], question, ANNA)
    assert estate.asked == [("b", question.target)]
    with pytest.raises(ExecutionNotFound, match="`dpd point list` who is away"):
        await Estate({"a": (404, {})}).opened().ask("00", question, ANNA)


async def test_who_follows_is_told_what_is_and_then_what_changes(
    execution: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpd.site_server.executions.FRESH_S", 0.001)
    estate = Estate({"a": listed(execution)})
    async with aclosing(estate.opened().follow(ANNA)) as pages:
        assert [each.message for each in await anext(pages)] == [execution["message"]]
        estate.now += 1
        assert await anext(pages) == []
        estate.answers["a"] = listed(execution | {"message": "half"})
        estate.now += 1
        assert [(each.point, each.message) for each in await anext(pages)] == [("a", "half")]
        estate.is_draining = True
        assert await anext(pages, None) is None


async def test_as_many_follow_as_may(execution: dict[str, Any]) -> None:
    executions = Estate({"a": listed(execution)}).opened()
    pages = [executions.follow(ANNA) for _ in range(MAX_FOLLOWERS)]
    for each in pages:
        await anext(each)
    with pytest.raises(Unavailable, match="follow the deployments already"):
        executions.refuse_crowd(is_operator=True)
    for each in pages:
        await each.aclose()
    executions.refuse_crowd(is_operator=False)
