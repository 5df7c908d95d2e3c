# SPDX-License-Identifier: Apache-2.0
"""What every process of dpd does between its start and its end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from dpd.control.lifetime import Drained, check_state_dir, run_until_drained, serve_metrics
from dpd.errors import SettingsError
from dpd.settings import DaemonSettings, Settings
from dpd.telemetry.metrics import LoopLag, MetricsRegistry


class Verbs:
    """What runs, as far as its end goes."""

    def __init__(self, drain_timeout_s: float = 20.0) -> None:
        self.settings = Settings(daemon=DaemonSettings(drain_timeout_s=drain_timeout_s))
        self.state = "starting"
        self.draining, self.ending = asyncio.Event(), asyncio.Event()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield listener


async def test_ready_is_told_with_the_ports_and_the_end_waits_for_the_drain(told: socket.socket) -> None:
    verbs, may_end = Verbs(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            run_until_drained(verbs, {"control": {"tcp": 4711}, "idle": {}}, _wait_for(may_end), LoopLag())
        )
        assert (await asyncio.to_thread(told.recv, 4096)).decode() == "READY=1\nSTATUS=serving control 4711"
        assert verbs.state == "ready"
        verbs.draining.set()
        assert (await asyncio.to_thread(told.recv, 4096)).startswith(b"STOPPING=1\n")
        assert not running.done()
        may_end.set()


@pytest.mark.parametrize("cause", ["second signal", "drain timeout"])
async def test_a_drain_without_end_is_cut_off(cause: str, caplog: pytest.LogCaptureFixture) -> None:
    verbs = Verbs(drain_timeout_s=0.05 if cause == "drain timeout" else 1000)
    verbs.draining.set()
    if cause == "second signal":
        verbs.ending.set()
    async with asyncio.timeout(30):
        await run_until_drained(verbs, {}, _wait_for(asyncio.Event()), LoopLag())
    (warning,) = [record for record in caplog.records if record.message == "ending with work under way"]
    assert warning.__dict__["cause"] == cause


def _wait_for(event: asyncio.Event) -> Drained:
    async def drained() -> None:
        await event.wait()

    return drained


async def test_the_metrics_page_is_served_until_the_stack_unwinds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        await serve_metrics(stack, endpoint, MetricsRegistry())
        async with aiohttp.ClientSession() as session, session.get(f"http://{endpoint}/metrics") as page:
            assert "dpd_build_info" in await page.text()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://{endpoint}/metrics")


def test_a_state_directory_that_is_missing_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"install -d -m 750 .*/none"):
        check_state_dir(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="not writable"):
        check_state_dir(tmp_path)
