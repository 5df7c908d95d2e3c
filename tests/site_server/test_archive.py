# SPDX-License-Identifier: Apache-2.0
"""The archive of all points' status messages: each once, in the order in which they came, as long as they are kept."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dpd.bus.messages import StatusReport
from dpd.database import Database
from dpd.site_server.archive import DAY_S, Archive
from dpd.site_server.database import open_database
from dpd.telemetry.status_messages import Severity

NOW = 1_800_000_000.0


def report(
    sequence: int, *, epoch: str = "aa", point: str = "branch-1", at: float = NOW, severity: str = "info"
) -> StatusReport:
    return StatusReport(point, epoch, sequence, at, "job.done", 2004, severity, {"job": f"j{sequence}"})


def archive(database: Database, *, keep_days: int = 90) -> Archive:
    return Archive(database, keep_days, clock=lambda: NOW)


def test_a_message_that_comes_again_is_known_by_its_name(database: Database) -> None:
    kept = archive(database)
    assert kept.add([report(1), report(2)]) == 2
    assert kept.add([report(2), report(3)]) == 1
    assert [message.fields["job"] for message in kept.after(0)] == ["j1", "j2", "j3"]
    assert (kept.stats.stored, kept.stats.known, kept.stats.kept) == (3, 1, 3)


def test_the_same_sequence_of_another_disk_is_another_message(database: Database) -> None:
    kept = archive(database)
    kept.add([report(1, epoch="aa"), report(1, epoch="bb")])
    assert len(kept.after(0)) == 2


def test_a_host_and_its_copy_lose_nothing_and_what_they_said_before_is_kept_once(database: Database) -> None:
    """The copy has the series of the first one and goes on with other messages under the same numbers."""
    kept = archive(database)
    kept.add([report(1, point="hq"), report(2, point="hq")])
    kept.add([report(2, point="copy"), report(3, point="copy", at=NOW + 1), report(3, point="hq")])
    assert [(each.fields["point"], each.fields["job"]) for each in kept.after(0)] == [
        ("hq", "j1"),
        ("hq", "j2"),
        ("copy", "j3"),
        ("hq", "j3"),
    ]


def test_a_message_says_of_which_point_it_is_and_the_site_servers_own_does_not(database: Database) -> None:
    kept = archive(database)
    kept.add([report(1, point="branch-1"), report(1, epoch="own", point="")])
    assert [message.fields.get("point") for message in kept.after(0)] == ["branch-1", None]
    assert "j1" in kept.after(0)[0].text


def test_only_what_is_severe_enough_is_told(database: Database) -> None:
    kept = archive(database)
    kept.add(
        [report(1), report(2, severity="error"), report(3, severity="warning"), report(4, severity="of a newer dpd")]
    )
    assert [message.sequence for message in kept.after(0, severity=Severity.WARNING)] == [2, 3]
    assert [message.sequence for message in kept.last(1, severity=Severity.WARNING)] == [3]
    assert [message.sequence for message in kept.last(2)] == [3, 4]


def test_pages_go_on_behind_one_another(database: Database) -> None:
    kept = archive(database)
    kept.add([report(number) for number in range(1, 8)])
    first = kept.after(0, 4)
    assert [message.sequence for message in [*first, *kept.after(first[-1].sequence, 4)]] == list(range(1, 8))


def test_a_message_is_kept_from_when_it_came_whatever_the_clock_of_its_point_said(database: Database) -> None:
    now = [NOW]
    kept = Archive(database, 2, clock=lambda: now[0])
    kept.add([report(1, at=0.0), report(2, at=NOW + 3650 * DAY_S)])
    assert kept.trim() == 0
    now[0] += 1.5 * DAY_S
    kept.add([report(3, at=0.0)])
    assert kept.trim() == 0
    now[0] += 1.0 * DAY_S
    assert kept.trim() == 2
    assert [message.fields["job"] for message in kept.after(0)] == ["j3"]


def test_a_number_is_given_once_though_everything_was_trimmed(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    kept = archive(database)
    kept.add([report(1), report(2)])
    kept.keep_days = -1
    kept.trim()
    assert (kept.latest, kept.oldest) == (2, 3)
    database.close()
    database = open_database(tmp_path)
    again = archive(database)
    assert (again.latest, again.epoch) == (2, kept.epoch)
    again.add([report(3)])
    assert [message.sequence for message in again.after(0)] == [3]
    database.close()


async def test_who_waits_hears_of_news_and_is_let_go(database: Database) -> None:
    kept = archive(database)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(kept.news(0, 1000))
        await asyncio.sleep(0)
        await asyncio.to_thread(kept.add, [report(1)])
        assert await waiting
        let_go = tasks.create_task(kept.news(1, 1000))
        await asyncio.sleep(0)
        kept.release()
        assert not await let_go
    assert not await kept.news(1, 0)


@given(st.lists(st.lists(st.integers(1, 12), max_size=6), max_size=8))
def test_whatever_comes_in_whatever_order_is_there_once(batches: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Path(folder))
        kept = archive(database)
        for batch in batches:
            kept.add([report(sequence) for sequence in batch])
        told = [message.fields["job"] for message in kept.after(0)]
        assert sorted(told) == sorted({f"j{sequence}" for batch in batches for sequence in batch})
        assert len(told) == kept.stats.kept
        database.close()
