# SPDX-License-Identifier: Apache-2.0
"""The event log: order, bounds, and followers that wait on a loop while threads note."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dpd.telemetry.events import EventLog
from dpd.telemetry.spool import Spool


def test_ids_increase_also_over_a_restart() -> None:
    before = EventLog(clock=lambda: 1000.0)
    ids = [before.note("receiver_joined").id for _ in range(3)]
    assert ids == [1_000_001, 1_000_002, 1_000_003]
    assert EventLog(clock=lambda: 1001.0).note("receiver_joined").id > ids[-1]


def test_passwords_and_tokens_in_urls_go_into_no_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        noted = EventLog().note("job.failed", error="https://bea:hunter2@dp1/a?t=hunter2: gone", job=1)
    assert noted.fields == {"error": "https://…@dp1/a?… gone", "job": 1}


def test_events_behind_one_come_oldest_first_and_no_more_than_asked() -> None:
    events = EventLog()
    noted = [events.note("receiver_joined", member=str(i)) for i in range(5)]
    assert events.after(0) == noted
    assert events.after(noted[2].id) == noted[3:]
    assert events.after(noted[0].id, limit=2) == noted[1:3]
    assert events.after(noted[-1].id) == []


def test_only_the_latest_are_kept() -> None:
    events = EventLog(capacity=3)
    noted = [events.note("receiver_joined") for _ in range(5)]
    assert events.after(0) == noted[2:]
    assert events.latest == noted[-1].id


def test_each_event_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dpd"):
        EventLog().note("receiver_kicked", peer="192.0.2.1", fall_back=True)
    (record,) = caplog.records
    assert (record.message, vars(record)["peer"], vars(record)["fall_back"]) == ("receiver kicked", "192.0.2.1", True)


async def test_a_follower_wakes_at_the_event_of_another_thread() -> None:
    events = EventLog()
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(events.wait(after, 30)) for after in (0, events.latest)]
        await asyncio.sleep(0)
        thread = threading.Thread(target=events.note, args=("receiver_joined",))
        thread.start()
    thread.join()
    assert [[e.event for e in each.result()] for each in waiting] == [["receiver_joined"]] * 2


async def test_a_follower_gets_what_is_there_at_once_and_nothing_when_its_time_is_over() -> None:
    events = EventLog()
    noted = events.note("receiver_joined")
    assert await events.wait(0, 30) == [noted]
    assert await events.wait(noted.id, 0.01) == []
    assert await events.wait(noted.id, 0) == []
    assert events._news._waiting == {}, "nobody is left behind"


async def test_followers_are_released_without_an_event() -> None:
    events = EventLog()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(events.wait(events.latest, 30))
        await asyncio.sleep(0)
        events.release()
    assert waiting.result() == []


@pytest.mark.parametrize(
    ("event", "level"), [("job.done", logging.INFO), ("receiver_lost", logging.WARNING), ("job.failed", logging.ERROR)]
)
def test_the_severity_of_the_catalogue_is_the_level_of_the_line(
    caplog: pytest.LogCaptureFixture, event: str, level: int
) -> None:
    with caplog.at_level(logging.DEBUG, "dpd"):
        EventLog().note(event)
    assert [record.levelno for record in caplog.records] == [level]


def test_events_go_to_the_spool_as_they_are(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "messages.db")) as spool:
        events = EventLog(spool=spool)
        noted = [events.note("job.done", job=number) for number in range(3)]
        assert spool.flush(30)
        assert [(each.at, each.event, each.fields) for each in spool.after(0)] == [
            (each.at, each.event, each.fields) for each in noted
        ]


async def test_a_release_lets_the_followers_of_the_spool_go_too(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "messages.db")) as spool:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(spool.news(0, 30))
            await asyncio.sleep(0)
            EventLog(spool=spool).release()
        assert not waiting.result()
