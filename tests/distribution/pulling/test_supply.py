# SPDX-License-Identifier: Apache-2.0
"""Sources in their order: who is asked first, who comes last after a failure, who is not asked again, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.distribution.origin import Asked, Origin, Reply

from dpd.distribution.pulling.http_source import HttpSource
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Outcome, SourceFailure, Terms
from dpd.distribution.pulling.supply import Lane, Supply, in_order
from dpd.errors import SourceUnavailable

BODY = random.Random(1).randbytes(3 << 20)


def sources(*names: str, priority: int = 1) -> list[HttpSource]:
    return [HttpSource(name, f"http://127.0.0.1:1/{name}", priority) for name in names]


@contextmanager
def supply(*found: HttpSource) -> Iterator[tuple[Supply, list[tuple[str, dict[str, Any]]]]]:
    told: list[tuple[str, dict[str, Any]]] = []
    yield (
        Supply(
            found,
            random.Random(1),
            PullStats(),
            lambda event, fields: told.append((event, dict(fields))),
            {"package_id": "P"},
        ),
        told,
    )


def terms(stall_s: float = 1.0) -> Terms:
    return Terms(lambda: None, RateLimit(lambda: float("inf")), stall_s)


def test_priority_goes_first_and_equals_are_shuffled() -> None:
    some = [*sources("far", priority=2), *sources("a", "b", "c")]
    orders = {tuple(each.name for each in in_order(some, random.Random(seed))) for seed in range(60)}
    assert {order[3] for order in orders} == {"far"}
    assert len(orders) == 6


def test_who_lied_is_out_and_who_stalled_comes_last() -> None:
    a, b, c = sources("a", "b", "c")
    with supply(a, b, c) as (some, told):
        some.prefer(a)
        some.failed(a, SourceFailure("a", Outcome.STALLED, "brought nothing"))
        assert some.candidates()[-1] is a
        some.failed(b, SourceFailure("b", Outcome.WRONG, "slab 3"))
        some.failed(b, SourceFailure("b", Outcome.WRONG, "slab 4"))
        assert [each.name for each in some.candidates()] == ["c", "a"]
        assert told == [
            ("source.failed", {"package_id": "P", "source": "a", "outcome": "stalled", "why": "brought nothing"}),
            ("source.lied", {"package_id": "P", "source": "b", "outcome": "wrong_hash", "why": "slab 3"}),
        ]
        assert some.stats.requests == {"stalled": 1, "wrong_hash": 2}
        some.failed(c, SourceFailure("c", Outcome.NOT_FOUND, "none here"))
        assert [each.name for each in some.candidates()] == ["c", "a"]


def test_when_all_have_failed_each_is_named_with_its_reason() -> None:
    a, b = sources("a", "b")
    with supply(a, b) as (some, _), Lane(some, terms()) as lane:
        some.failed(b, SourceFailure("b", Outcome.WRONG, "slab 3"))
        with pytest.raises(SourceUnavailable) as caught:
            lane.ask("blob x", lambda source, session: session.read("y", 10))
        assert str(caught.value) == "blob x: no source has it now: b: slab 3; a: Connection refused"


def test_a_range_goes_on_at_the_next_source_in_the_middle() -> None:
    def cut(asked: Asked, reply: Reply) -> None:
        reply.cut = 1_000_000

    with Origin({"x": BODY}, cut) as bad, Origin({"x": BODY}) as good:
        first, second = HttpSource("bad", bad.url, 1), HttpSource("good", good.url, 2)
        with supply(first, second) as (some, told), Lane(some, terms()) as lane:
            got = b"".join(bytes(piece) for piece in lane.read_range("x", 100, len(BODY) - 7, len(BODY)))
        assert got == BODY[100:-7]
        assert [(event, fields["outcome"]) for event, fields in told] == [("source.failed", "truncated")]
        assert good.asked[0].range == (1_000_100, len(BODY) - 8)
        assert some.stats.bytes == {"dpd": len(BODY) - 107}


def test_sources_that_answer_and_bring_nothing_do_not_keep_a_repair_for_ever() -> None:
    def hang_up(asked: Asked, reply: Reply) -> None:
        reply.cut = 0

    with Origin({"x": BODY}, hang_up) as bad:
        source = HttpSource("bad", bad.url)
        with (
            supply(source) as (some, _),
            Lane(some, terms()) as lane,
            pytest.raises(SourceUnavailable, match="each answers and then breaks off"),
        ):
            list(lane.read_range("x", 0, len(BODY), len(BODY)))
        assert len(bad.asked) <= 3


def test_the_nearest_are_all_asked_and_the_far_only_if_none_can() -> None:
    with Origin({"x": b"1"}) as one, Origin({"x": b"2"}) as two, Origin({"x": b"3"}) as far:
        near = [HttpSource("one", one.url), HttpSource("two", two.url)]
        with supply(*near, HttpSource("far", far.url, 2)) as (some, _), Lane(some, terms()) as lane:
            assert sorted(lane.ask_nearest("x", lambda source, session: session.read("x", 9))) == [b"1", b"2"]
            one.files.clear()
            two.files.clear()
            assert lane.ask_nearest("x", lambda source, session: session.read("x", 9)) == [b"3"]
