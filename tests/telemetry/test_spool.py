# SPDX-License-Identifier: Apache-2.0
"""The spool: what is told is on disk, whatever is killed, full or damaged; and nobody who notes something waits."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dpd.telemetry import spool as spool_module
from dpd.telemetry.events import EventLog
from dpd.telemetry.spool import Spool
from dpd.telemetry.spool_file import SpoolError, SpoolLimits
from dpd.telemetry.status_messages import StatusMessage

WRITER = Path(__file__).parent / "spool_writer.py"
PATIENCE_S = 30.0
RETRY_S = 0.05


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "messages.db"


@contextmanager
def opened(path: Path | None, **options: object) -> Iterator[Spool]:
    with closing(Spool(path, retry_s=RETRY_S, **options)) as spool:  # type: ignore[arg-type]
        yield spool


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers(messages: list[StatusMessage]) -> list[object]:
    return [each.fields["number"] for each in messages if "number" in each.fields]


def everything(spool: Spool) -> list[StatusMessage]:
    found: list[StatusMessage] = []
    while page := spool.after(found[-1].sequence if found else 0):
        found += page
    return found


# ---- one process


def test_what_was_flushed_is_there_for_who_opens_the_file_next(path: Path) -> None:
    with opened(path) as spool:
        for number in range(20):
            assert spool.put("job.done", {"number": number})
        assert spool.flush(PATIENCE_S)
        epoch = spool.epoch
    with opened(path) as spool:
        assert numbers(spool.after(0)) == list(range(20))
        assert (spool.epoch, spool.oldest, spool.latest) == (epoch, 1, 20)
        assert (spool.stats.kept, spool.stats.writable) == (20, 1)


def test_closing_writes_what_was_put_and_takes_nothing_more(path: Path) -> None:
    spool = Spool(path)
    for number in range(1000):
        spool.put("job.done", {"number": number})
    spool.close()
    spool.close()
    assert not spool.put("job.done", {"number": -1})
    with opened(path) as spool:
        assert numbers(spool.after(0)) == list(range(1000))


def test_messages_of_many_threads_are_each_there_once_and_in_the_order_of_each(path: Path) -> None:
    with opened(path) as spool:
        events = EventLog(spool=spool)

        def note(thread: int) -> None:
            for number in range(200):
                events.keep("job.done", thread=thread, number=number)

        threads = [threading.Thread(target=note, args=(thread,)) for thread in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert spool.flush(PATIENCE_S)
        found = everything(spool)
        assert [each.sequence for each in found] == list(range(1, 1601))
        for thread in range(8):
            assert numbers([each for each in found if each.fields["thread"] == thread]) == list(range(200))
        assert [each.fields for each in found] == [each.fields for each in events.after(0, 2000)], "one order for both"


def test_a_clock_that_is_set_back_changes_no_order(path: Path) -> None:
    at = [1_000_000.0]
    with opened(path, clock=lambda: at[0]) as spool:
        spool.put("job.done", {"number": 1})
        assert spool.flush(PATIENCE_S)
        at[0] -= 86_400
        spool.put("job.done", {"number": 2})
        assert spool.flush(PATIENCE_S)
    at[0] = 5.0
    with opened(path, clock=lambda: at[0]) as spool:
        spool.put("job.done", {"number": 3})
        assert spool.flush(PATIENCE_S)
        assert [(each.sequence, each.at) for each in spool.after(0)] == [(1, 1_000_000.0), (2, 913_600.0), (3, 5.0)]
        assert [each.sequence for each in spool.after(2)] == [3]


def test_two_readers_each_have_everything_at_their_own_pace(path: Path) -> None:
    with opened(path, readers=("site", "archive")) as spool:
        had: dict[str, list[object]] = {"site": [], "archive": []}
        for number in range(60):
            spool.put("job.done", {"number": number})
        assert spool.flush(PATIENCE_S)

        def read(reader: str, step: int) -> None:
            while page := spool.after(spool.confirmed(reader), step):
                had[reader] += numbers(page)
                spool.confirm(reader, page[-1].sequence)

        threads = [threading.Thread(target=read, args=each) for each in (("site", 7), ("archive", 3))]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert had == {"site": list(range(60)), "archive": list(range(60))}
        assert spool.stats.unconfirmed == {"site": 0, "archive": 0}


def test_what_is_confirmed_of_another_series_is_not_confirmed_of_this_one(path: Path) -> None:
    with opened(path, readers=("site",)) as spool:
        spool.put("job.done", {})
        assert spool.flush(PATIENCE_S)
        spool.confirm("site", 1, "0123456789abcdef")
        assert spool.confirmed("site") == 0
        spool.confirm("site", 1, spool.epoch)
        assert spool.confirmed("site") == 1


def test_a_damaged_file_that_cannot_be_moved_away_does_not_end_the_writer(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)
    path.with_name("messages.db.damaged").mkdir()
    with opened(path) as spool:
        wait_for(lambda: spool.stats.write_failures > 0)
        path.with_name("messages.db.damaged").rmdir()
        spool.put("job.done", {"number": 1})
        assert spool.flush(PATIENCE_S)
        assert numbers(spool.after(0)) == [1]


def test_without_a_path_it_is_all_in_memory() -> None:
    with opened(None) as spool:
        spool.put("job.done", {"number": 1})
        assert spool.flush(PATIENCE_S)
        assert numbers(spool.after(0)) == [1]


async def test_a_follower_wakes_when_a_message_can_be_read(path: Path) -> None:
    with opened(path) as spool:
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(spool.news(0, PATIENCE_S)) for _ in range(2)]
            await asyncio.sleep(0)
            spool.put("job.done", {})
        assert [each.result() for each in waiting] == [True, True]
        assert await asyncio.to_thread(spool.after, 0)
        assert await spool.news(0, 0)
        assert not await spool.news(1, 0.01)


async def test_followers_are_released_without_a_message(path: Path) -> None:
    with opened(path) as spool:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(spool.news(0, PATIENCE_S))
            await asyncio.sleep(0)
            spool.release()
        assert not waiting.result()


# ---- kill -9


@pytest.mark.parametrize("seed", range(3))
def test_what_was_confirmed_to_the_writer_outlives_kill_9_and_nothing_is_there_twice(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    told: dict[int, StatusMessage] = {}  # as a reader saw them while the writer lived
    first = 0
    epoch = ""
    for _ in range(4):
        process = subprocess.Popen([sys.executable, WRITER, path, str(first)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            confirmed = int(process.stdout.readline())
            _read_beside(path, told)
            deadline = time.monotonic() + chance.uniform(0, 0.3)
            while time.monotonic() < deadline:
                confirmed = int(process.stdout.readline())
        finally:
            process.kill()
            process.wait()
        confirmed = max([confirmed, *map(int, process.stdout.read().split())])
        process.stdout.close()
        with opened(path) as spool:
            assert epoch in ("", spool.epoch), "a kill begins no other series"
            epoch = spool.epoch
            found = everything(spool)
        kept = numbers(found)
        assert kept == list(range(len(kept))), "none twice, none left out, none out of order"
        assert len(kept) > confirmed, "none lost that was confirmed"
        by_sequence = {each.sequence: each for each in found}
        assert {sequence: by_sequence[sequence] for sequence in told} == told, (
            "what a reader saw means the same for ever"
        )
        first = len(kept)


def _read_beside(path: Path, told: dict[int, StatusMessage]) -> None:
    """As a reader of the same file while its writer runs."""
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as look:
        (latest,) = look.execute("SELECT max(sequence) FROM messages").fetchone()
    with opened(path) as spool:
        told.update({each.sequence: each for each in spool.after(max(told, default=0)) if each.sequence <= latest})


# ---- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return ballast


def test_messages_wait_for_a_full_disk_and_come_in_order_when_it_has_room(small_disk: Path) -> None:
    with opened(small_disk / "messages.db", readers=("site",)) as spool:
        spool.put("job.done", {"number": 0})
        assert spool.flush(PATIENCE_S)
        ballast = fill(small_disk)
        for number in range(1, 400):
            assert spool.put("job.done", {"number": number, "text": "x" * 900})
        wait_for(lambda: spool.stats.write_failures > 1)
        assert spool.stats.writable == 0
        assert numbers(spool.after(0))[0] == 0, "what is there can be read all the while"
        ballast.unlink()
        assert spool.flush(PATIENCE_S)
        assert numbers(everything(spool)) == list(range(400))
        assert (spool.stats.writable, spool.stats.lost) == (1, 0)


def test_what_does_not_fit_into_memory_meanwhile_is_counted_and_told_in_its_place(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_QUEUED", 300)
    with opened(small_disk / "messages.db") as spool:
        ballast = fill(small_disk)
        for number in range(-200, 0):
            spool.put("job.done", {"number": number, "text": "x" * 900})
        wait_for(lambda: spool.stats.write_failures > 0)
        taken = [
            number for number in range(1000) if spool.put("job.done", {"number": number, "text": "x" * 900}, at=number)
        ]
        lost = 1000 - len(taken)
        assert lost > 0
        assert spool.stats.lost == lost
        ballast.unlink()
        wait_for(lambda: spool.stats.queued == 0 and spool.flush(1))
        spool.put("job.done", {"number": 1000})
        assert spool.flush(PATIENCE_S)
        found = everything(spool)
        told = [each for each in found if each.event == "messages.lost"]
        assert sum(int(each.fields["count"]) for each in told) == lost
        assert "disk is full" in str(told[0].fields["error"])
        assert numbers(found) == [*range(-200, 0), *taken, 1000]
        assert found.index(told[-1]) == len(found) - 2, "behind what was before, before what came after"


def test_a_disk_that_is_full_from_the_start_keeps_nobody_from_starting(small_disk: Path) -> None:
    ballast = fill(small_disk)
    with opened(small_disk / "messages.db") as spool:
        assert spool.epoch == ""
        assert spool.put("job.done", {"number": 1})
        with pytest.raises(SpoolError, match="full"):
            spool.after(0)
        ballast.unlink()
        assert spool.flush(PATIENCE_S)
        assert numbers(spool.after(0)) == [1]
        assert spool.epoch != ""


def test_a_disk_that_stays_full_does_not_hold_up_the_end(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(small_disk / "messages.db", retry_s=3600)
    fill(small_disk)
    for _ in range(400):
        spool.put("job.done", {"text": "x" * 900})
    wait_for(lambda: spool.stats.write_failures > 0)
    spool.close()
    assert "status messages not written" in caplog.text


# ---- a file that is damaged


def test_a_damaged_file_is_set_aside_and_a_new_series_begins(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)
    with opened(path, readers=("site",)) as spool:
        spool.put("job.done", {"number": 1})
        assert spool.flush(PATIENCE_S)
        assert [each.event for each in spool.after(0)] == ["messages.damaged", "job.done"]
        assert spool.stats.files_set_aside == 1
        assert spool.confirmed("site") == 0
    assert path.with_name("messages.db.damaged").read_bytes() == b"rubbish" * 1000


def test_damage_that_a_reader_meets_begins_a_new_series_which_tells_of_it(path: Path) -> None:
    with opened(path, readers=("site",)) as spool:
        for number in range(6000):  # more than SQLite keeps in memory
            spool.put("job.done", {"number": number, "text": "x" * 900})
        assert spool.flush(PATIENCE_S)
        spool.confirm("site", 5000)
        before = spool.epoch
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(64 << 10)
            file.write(b"\x55" * (path.stat().st_size - (64 << 10)))
        with pytest.raises(SpoolError):
            everything(spool)
        wait_for(lambda: spool.epoch != before and spool.latest > 0)
        spool.put("job.done", {"number": 1})
        assert spool.flush(PATIENCE_S)
        told, newest = spool.after(0)
        assert (told.event, told.fields["series"], newest.fields) == ("messages.damaged", before, {"number": 1})
        assert spool.confirmed("site") == 0
        assert spool.stats.unconfirmed == {"site": 2}


async def test_who_waits_in_a_series_that_is_no_more_wakes_up(path: Path) -> None:
    with opened(path) as spool:
        spool.put("job.done", {})
        assert await asyncio.to_thread(spool.flush, PATIENCE_S)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(spool.news(1000, PATIENCE_S))
            await asyncio.sleep(0)
            spool._fail(SpoolError("the disk went away"))
            spool.put("job.done", {})
        assert not waiting.result()


def test_a_file_of_a_newer_dpd_is_left_alone_and_dpd_starts(path: Path) -> None:
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with opened(path) as spool:
        assert spool.put("job.done", {})
        assert not spool.flush(0.2)
        with pytest.raises(SpoolError, match="newer dpd"):
            spool.after(0)
    assert not path.with_name("messages.db.damaged").exists()


def test_the_bound_holds_while_it_runs_and_the_loss_is_counted(path: Path) -> None:
    with opened(path, readers=("site",), limits=SpoolLimits(100, 1 << 20)) as spool:
        for number in range(1000):
            spool.put("job.done", {"number": number})
        assert spool.flush(PATIENCE_S)
        found = everything(spool)
        assert len(found) <= 100
        assert [each.sequence for each in found] == list(range(spool.oldest, spool.latest + 1))
        dropped = [each for each in found if each.event == "messages.dropped"]
        assert dropped
        assert spool.stats.dropped == spool.oldest - 1
        assert spool.stats.unconfirmed == {"site": len(found)}
