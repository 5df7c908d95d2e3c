# SPDX-License-Identifier: Apache-2.0
"""`dpd session …` against a running daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd

from dpd.cli.session import print_sessions


@pytest.fixture
def package(asked: Dpd, image: Path) -> Iterator[str]:
    assert asked("content", "add", image, "--package", "SESSION1").code == 0
    yield "SESSION1"
    asked("content", "remove", "SESSION1")


def test_a_session_is_started_listed_shown_and_stopped(asked: Dpd, package: str) -> None:
    session = asked("session", "start", package, "--json").json
    number = session["session_id"]
    assert number in asked("session", "list").out
    shown = asked("session", "show", number)
    assert f"{session['group']}:{session['port']}" in shown.out
    assert "No receivers." in shown.out
    assert asked("session", "list", "--json").json["sessions"][0]["session_id"] == number
    assert asked("session", "stop", number).out == f"session {number} of SESSION1 version 1: stopped\n"
    gone = asked("session", "stop", number)
    assert (gone.code, gone.err) == (1, f"dpd: no session {number}; `dpd session list` shows those there are\n")


def test_a_scheduled_cast_waits_is_changed_and_started_by_hand(asked: Dpd, package: str) -> None:
    options = [
        "--minimum-clients",
        8,
        "--wait",
        "10m",
        "--at",
        "2099-01-01T00:00",
        "--rate",
        500,
        "--maximum-clients",
        30,
    ]
    session = asked("session", "start", package, *options, "--json").json
    assert (session["minimum_clients"], session["rate_mbit_s"], session["max_clients"]) == (8, 500.0, 30)
    assert session["start_at"] > 4e9
    assert session["state"] == "waiting"
    number = session["session_id"]
    assert "waiting for 8 of 8 receivers" in asked("session", "list").out
    assert asked("session", "rate", number, 250, "--json").json["rate_mbit_s"] == 250.0
    assert "at most 250 Mbit/s" in asked("session", "show", number).out
    assert asked("session", "now", number).code == 0
    asked("session", "stop", number)


def test_the_uplink_is_shown_and_changed(asked: Dpd) -> None:
    assert asked("session", "uplink").out == "uplink: no ceiling\n"
    assert asked("session", "uplink", 2000).out == "uplink: at most 2000 Mbit/s\n"
    assert asked("session", "uplink", 0, "--json").json == {"uplink_mbit_s": 0.0}


def test_a_sessions_part_of_the_uplink_is_shown(asked: Dpd, package: str) -> None:
    asked("session", "uplink", 300)
    number = asked("session", "start", package, "--json").json["session_id"]
    deadline = time.monotonic() + 20
    while "no ceiling, 300 Mbit/s of the uplink now" not in (shown := asked("session", "show", number).out):
        assert time.monotonic() < deadline, shown
    asked("session", "uplink", 0)
    asked("session", "stop", number)


def test_orders_to_a_receiver_that_is_not_there_are_refused(asked: Dpd, package: str) -> None:
    number = asked("session", "start", package, "--json").json["session_id"]
    assert asked("session", "members", number).out == "No receivers.\n"
    for order in (["move", number, "0badcafe", "--class", 1], ["kick", number, "0badcafe", "--no-fall-back"]):
        refused = asked("session", *order)
        assert (refused.code, refused.err[:44]) == (1, f"dpd: session {number} has no receiver 0badcafe"[:44])
    asked("session", "stop", number)


def test_a_wrong_duration_or_moment_is_a_wrong_usage(asked: Dpd) -> None:
    assert "expected a duration such as 90s" in asked("session", "start", "X", "--wait", "long").err
    assert asked("session", "start", "X", "--at", "soon").code == 2


def test_without_sessions_the_list_says_how_one_starts(asked: Dpd) -> None:
    assert asked("session", "list").out == (
        "No sessions; the first receiver that joins starts one, or `dpd session start`.\n"
    )


def test_a_session_of_nothing_is_refused(asked: Dpd) -> None:
    ended = asked("session", "start", "NOTHING")
    assert (ended.code, ended.err) == (
        1,
        "dpd: package 'NOTHING' is not in the library; `dpd content list` shows what is\n",
    )


def test_the_table_counts_receivers(capsys: pytest.CaptureFixture[str]) -> None:
    session = {
        "session_id": "1a2b3c4d",
        "package_id": "LAB00001",
        "source_version": 1,
        "state": "sending",
        "waiting": "",
        "group": "239.192.0.7",
        "port": 63000,
        "pass_number": 2,
        "rate_mbit_s": 940.4,
        "bytes_sent": 3 << 30,
        "members": [{}, {}],
    }
    print_sessions([session])
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == ["1a2b3c4d", "LAB00001", "1", "sending", "239.192.0.7:63000", "2", "940", "3.0", "GiB", "2"]
