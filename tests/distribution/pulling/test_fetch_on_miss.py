# SPDX-License-Identifier: Apache-2.0
"""Whom a fetch on a miss serves: nobody where it is off, not ourselves, not for ever what nobody has, and not any number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.origin import Asked, Origin, Reply, Site, opened

from dpd.content import repository
from dpd.distribution.pulling import pull
from dpd.distribution.pulling.fetch_on_miss import MAX_WAITING, REMEMBERED_S, FetchOnMiss
from dpd.errors import ContentNotFound, SourceUnavailable, Unavailable


class Clock:
    """Stands until it is set, in either direction."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin({repository.newest("P"): repository.encode_newest(1)}) as origin:
        yield origin


@pytest.fixture
def site(tmp_path: Path, origin: Origin) -> Iterator[Site]:
    with opened(tmp_path / "site", {"hq": origin.url}, fetch_on_miss=True) as site:
        yield site


def test_what_a_source_has_is_ordered_once(site: Site) -> None:
    ordered: list[tuple[str, int | None]] = []
    some = FetchOnMiss(site.puller, lambda package, version, via: ordered.append((package, version)))
    assert some.fetch("P", None, ()).result(5) is True
    assert ordered == [("P", None)]
    with site.puller.under_way.begun("P", 1) as incoming:
        assert some.fetch("P", None, ()).result(5) is True
        assert some.incoming("P", None) is incoming
    assert ordered == [("P", None)]
    some.close()


def test_the_dpds_below_go_with_the_question_and_with_the_order(site: Site, origin: Origin) -> None:
    ordered: list[tuple[str, ...]] = []
    some = FetchOnMiss(site.puller, lambda package, version, via: ordered.append(via))
    below = "c" * 32
    assert some.fetch("P", None, (below,)).result(5) is True
    assert origin.asked[0].headers["x-dpd-via"] == f"{below}, {site.puller.own_id}"
    assert ordered == [(below,)]
    some.close()


def test_absence_is_remembered_for_a_minute_whatever_the_clock_on_the_wall_says(site: Site, origin: Origin) -> None:
    clock = Clock()
    some = FetchOnMiss(site.puller, lambda package, version, via: pytest.fail("ordered"), clock=clock)
    for passed, requests in ((0, 1), (REMEMBERED_S - 1, 1), (2, 2)):
        clock.now += passed
        with pytest.raises(ContentNotFound, match="package NONE version 4 is neither here nor at any source"):
            some.fetch("NONE", 4, ()).result(5)
        assert len(origin.asked) == requests
    some.close()


def test_a_source_that_does_not_answer_is_no_absence(site: Site, origin: Origin) -> None:
    def fail(asked: Asked, reply: Reply) -> None:
        reply.status, reply.body = 503, b""

    origin.misbehave = fail
    some = FetchOnMiss(site.puller, lambda package, version, via: None)
    with pytest.raises(SourceUnavailable, match="package P is not here, and no source has it now: hq: HTTP 503"):
        some.fetch("P", None, ()).result(5)
    origin.misbehave = lambda asked, reply: None
    assert some.fetch("P", None, ()).result(5) is True
    some.close()


def test_only_so_many_wait(site: Site, origin: Origin) -> None:
    go_on = threading.Event()

    def hold(asked: Asked, reply: Reply) -> None:
        go_on.wait(10)

    origin.misbehave = hold
    some = FetchOnMiss(site.puller, lambda package, version, via: None)
    futures = [some.fetch(f"P{number}", None, ()) for number in range(MAX_WAITING)]
    assert some.fetch("P3", None, ()) is futures[3]
    with pytest.raises(Unavailable, match="too many packages"):
        some.fetch("LAST", None, ()).result(0)
    go_on.set()
    for each in futures:
        assert isinstance(each.exception(20), ContentNotFound)
    some.close()


def test_off_means_off(tmp_path: Path, origin: Origin) -> None:
    with opened(tmp_path / "off", {"hq": origin.url}) as site:
        some = FetchOnMiss(site.puller, lambda package, version, via: pytest.fail("ordered"))
        assert some.fetch("P", None, ()).result(0) is False
        assert origin.asked == []
        some.close()


def test_what_the_desk_refuses_is_told(site: Site) -> None:
    def refuse(package: str, version: int | None, via: tuple[str, ...]) -> None:
        raise Unavailable("maintenance: until noon")

    some = FetchOnMiss(site.puller, refuse)
    with pytest.raises(Unavailable, match="until noon"):
        some.fetch("P", None, ()).result(5)
    some.close()


def test_closing_ends_the_questions_under_way(tmp_path: Path, origin: Origin) -> None:
    asked = threading.Event()

    def hang(_: Asked, reply: Reply) -> None:
        reply.hang = 0
        asked.set()

    origin.misbehave = hang
    with opened(tmp_path / "slow", {"hq": origin.url}, fetch_on_miss=True, stall_timeout_s=60.0) as site:
        some = FetchOnMiss(site.puller, lambda package, version, via: pytest.fail("ordered"))
        future = some.fetch("P", None, ())
        assert asked.wait(5)
        some.close()
        with pytest.raises(Unavailable, match="dpd ends"):
            future.result(5)
        assert some.fetch("P", None, ()).result(0) is False


def test_a_source_that_sends_on_and_on_holds_nobody_up(
    site: Site, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(asked: Asked, reply: Reply) -> None:
        reply.body = bytes(64 << 20)

    origin.misbehave, origin.pause_s = run_on, 0.02
    monkeypatch.setattr(pull, "OFFER_S", 0.5)
    some = FetchOnMiss(site.puller, lambda package, version, via: pytest.fail("ordered"))
    with pytest.raises(SourceUnavailable, match=r"hq: has not answered a small question in 0\.5 s"):
        some.fetch("P", None, ()).result(5)
    some.close()
