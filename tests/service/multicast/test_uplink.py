# SPDX-License-Identifier: Apache-2.0
"""Shares of the uplink: the arithmetic, how demand is measured, and real streams under one ceiling."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.multicast_site import PATIENCE_S, SETTINGS, HandReceiver, Site, write_image

from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.protocol.multicast.message import Header, MessageType, Report, Tally
from dpd.service.multicast.stream import BUCKET_BYTES, Stream
from dpd.service.multicast.uplink import IDLE_SHARE, Uplink, divide, fair_parts
from dpd.settings import Settings

DEMANDS = st.lists(st.one_of(st.just(math.inf), st.floats(0, 1e9)), min_size=1, max_size=8)
UPLINK_MBIT_S = 48.0

Join = Callable[[str], tuple[HandReceiver, Stream]]


@given(st.floats(1.0, 1e9), DEMANDS)
def test_fair_parts_are_max_min_fair(total: float, demands: list[float]) -> None:
    parts = fair_parts(total, demands)
    assert sum(parts) <= total * (1 + 1e-9)
    assert all(part <= demand for part, demand in zip(parts, demands, strict=True))
    unsatisfied = [p for p, d in zip(parts, demands, strict=True) if p < d * (1 - 1e-9)]
    if unsatisfied:
        assert sum(parts) == pytest.approx(total)
        assert min(unsatisfied) >= max(parts) * (1 - 1e-9), "nobody has more than one who wants more"


@given(st.floats(1.0, 1e9), DEMANDS)
def test_what_is_given_out_is_never_more_than_there_is(total: float, demands: list[float]) -> None:
    parts = divide(total, demands, [math.inf] * len(demands))
    assert sum(parts) <= total * (1 + 1e-9)
    assert all(part > 0 for part in parts), "0 would be no ceiling at all"


def test_what_nobody_demands_goes_to_those_who_are_there_up_to_their_ceilings() -> None:
    parts = divide(100.0, [20.0, 10.0, 0.0], [30.0, math.inf, math.inf])
    assert parts == [30.0, pytest.approx(69.0), pytest.approx(100 * IDLE_SHARE)]


@dataclass(eq=False)
class Played:
    """A stream that sends what it may, but no more than `able`."""

    able: float = 1e9
    wire_bytes: int = 0
    is_wanting: bool = True
    rate: float = 0.0

    def set_rate(self, rate_bit_s: float) -> None:
        self.rate = rate_bit_s

    def go_on(self, seconds: float) -> None:
        if self.is_wanting:
            self.wire_bytes += int(min(self.able, self.rate or self.able) * seconds / 8)


@dataclass
class PlayedSession:
    live_streams: list[Played]
    rate_bit_s: float = 0.0


class Stage:
    """Sessions under one uplink, on a clock of its own."""

    def __init__(self, uplink_bit_s: float, *sessions: PlayedSession) -> None:
        self.uplink = Uplink(uplink_bit_s)
        self.sessions = sessions
        self._now = 0.0

    def look(self) -> None:
        self.uplink.share_out(self.sessions, self._now)

    def play(self, seconds: float = 10.0) -> None:
        for _ in range(int(seconds / 0.1)):
            self.look()
            for session in self.sessions:
                for stream in session.live_streams:
                    stream.go_on(0.1)
            self._now += 0.1


def test_a_slow_one_gets_what_it_uses_and_the_others_the_rest() -> None:
    slow, fast, faster = Played(able=1e7), Played(), Played()
    Stage(1e8, *(PlayedSession([stream]) for stream in (slow, fast, faster))).play()
    assert 1e7 <= slow.rate <= 1.3e7
    assert fast.rate == pytest.approx(faster.rate, rel=0.01)
    assert slow.rate + fast.rate + faster.rate <= 1e8 * 1.0001
    assert fast.rate > 4.3e7


def test_an_idle_ones_share_goes_to_the_others_and_comes_back() -> None:
    first, second = Played(), Played()
    stage = Stage(1e8, PlayedSession([first]), PlayedSession([second]))
    stage.play()
    assert first.rate == pytest.approx(5e7, rel=0.02) == second.rate
    second.is_wanting = False
    stage.play()
    assert first.rate == pytest.approx(9.9e7, rel=0.01)
    second.is_wanting = True
    stage.look()
    assert second.rate == pytest.approx(5e7, rel=0.02), "at the first look, not some looks later"


def test_the_streams_of_a_session_share_what_it_has() -> None:
    many, lone = [Played() for _ in range(3)], Played()
    Stage(1e8, PlayedSession(many), PlayedSession([lone])).play()
    assert lone.rate == pytest.approx(5e7, rel=0.02)
    assert [stream.rate for stream in many] == [pytest.approx(5e7 / 3, rel=0.02)] * 3


def test_a_sessions_own_ceiling_holds_with_and_without_one_of_the_uplink() -> None:
    capped, free = [Played(), Played()], Played()
    stage = Stage(1e8, PlayedSession(capped, rate_bit_s=2e7), PlayedSession([free]))
    stage.play()
    assert sum(stream.rate for stream in capped) <= 2e7 * 1.0001
    assert free.rate == pytest.approx(8e7, rel=0.02)
    stage.uplink.rate_bit_s = 0.0
    stage.play()
    assert sum(stream.rate for stream in capped) == pytest.approx(2e7)
    assert free.rate == 0.0, "no ceiling"


@pytest.mark.parametrize(
    ("uplink", "ceiling", "speed_class", "first"),
    [
        (0.0, 0.0, 0, 0.0),
        (0.0, 5e6, 0, 5e6),
        (0.0, 5e6, 1, 5e4),
        (1e8, 0.0, 1, 1e6),
        (1e8, 5e5, 0, 5e5),
        (1e8, 5e7, 0, 1e6),
    ],
)
def test_a_new_stream_begins_with_little_until_it_gets_its_part(
    uplink: float, ceiling: float, speed_class: int, first: float
) -> None:
    assert Uplink(uplink).first_rate(ceiling, speed_class) == first


# ---- real streams


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        for name in "ABC":
            library.publish(write_image(tmp_path / name, 12 * SLAB_BYTES, seed=ord(name)), name)
        site = Site(library, replace(SETTINGS, uplink_mbit_s=UPLINK_MBIT_S, member_timeout_s=60.0))
        yield site
        await site.service.stop()


@pytest.fixture
def join(site: Site) -> Iterator[Join]:
    """Receivers that say once that they have room, and then take everything; by package."""
    receivers: list[HandReceiver] = []

    def join(package: str) -> tuple[HandReceiver, Stream]:
        answer = site.service.join(package, None, {"credit": 1 << 20, "slots": 1000}, "127.0.0.1")
        receivers.append(HandReceiver(answer))
        receivers[-1].say(first_report(answer))
        return receivers[-1], site.service._sessions[answer["session_id"]].streams[0].stream

    yield join
    for receiver in receivers:
        receiver.close()


def first_report(answer: Mapping[str, Any]) -> bytes:
    """Nothing seen, nothing stored; a window of 0 is the credit of the join."""
    header = Header(MessageType.REPORT, int(answer["session_id"], 16), answer["epoch"])
    return Report(header, int(answer["member"], 16), 0, 0, 0, 1000, Tally(), (), 0, 4, 0).encode()


def sent_mbit_s(streams: list[Stream], seconds: float) -> list[float]:
    before, began = [stream.wire_bytes for stream in streams], time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    return [(stream.wire_bytes - was) * 8e-6 / elapsed for stream, was in zip(streams, before, strict=True)]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_real_streams_share_the_uplink_and_never_exceed_it(site: Site, join: Join) -> None:
    """Two streams, each with a full bucket at the start: that much may come on top of the ceiling, once."""
    joined = [join(package) for package in "AB"]
    streams = [stream for _, stream in joined]
    wait_until(lambda: all(stream.datagrams for stream in streams))
    spare = 2 * BUCKET_BYTES * 8e-6 / 1.5
    assert sum(sent_mbit_s(streams, 1.5)) <= UPLINK_MBIT_S + spare, "and how much of it is used is up to the machine"
    half = pytest.approx(UPLINK_MBIT_S * 5e5, rel=0.1)  # while both can send; who was not let run lends its share
    wait_until(lambda: [stream.bucket.rate_bit_s for stream in streams] == [half] * 2)
    assert sum(stream.bucket.rate_bit_s for stream in streams) <= UPLINK_MBIT_S * 1e6 * 1.001
    answer = joined[1][0].answer
    site.service.complete(answer["session_id"], {"member": answer["member"]})
    wait_until(lambda: streams[0].bucket.rate_bit_s >= 0.98 * UPLINK_MBIT_S * 1e6)  # the share of the one that is done
    alone, nothing = sent_mbit_s(streams, 1.0)
    assert nothing == 0
    assert alone <= UPLINK_MBIT_S + spare


async def test_a_ceiling_changes_live_by_verb_and_by_reload(site: Site, join: Join) -> None:
    _, stream = join("C")
    site.service.set_uplink(16.0)
    assert site.service.uplink_mbit_s == 16.0
    wait_until(lambda: stream.bucket.rate_bit_s == 16e6)
    site.service.apply(Settings(multicast=replace(SETTINGS, uplink_mbit_s=UPLINK_MBIT_S)))
    assert site.service.uplink_mbit_s == 16.0, "a reload that does not change the setting leaves it"
    site.service.apply(Settings(multicast=replace(SETTINGS, uplink_mbit_s=0.0)))
    wait_until(lambda: stream.bucket.rate_bit_s == 0)
