# SPDX-License-Identifier: Apache-2.0
"""What points have sent and never came: told once, with how many, and nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bus.conftest import linked
from tests.bus.site_side import until
from tests.nats_server import HUB_DOMAIN, NATS_SERVER, NatsServer
from tests.site_server.at_work import at_work

from dpd.bus import edge
from dpd.bus.messages import StatusReport
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings, SiteSettings
from dpd.control.bus.status import AT_ONCE, READER, StatusShipper
from dpd.database import Database
from dpd.settings import Settings
from dpd.site_server import collecting
from dpd.site_server.archive import Archive
from dpd.site_server.collecting import Collector
from dpd.site_server.database import open_database
from dpd.site_server.gaps import SETTLE_S
from dpd.site_server.layout import ensure_layout
from dpd.telemetry.spool import Spool

NOW = 1_800_000_000.0


class Kept(Archive):
    """An archive with a clock to set."""

    def __init__(self, database: Database) -> None:
        self.now = NOW
        super().__init__(database, 90, clock=lambda: self.now)

    def come(self, *sequences: int, point: str = "b1", epoch: str = "aa", **told: Any) -> None:
        event, message_id = ("messages.dropped", 5101) if told else ("job.done", 2004)
        reports = [StatusReport(point, epoch, each, NOW, event, message_id, "info", told) for each in sequences]
        self.add(reports)

    def settled(self) -> list[tuple[str, int, int, int]]:
        return [(each.point, each.first, each.last, each.count) for each in self.settle()]


@pytest.fixture
def kept(database: Database) -> Kept:
    return Kept(database)


def test_what_lacks_between_two_numbers_is_told_once(kept: Kept) -> None:
    kept.come(7, 8)
    kept.come(12)
    kept.come(13 + AT_ONCE)
    assert kept.settled() == [("b1", 9, 11, 3)]
    kept.come(*range(14 + AT_ONCE, 14 + 3 * AT_ONCE))
    assert kept.settled() == [("b1", 13, 12 + AT_ONCE, AT_ONCE)]
    assert kept.settled() == []
    assert kept.stats.missing == 3 + AT_ONCE


def test_the_first_number_that_is_heard_of_a_point_begins_its_series(kept: Kept) -> None:
    kept.come(100)
    kept.come(500, epoch="bb")
    kept.come(900, point="b2")
    kept.now += 2 * SETTLE_S
    assert kept.settled() == []


def test_what_comes_late_is_not_told(kept: Kept) -> None:
    """Of a batch that failed in its middle the end is here before the beginning."""
    kept.come(1, 5, 6)
    kept.come(2, 3, 4)
    kept.come(*range(7, 8 + 2 * AT_ONCE))
    assert kept.settled() == []


def test_what_lacks_at_a_quiet_point_is_told_after_a_while(kept: Kept) -> None:
    kept.come(1, 4)
    assert kept.settled() == []
    kept.now += SETTLE_S + 1
    assert kept.settled() == [("b1", 2, 3, 2)]


def test_what_the_points_own_spool_dropped_is_told_by_the_point_alone(kept: Kept) -> None:
    kept.come(1)
    kept.come(*range(21, 40))
    kept.come(40, count=14, first=2, last=15)
    kept.come(41, count=4, first=14, last=17)
    kept.now += SETTLE_S + 1
    assert kept.settled() == [("b1", 2, 20, 3)]


def test_the_site_servers_own_messages_are_not_looked_at(kept: Kept) -> None:
    kept.come(1, 9, point="")
    kept.now += SETTLE_S + 1
    assert kept.settled() == []


def test_a_gap_that_no_memory_could_hold_is_counted_too(kept: Kept) -> None:
    """Of a point that lies."""
    huge = 1 << 52
    kept.come(1)
    kept.come(huge)
    kept.come(huge + 1, count=1, first=2, last=huge - 1000)
    kept.now += SETTLE_S + 1
    assert kept.settled() == [("b1", 2, huge - 1, 999)]


def test_a_restart_forgets_no_gap(tmp_path: Path) -> None:
    for round in range(2):
        database = open_database(tmp_path)
        kept = Kept(database)
        if round == 0:
            kept.come(1, 3)
        else:
            kept.now += SETTLE_S + 1
            assert kept.settled() == [("b1", 2, 2, 1)]
        database.close()


@given(st.permutations(range(1, 31)), st.sets(st.integers(2, 29), max_size=8))
def test_whatever_the_order_what_did_not_come_is_what_is_told(order: list[int], lost: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Path(folder))
        kept = Kept(database)
        kept.come(0)
        for sequence in order:
            if sequence not in lost:
                kept.come(sequence)
        kept.come(31)
        kept.now += SETTLE_S + 1
        assert sum(each[3] for each in kept.settled()) == len(lost)
        database.close()


@pytest.mark.skipif(NATS_SERVER is None, reason="missing: Debian's nats-server")
async def test_what_a_full_leaf_node_lets_go_of_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real servers: the hub is away from a branch for longer than its leaf node can hold."""
    monkeypatch.setattr(edge, "MAX_STATUS_BYTES", 40_000)
    monkeypatch.setattr(collecting, "SETTLE_LOOK_S", 0.1)
    subjects, told = Subjects("lab"), list[dict[str, Any]]()
    with (
        NatsServer(tmp_path, domain=HUB_DOMAIN) as hub,
        NatsServer(tmp_path, name="branch", domain="branch", leaf_of=hub.leaf_url) as leaf,
    ):
        spool = Spool(tmp_path / "messages.db", readers=(READER,))
        database = open_database(tmp_path)
        archive = Archive(database, 90)
        shipper = StatusShipper(spool, "lab", "b1", behind_leaf=True)
        settings = Settings(bus=BusSettings(url=hub.url, site="lab"), site=SiteSettings(leaf_domains=("branch",)))
        async with linked(leaf.url, domain="branch") as branch, linked(hub.url) as link:
            await until(lambda: _ensure(branch, subjects), "the leaf's stream", 60)
            async with at_work(shipper.attend(branch)):
                spool.put("job.done", {"job": "first"})
                await until(lambda: spool.confirmed(READER) == 1, "the first one at the leaf", 60)
                first = spool.after(0)[0]
                archive.add([StatusReport("b1", spool.epoch, 1, first.at, first.event, 2004, "info", first.fields)])
                for number in range(2, 1001):
                    spool.put("job.done", {"job": number})
                await until(lambda: spool.confirmed(READER) == 1000, "all of them at the leaf", 60)
            await ensure_layout(link, settings)
            collector = Collector(archive, "lab", tell=lambda event, **fields: told.append({"event": event, **fields}))
            async with at_work(collector.collect(link)), at_work(collector.keep_settling()):
                await until(lambda: archive.after(archive.latest - 1)[:1], "what the leaf had", 90)
                await until(lambda: told, "what it had not", 90)
        held = archive.stats.kept
        assert told == [
            {"event": "point.messages_missing", "point": "b1", "count": 1000 - held, "first": 2, "last": 1001 - held}
        ]
        assert archive.stats.missing == 1000 - held > 100
        await asyncio.to_thread(spool.close)
        database.close()


async def _ensure(link: Any, subjects: Subjects) -> bool:
    await edge.ensure_edge(link, subjects, HUB_DOMAIN)
    return True
