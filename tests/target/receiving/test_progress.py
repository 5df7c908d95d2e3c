# SPDX-License-Identifier: Apache-2.0
"""JSON lines for programs, a bar for people."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from dpd.protocol.multicast.receiver import ReceiverCounters
from dpd.service.receiving.receiver import Progress
from dpd.target.receiving.progress import BAR_WIDTH, Display

HALF = Progress(4, 2, 4000, 2000, 2.0, ReceiverCounters(symbols=10_000, lost=7, repairs=5, recovered=6, nacks=2))


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_every_event_is_one_json_line(out: io.StringIO) -> None:
    display = Display("LAB00001", as_json=True, out=out)
    display.tell("joined", group="239.192.0.9", port=63000)
    display.show(HALF)
    joined, progress = (json.loads(line) for line in out.getvalue().splitlines())
    assert joined == {"event": "joined", "package": "LAB00001", "group": "239.192.0.9", "port": 63000}
    assert progress == {
        "event": "progress", "package": "LAB00001", "slabs": 4, "verified_slabs": 2, "size_bytes": 4000,
        "verified_bytes": 2000, "receiving_s": 2.0, "symbols": 10_000, "lost": 7, "socket_drops": 0, "repairs": 5,
        "recovered": 6, "nacks": 2, "class": 0, "source": "multicast", "unicast_bytes": 0, "starts_in_s": 0.0,
    }  # fmt: skip


def test_text_that_is_no_ascii_stays_one_line(out: io.StringIO) -> None:
    Display("LAB00001", as_json=True, out=out).tell("failed", reason="zwei\nZeilen ü")
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue())["reason"] == "zwei\nZeilen ü"


def test_the_bar_is_redrawn_in_place(out: io.StringIO) -> None:
    display = Display("LAB00001", as_json=False, out=out)
    display.show(HALF)
    display.show(HALF)
    drawn = out.getvalue().split("\r")
    assert len(drawn) == 3
    assert "\n" not in out.getvalue()
    assert f"[{'#' * (BAR_WIDTH // 2)}{'.' * (BAR_WIDTH // 2)}]  50.0%" in drawn[1]
    assert "2/4 slabs      7.0 MB/s  lost 7  repairs 5" in drawn[1]


def test_an_event_after_the_bar_stands_on_its_own_line(out: io.StringIO) -> None:
    display = Display("LAB00001", as_json=False, out=out)
    display.tell("starting", of=4)
    display.show(HALF)
    display.tell("completed", output="x.wim")
    display.tell("bye")
    assert out.getvalue().split("\r")[0] == "LAB00001  starting  of 4\n"
    assert out.getvalue().split("\r")[1].split("\n")[1:] == ["LAB00001  completed  output x.wim", "LAB00001  bye  ", ""]


def test_before_the_first_symbol_there_is_no_rate_to_divide_by(out: io.StringIO) -> None:
    Display("LAB00001", as_json=False, out=out).show(Progress(4, 0, 4000, 0, 0.0, ReceiverCounters()))
    assert "  0.0%" in out.getvalue()


def shown(**fields: object) -> str:
    out = io.StringIO()
    Display("LAB00001", as_json=False, out=out).show(replace(HALF, **fields))  # type: ignore[arg-type]
    return out.getvalue()


def test_the_bar_tells_where_it_comes_from() -> None:
    assert shown().endswith("repairs 5  multicast       ")
    assert "class 1" in shown(speed_class=1)
    assert "HTTP 3 MB" in shown(is_unicast=True, unicast_bytes=3_000_000)
    assert "8.5 MB/s" in shown(is_unicast=True, unicast_bytes=3_000_000), "both ways count"


def test_the_bar_tells_when_a_scheduled_session_starts() -> None:
    assert "starts in 12 s" in shown(starts_in_s=12.3, counters=ReceiverCounters())
    assert "starts in" not in shown(starts_in_s=12.3), "it has begun"
