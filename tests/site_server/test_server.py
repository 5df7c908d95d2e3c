# SPDX-License-Identifier: Apache-2.0
"""`dpd site serve` as systemd and the operator meet it: start, reload, drain, metrics; with the bus and without."""

from __future__ import annotations

import asyncio
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError
from tests.nats_server import NATS_SERVER, NatsServer, free_port
from tests.site_process import SITE, SiteServerProcess, loopback_site
from tests.site_server.at_work import at_work

from dpd.bus.connection import BusConnection
from dpd.bus.link import Link
from dpd.bus_settings import BusSettings
from dpd.cli.client import Client
from dpd.site_server.layout import DAY_S


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with NatsServer(tmp_path / "nats") as server:
        yield server


async def wait_for_max_age(nats: NatsServer, seconds: float) -> None:
    """Until the hub keeps status messages for so long."""
    connection = BusConnection(BusSettings(url=nats.url, site=SITE), name="test")
    async with asyncio.timeout(60), at_work(connection.run([])):
        await connection.connected.wait()
        assert connection.link is not None
        while await max_age(connection.link) != seconds:
            await asyncio.sleep(0.05)


async def max_age(link: Link) -> float | None:
    """None where the stream has not been made yet."""
    try:
        return (await link.jetstream.stream_info(f"dpd_{SITE}_status")).config.max_age
    except NotFoundError:
        return None


def test_it_is_ready_says_what_it_is_reloads_and_drains(nats: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    with SiteServerProcess(tmp_path / "site", nats.url, metrics_port=port).ready() as server:
        status = Client(server.control_socket).get("status")
        assert (status["role"], status["site"], status["state"]) == ("site", SITE, "ready")
        server.config.write_text(server.config.read_text() + "[site]\nkeep_events_days = 5\n")
        server.signal(signal.SIGHUP)
        assert server.wait_logged("setting changed")["key"] == "site.keep_events_days"
        server.wait_logged("reloaded")
        asyncio.run(wait_for_max_age(nats, 5 * DAY_S))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
            text = page.read().decode()
        assert "dpd_site_archive_kept" in text
        assert 'dpd_site_points{state="present"} 0.0' in text
        server.signal(signal.SIGTERM)
        server.wait_told("STOPPING=1")
        assert server.wait_ended()[0] == 0


def test_it_serves_while_the_bus_is_away_and_tells_points_afterwards(tmp_path: Path) -> None:
    """The model may be changed meanwhile; what was changed before a kill is told after it."""
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    nats = NatsServer(tmp_path / "nats")
    with SiteServerProcess(tmp_path / "site", nats.url).ready() as server:
        client = Client(server.control_socket)
        client.post("computers", body={"name": "PC-1", "macs": ["52:54:00:00:00:01"]})
        status = client.get("status")
        assert (status["bus"]["connected"], status["policy_is_out"], status["computers"]) == (False, False, 1)
        server.process.kill()
    with nats, SiteServerProcess(tmp_path / "site", nats.url).ready() as server:
        server.wait_logged("policy.published")
        status = Client(server.control_socket).get("status")
        assert (status["policy_is_out"], status["policy_version"], status["computers"]) == (True, 1, 1)


def test_settings_without_a_bus_are_refused(tmp_path: Path) -> None:
    with SiteServerProcess(tmp_path / "site", "") as server:
        code, said = server.wait_ended()
    assert code == 2
    assert 'bus.url = ""' in said


def test_what_points_say_is_known_to_the_site_server(tmp_path: Path) -> None:
    with loopback_site(tmp_path, "hq") as site:
        (point,) = site.client.get("points")["points"]
        assert (point["name"], point["state"], point["declared"], point["daemon_state"]) == (
            "hq",
            "present",
            False,
            "ready",
        )
        site.until(
            "its messages are archived",
            lambda: [
                m
                for m in site.client.get("messages")["messages"]
                if m["fields"].get("point") == "hq" and m["event"] == "daemon.ready"
            ],
        )
