# SPDX-License-Identifier: Apache-2.0
"""Status messages from the hub's stream into the archive: none lost, none twice, over broken links and restarts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.site_server.at_work import at_work

from dpd.bus.link import Link
from dpd.bus.messages import StatusReport, encode
from dpd.bus.subjects import Subjects
from dpd.database import Database
from dpd.settings import Settings
from dpd.site_server.archive import Archive
from dpd.site_server.collecting import Collector, OwnMessages
from dpd.site_server.database import open_database
from dpd.site_server.layout import ensure_layout
from dpd.telemetry.events import EventLog
from dpd.telemetry.spool import Spool

SUBJECTS = Subjects("lab")
NOW = 4_000_000_000.0


def report(sequence: int) -> StatusReport:
    return StatusReport("branch-1", "aa", sequence, NOW, "daemon.ready", 5001, "info", {"version": str(sequence)})


@asynccontextmanager
async def collecting(archive: Archive, link: Link) -> AsyncIterator[Collector]:
    collector = Collector(archive, "lab")
    async with at_work(collector.collect(link)):
        yield collector


async def wait_for(archive: Archive, count: int) -> None:
    while archive.stats.kept < count:
        await archive.news(archive.latest, 1)


def told(archive: Archive) -> list[str]:
    return [str(message.fields["version"]) for message in archive.after(0)]


async def test_each_message_of_the_stream_is_archived_once(link: Link, settings: Settings, database: Database) -> None:
    await ensure_layout(link, settings)
    archive = Archive(database, 3650)
    async with asyncio.timeout(60):
        for sequence in (1, 2):
            await link.store(SUBJECTS.status("branch-1"), encode(report(sequence)))
        async with collecting(archive, link):
            await link.store(SUBJECTS.status("branch-1"), encode(report(2)))  # without a name: JetStream keeps it twice
            await link.store(SUBJECTS.status("branch-1"), encode(report(3)))
            await wait_for(archive, 3)
        async with collecting(archive, link):
            await link.store(SUBJECTS.status("branch-1"), encode(report(4)))
            await wait_for(archive, 4)
    assert told(archive) == ["1", "2", "3", "4"]


async def test_an_archive_that_lost_its_file_is_filled_again(link: Link, settings: Settings, tmp_path: Path) -> None:
    """The stream keeps messages as long as the archive does; a new archive reads it from its beginning."""
    await ensure_layout(link, settings)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        database = open_database(tmp_path / folder)
        archive = Archive(database, 3650)
        async with asyncio.timeout(60):
            if folder == "first":
                await link.store(SUBJECTS.status("branch-1"), encode(report(1)))
            async with collecting(archive, link):
                await wait_for(archive, 1)
        assert told(archive) == ["1"]
        database.close()


async def test_what_is_no_status_message_is_counted_and_let_go(
    link: Link, settings: Settings, database: Database
) -> None:
    await ensure_layout(link, settings)
    archive = Archive(database, 3650)
    async with asyncio.timeout(60), collecting(archive, link) as collector:
        await link.store(SUBJECTS.status("branch-1"), b"{nonsense")
        await link.store(SUBJECTS.status("branch-1"), encode(report(1)))
        await wait_for(archive, 1)
        assert collector.stats.malformed == 1


async def test_the_site_servers_own_messages_are_archived_once(database: Database, tmp_path: Path) -> None:
    archive = Archive(database, 3650)
    for count in (1, 2):
        spool = Spool(tmp_path / "messages.db", readers=("archive",))
        own = OwnMessages(spool, archive)
        async with asyncio.timeout(60), at_work(own.keep_collecting()):
            EventLog(spool=spool).note("policy.published", version=count, bytes=1)
            await wait_for(archive, count)
        await asyncio.to_thread(spool.close)
    assert [message.fields for message in archive.after(0)] == [
        {"version": 1, "bytes": 1},
        {"version": 2, "bytes": 1},
    ]


@pytest.mark.parametrize(
    ("wrong", "subject"),
    [
        ({"sequence": 1 << 63}, "branch-1"),
        ({"message_id": 1 << 63}, "branch-1"),
        ({"point": "branch-2"}, "branch-1"),
        ({"at": 1e300}, "branch-1"),
    ],
)
async def test_a_point_that_lies_neither_holds_others_up_nor_speaks_for_them(
    link: Link, settings: Settings, database: Database, wrong: dict[str, Any], subject: str
) -> None:
    await ensure_layout(link, settings)
    archive = Archive(database, 3650)
    await link.store(SUBJECTS.status(subject), encode(msgspec.structs.replace(report(1), **wrong)))
    async with asyncio.timeout(30), collecting(archive, link) as collector:
        await link.store(SUBJECTS.status("branch-1"), encode(report(2)))
        await wait_for(archive, 1)
        assert collector.stats.malformed == 1
    assert told(archive) == ["2"]


async def test_an_archive_from_a_backup_gets_what_came_since(link: Link, settings: Settings, tmp_path: Path) -> None:
    """JetStream has heard that all of it was archived, and would not send it by itself."""
    await ensure_layout(link, settings)
    (tmp_path / "backup").mkdir()
    for round, folder in enumerate(("", "", "backup")):
        database = open_database(tmp_path / folder)
        archive = Archive(database, 3650)
        async with asyncio.timeout(60):
            if not folder:
                await link.store(SUBJECTS.status("branch-1"), encode(report(round + 1)))
            async with collecting(archive, link):
                await wait_for(archive, min(round + 1, 2))
                await _all_confirmed(link, archive)
        assert told(archive) == ["1", "2"][: round + 1]
        database.close()
        if round == 0:
            for file in tmp_path.glob("site-server.db*"):
                shutil.copy(file, tmp_path / "backup")


async def _all_confirmed(link: Link, archive: Archive) -> None:
    stream, consumer = SUBJECTS.status_stream, f"archive-{archive.epoch}"
    while (await link.jetstream.consumer_info(stream, consumer)).num_ack_pending:
        await asyncio.sleep(0.05)
