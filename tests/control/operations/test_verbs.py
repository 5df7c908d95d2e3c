# SPDX-License-Identifier: Apache-2.0
"""The verbs where no door is in between: jobs and draining, reload, the names of machines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.control.operations.content import Publishing
from dpd.control.operations.uploads import Upload
from dpd.control.operations.verbs import MAX_JOBS, Operations, normal_mac
from dpd.errors import ContentNotFound, DpdError, SessionError, SessionNotFound, Unavailable


class Gate:
    """Holds a worker at its first progress report, so that a job runs for as long as a test wants."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, done: int, total: int) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self.opened.wait(10)


async def test_a_drain_waits_for_the_job_that_runs_and_refuses_the_next(operations: Operations, image: Path) -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as tasks:
        job = tasks.create_task(operations.content.publish(image, Publishing("LAB1"), gate))
        await gate.reached.wait()
        operations.drain()
        done = tasks.create_task(operations.jobs_done())
        with pytest.raises(Unavailable, match="dpd is shutting down and takes no new work"):
            await operations.content.publish(image, Publishing("LAB2"), gate)
        with pytest.raises(Unavailable, match="dpd is shutting down and takes no new work"):
            await operations.start_session("LAB1")
        assert not done.done()
        assert operations.status().jobs == 1
        gate.opened.set()
    assert operations.content.content("LAB1") == job.result()
    assert operations.status().jobs == 0


async def test_no_more_than_so_many_jobs_run_at_once(operations: Operations, image: Path) -> None:
    gates = [Gate() for _ in range(MAX_JOBS)]
    async with asyncio.TaskGroup() as tasks:
        for number, gate in enumerate(gates):
            tasks.create_task(operations.content.publish(image, Publishing(f"LAB{number}"), gate))
        for gate in gates:
            await gate.reached.wait()
        with pytest.raises(Unavailable) as caught:
            await operations.content.publish(image, Publishing("LAB9"), gates[0])
        for gate in gates:
            gate.opened.set()
    assert str(caught.value) == "8 jobs run already, as many as may; ask again when one has ended"
    assert (await operations.content.totals()).contents == MAX_JOBS


async def test_an_upload_that_has_begun_is_published_although_the_drain_has_begun_too(operations: Operations) -> None:
    async def slow_client() -> AsyncIterator[bytes]:
        operations.drain()
        yield b"late"

    upload = Upload("late.img", 4, slow_client())
    content = await operations.content.publish_upload(upload, Publishing("LAB1"), lambda done, total: None)
    assert (content.name, content.size_bytes) == ("late.img", 4)


def test_draining_twice_means_now(operations: Operations) -> None:
    operations.drain()
    assert (operations.state, operations.draining.is_set(), operations.ending.is_set()) == ("draining", True, False)
    operations.drain()
    assert operations.ending.is_set()


async def test_without_multicast_sessions_are_refused_in_words(operations: Operations, image: Path) -> None:
    operations._multicast = None
    await operations.content.publish(image, Publishing("LAB1"), lambda done, total: None)
    assert operations.sessions() == []
    with pytest.raises(SessionNotFound):
        operations.session("0123")
    with pytest.raises(SessionError) as caught:
        await operations.start_session("LAB1")
    assert str(caught.value) == "multicast is off; set multicast.enabled = true and restart dpd"
    await operations.content.remove("LAB1")
    with pytest.raises(ContentNotFound):
        operations.content.content("LAB1")


async def test_a_reload_takes_over_live_settings_and_tells_which_wait_for_a_restart(
    operations: Operations, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "dpd.toml").write_text("[http]\nport = 80\n[multicast]\nrate_mbit_s = 200\ninterface = 'lo'\nttl = 0\n")
    operations.settings = replace(operations.settings, path="before")
    with caplog.at_level(logging.INFO, "dpd"):
        assert operations.reload() is True
    changes = {vars(r)["key"]: vars(r)["takes_effect"] for r in caplog.records if r.message == "setting changed"}
    assert changes["http.port"] == "at restart"
    assert changes["multicast.rate_mbit_s"] == "now"
    assert "multicast.ttl" not in changes
    assert operations.settings.multicast.rate_mbit_s == 200.0


async def test_a_reload_finds_new_boot_files(operations: Operations, tmp_path: Path) -> None:
    (tmp_path / "dpd.toml").touch()
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "ipxe.efi").touch()
    assert operations.status().boot_files == 0
    assert operations.reload() is True
    assert operations.status().boot_files == 1


async def test_a_broken_file_keeps_the_old_settings_and_logs_its_one_line(
    operations: Operations, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = operations.settings
    (tmp_path / "dpd.toml").write_text("[http]\nport = 'x'\n")
    assert operations.reload() is False
    assert operations.settings is before
    (record,) = caplog.records
    assert record.message == "settings kept as they were"
    assert vars(record)["error"] == (
        f'{tmp_path}/dpd.toml: http.port = "x": expected a whole number from 0 to 65535 (TCP port)'
    )


@pytest.mark.parametrize(
    "spelling", ["52:54:00:AB:cd:56", "52-54-00-ab-cd-56", "525400abcd56", "5254.00ab.cd56", "52:54:00:ab:cd:56"]
)
def test_macs_come_in_many_spellings(spelling: str) -> None:
    assert normal_mac(spelling) == "52:54:00:ab:cd:56"


@pytest.mark.parametrize("wrong", ["", "52:54:00:ab:cd", "52:54:00:ab:cd:5", "52:54:00:ab:cd:5g", "5254000ab:cd:56:11"])
def test_a_wrong_mac_is_told(wrong: str) -> None:
    with pytest.raises(DpdError) as caught:
        normal_mac(wrong)
    assert str(caught.value) == f"mac {wrong!r}: expected six bytes such as 52:54:00:12:34:56"
