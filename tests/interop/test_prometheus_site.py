# SPDX-License-Identifier: Apache-2.0
"""Each rule about the bus and the site fires in a real Prometheus for what it is about, and not before: a hub that is killed, a
damaged policy, a point that falls silent, content that nobody has, for hours of a virtual clock.

Rules wait before they fire (`for`), by Prometheus's own clock; that part is judged in test_promtool, and left out here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bus.site_side import SiteSide
from tests.interop.prometheus import Prometheus
from tests.interop.test_promtool import ALERTS
from tests.nats_server import NatsServer, free_port, needs_nats
from tests.site_process import SITE, LoopbackSite, PointProcess, SiteServerProcess
from tests.virtual_clock import HOUR_S, VirtualClock

from dpd.bus.documents import pack_policy
from dpd.bus.messages import encode
from dpd.bus.subjects import POLICY_HEAD, chunk_key
from dpd.cli.client import Client
from dpd.site.model import SiteModel, encode_model

WATCHED, SILENT = "p1", "p2"
BACKLOG = 1000  # from here on the rule speaks

pytestmark = needs_nats


@dataclass
class Scene:
    """A site whose site server and point `p1` are scraped, each on a clock of its own."""

    site: LoopbackSite
    prometheus: Prometheus
    site_clock: VirtualClock
    point_clock: VirtualClock

    def fires(self, alert: str) -> None:
        self.prometheus.wait_for(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')

    def is_silent(self, *alerts: str) -> None:
        firing = {each["metric"]["alertname"] for each in self.prometheus.query("ALERTS")}
        assert firing.isdisjoint(alerts), firing


def impatient(rules: Path, folder: Path) -> Path:
    """The rules, without their `for`."""
    path = folder / "rules.yml"
    path.write_text(re.sub(r"\n        for: .*", "", rules.read_text(encoding="utf-8")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if shutil.which("prometheus") is None:
        pytest.skip("missing: prometheus")
    home = tmp_path_factory.mktemp("site")
    ports = free_port(), free_port()
    clocks = VirtualClock(home / "site-clock"), VirtualClock(home / "point-clock")
    with ExitStack() as stack:
        hub = stack.enter_context(NatsServer(home / "nats"))
        server = SiteServerProcess(home / "site", hub.url, metrics_port=ports[0])
        point = PointProcess(home / WATCHED, hub.url, WATCHED)
        text = point.config.read_text()
        point.config.write_text(text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{ports[1]}"'))
        for daemon, clock in ((server, clocks[0]), (point, clocks[1])):
            text = daemon.config.read_text()  # its log must stay within what a pipe holds that nobody reads
            daemon.config.write_text(text.replace("[daemon]", '[daemon]\nlog_level = "error"'))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PYTHONPATH", clock.python_path)
                stack.enter_context(daemon.ready())
        site = LoopbackSite(hub, server, {WATCHED: point})
        for name in (WATCHED, SILENT):
            site.client.post("points", body={"name": name})
        with PointProcess(home / SILENT, hub.url, SILENT).ready():
            site.wait_present(WATCHED, SILENT)
        site.wait_followed(WATCHED)
        rules = impatient(ALERTS, home)
        prometheus = stack.enter_context(Prometheus(tmp_path_factory.mktemp("prometheus"), rules, *ports))
        prometheus.wait_for('count(up{job="dpd"} == 1) == 2')
        prometheus.wait_for(f'dpd_site_last_seen_age_seconds{{point="{SILENT}"}}')
        yield Scene(site, prometheus, *clocks)


def test_nothing_is_said_while_all_is_well(scene: Scene) -> None:
    scene.is_silent(
        "DpdBusAway",
        "DpdBusPolicyStale",
        "DpdBusPolicyRefused",
        "DpdBusStatusBacklog",
        "DpdBusDesiredMissing",
        "DpdSitePointAway",
    )


def test_a_point_that_fell_silent_is_told_and_one_that_is_there_is_not(scene: Scene) -> None:
    scene.site_clock.advance(HOUR_S)
    scene.fires("DpdSitePointAway")
    scene.prometheus.wait_for(f'dpd_site_last_seen_age_seconds{{point="{WATCHED}"}} < 60')
    scene.prometheus.wait_for('count(ALERTS{alertname="DpdSitePointAway", alertstate="firing"}) == 1')
    (alert,) = scene.prometheus.query('ALERTS{alertname="DpdSitePointAway", alertstate="firing"}')
    assert alert["metric"]["point"] == SILENT


def test_content_that_a_point_cannot_fetch_is_told(scene: Scene) -> None:
    body = {"target": f"dp:{WATCHED}", "package_id": "NOBODY01"}
    scene.site.client.post("assignments", body=body)
    scene.fires("DpdBusDesiredMissing")


async def test_a_damaged_policy_is_told(scene: Scene) -> None:
    version = scene.site.client.get("status")["policy_version"]
    async with SiteSide(scene.site.nats.url) as site:
        head, chunks = pack_policy(SITE, version + 1, encode_model(SiteModel()), at=1.0, slot=0)
        await site.put(site.subjects.policy_bucket, chunk_key(0, 0), chunks[0][:-1])
        await site.put(site.subjects.policy_bucket, POLICY_HEAD, encode(head))
    scene.fires("DpdBusPolicyRefused")


def test_a_hub_that_is_killed_is_told_as_soon_as_it_should_be_missed(scene: Scene) -> None:
    scene.site.nats.kill()
    scene.prometheus.wait_for('count(ALERTS{alertname="DpdBusAway", alertstate="firing"}) == 2')
    scene.is_silent("DpdBusPolicyStale", "DpdBusStatusBacklog")
    scene.point_clock.advance(HOUR_S)
    scene.fires("DpdBusPolicyStale")
    point = scene.site.directly(WATCHED)
    for number in range(BACKLOG):
        point.patch("maintenance", body={"reason": f"while away {number}"})
    scene.fires("DpdBusStatusBacklog")


def test_all_is_quiet_again_when_the_hub_is_back(scene: Scene) -> None:
    """But for what is told of the last hour."""
    scene.site.nats.start()
    for alert in ("DpdBusAway", "DpdBusPolicyStale", "DpdBusStatusBacklog"):
        scene.prometheus.wait_for(f'absent(ALERTS{{alertname="{alert}"}})')
    assert _backlog(scene.site.directly(WATCHED)) <= BACKLOG


def _backlog(client: Client) -> int:
    return int(client.get("bus")["status_backlog"])
