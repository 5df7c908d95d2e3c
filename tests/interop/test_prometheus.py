# SPDX-License-Identifier: Apache-2.0
"""Rules and dashboard in a real Prometheus that scrapes a real daemon and the site server that steers it, while machines boot,
images go out by multicast, content is pulled, loses bytes and is mended, and the site speaks: whatever they ask has data, or is
empty for a reason that is written here."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.daemon_process import DaemonProcess
from tests.interop.prometheus import Prometheus
from tests.interop.test_promtool import ALERTS, METRIC, expressions, panels
from tests.nats_server import NATS_SERVER, NatsServer
from tests.site_process import BUS_SETTINGS, SiteServerProcess

from dpd.cli.client import Client

SIZE_BYTES = 6 << 20
POINT = "p1"

# Counters by a label begin with the first thing that they count; nothing of these kinds happens here.
NOTHING_TO_COUNT = {
    "dpd_pxe_watch_conflicts_total": "no other DHCP server is there",
    "dpd_http_broken_total": "every download is read to its end",
    "dpd_querier_elections_total": "the querier needs CAP_NET_RAW and is off",
    "dpd_querier_is_querier": "the querier is off",
    "dpd_pxe_malformed_total": "nobody sends broken DHCP",
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dpd with two packages."""
    folder = tmp_path_factory.mktemp("origin")
    with DaemonProcess(folder / "state").ready() as daemon:
        client = Client(daemon.control_socket)
        for number, package in enumerate(("LAB00001", "LAB00002")):
            path = folder / f"{package}.img"
            path.write_bytes(random.Random(number).randbytes(SIZE_BYTES))
            list(client.follow("content", body={"path": str(path), "package_id": package}))
        yield f"http://127.0.0.1:{port_of(client, 'http', 'http')}"


def port_of(client: Client, service: str, name: str) -> int:
    services = {each["name"]: each["ports"] for each in client.get("status")["services"]}
    return int(services[service][name])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    if NATS_SERVER is None:
        pytest.skip("missing: Debian's nats-server")
    with NatsServer(tmp_path_factory.mktemp("nats")) as hub:
        yield hub


@pytest.fixture(scope="module")
def site_server(hub: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteServerProcess]:
    """It declares the point, wants a package there, and has one computer."""
    state = tmp_path_factory.mktemp("site") / "state"
    with SiteServerProcess(state, hub.url, metrics_port=free_port()).ready() as server:
        client = Client(server.control_socket)
        client.post("points", body={"name": POINT})
        client.post("computers", body={"name": "PC-1", "macs": ["52:54:00:00:00:01"]})
        client.post("assignments", body={"target": f"dp:{POINT}", "package_id": "LAB00001"})
        yield server


@pytest.fixture(scope="module")
def point(
    origin: str, hub: NatsServer, site_server: SiteServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """The daemon that is looked at, with one source, as a point of the site."""
    state = tmp_path_factory.mktemp("point") / "state"
    daemon = DaemonProcess(state, metrics_port=free_port(), pxe_port=free_port())
    with daemon.config.open("a", encoding="utf-8") as config:
        config.write("[distribution]\nretry_interval_s = 1\n")
        config.write(f'[[distribution.source]]\nname = "origin"\nurl = "{origin}"\n')
        config.write(BUS_SETTINGS.format(url=hub.url, point=POINT))
    (state / "boot").mkdir()
    (state / "boot" / "loader.efi").write_bytes(b"\0" * 100_000)
    with daemon.ready():
        yield daemon


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(
    point: DaemonProcess, site_server: SiteServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    import shutil

    if shutil.which("prometheus") is None:
        pytest.skip("missing: prometheus")
    ports = [metrics_port_of(each) for each in (point, site_server)]
    with Prometheus(tmp_path_factory.mktemp("prometheus"), ALERTS, *ports) as prometheus:
        prometheus.wait_for('count(up{job="dpd"} == 1) == 2')
        everything_happens(point)
        the_site_speaks(site_server)
        prometheus.wait_for("dpd_site_behind == 0 and dpd_site_policy_version > 0")
        prometheus.wait_for("dpd_bus_desired_packages == 1 and dpd_bus_desired_missing == 0")
        prometheus.wait_for("dpd_validation_repaired_total > 0")
        prometheus.wait_for("dpd_multicast_completions_total > 0")
        time.sleep(4)  # a rate needs two samples behind the last event
        yield prometheus


def metrics_port_of(daemon: DaemonProcess) -> int:
    return int(re.findall(r'listen = "127.0.0.1:(\d+)"', daemon.config.read_text())[-1])


def the_site_speaks(site_server: SiteServerProcess) -> None:
    """It changes policy, and asks the point something."""
    client = Client(site_server.control_socket)
    client.post("computers", body={"name": "PC-2", "macs": ["52:54:00:00:00:02"]})
    assert client.get("points", POINT, "status")["state"] == "ready"


def everything_happens(point: DaemonProcess) -> None:
    """What an operator and machines do."""
    client = Client(point.control_socket)
    for package in ("LAB00001", "LAB00002"):
        run_job(client, "distribute", package)
    lose_bytes(point, client, "LAB00002")
    run_job(client, "validate", None)
    client.post("jobs", body={"kind": "distribute", "package_id": "GONE"})
    http = f"http://127.0.0.1:{port_of(client, 'http', 'http')}"
    with urllib.request.urlopen(f"{http}/boot/loader.efi", timeout=30) as reply:
        assert len(reply.read()) == 100_000
    tftp = f"tftp://127.0.0.1:{port_of(client, 'tftp', 'tftp')}/loader.efi"
    subprocess.run(["curl", "-sSf", "-m", "30", "-o", os.devnull, tftp], check=True)
    boot_a_machine(point)
    receive(http, point.state.parent / "received.img")
    ask_the_network(http)


def run_job(client: Client, kind: str, package: str | None) -> None:
    body = {"kind": kind} if package is None else {"kind": kind, "package_id": package}
    id, deadline = client.post("jobs", body=body)["id"], time.monotonic() + 60
    while (job := client.get("jobs", str(id)))["state"] != "done":
        assert job["state"] != "failed", job["error"]
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def lose_bytes(point: DaemonProcess, client: Client, package: str) -> None:
    sha256 = client.get("content", package)["sha256"]
    with (point.state / "library" / "blobs" / sha256[:2] / sha256).open("r+b") as blob:
        blob.seek(1_000_000)
        blob.write(b"damage")


def boot_a_machine(point: DaemonProcess) -> None:
    """dpd-probe plays one; whatever it is told, it has asked."""
    command = [sys.executable, "-m", "dpd", "pxe", "test", "--server", "127.0.0.1", "--timeout", "2", "--json"]
    environment = os.environ | {"DPD_SOCKET": point.control_socket}
    subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)


def receive(http: str, path: Path) -> None:
    command = [sys.executable, "-m", "dpd", "receive", http, "LAB00001", "--output", str(path), "--interface", "lo"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def ask_the_network(http: str) -> None:
    command = [sys.executable, "-m", "dpd", "mc-test", http, "--interface", "lo", "--minutes", "0.1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode in (0, 1), run.stdout + run.stderr  # fit, or not


def as_grafana_asks(query: str) -> str:
    """With the dashboard's variables filled in."""
    return query.replace("$__rate_interval", "5m").replace("$instance", ".*")


def missing_metrics(prometheus: Prometheus, expression: str) -> set[str]:
    """Metrics of an expression that have no series at all."""
    return {name for name in METRIC.findall(expression) if not prometheus.query(f"count({name})")}


def test_each_query_of_the_dashboard_has_data(prometheus: Prometheus) -> None:
    empty: dict[str, Any] = {}
    for panel in panels():
        for target in panel["targets"]:
            if not prometheus.query(as_grafana_asks(target["expr"])):
                missing = missing_metrics(prometheus, target["expr"])
                if not missing or missing - NOTHING_TO_COUNT.keys():
                    empty[f"{panel['title']}: {target['expr']}"] = missing
    assert empty == {}


def test_each_rule_is_evaluated_over_metrics_that_are_there(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert len(rules) == len(expressions())
    assert {name: rule["lastError"] for name, rule in rules.items() if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    missing = {
        name: missing_metrics(prometheus, rule["query"]) - NOTHING_TO_COUNT.keys() for name, rule in rules.items()
    }
    assert {name: metrics for name, metrics in missing.items() if metrics} == {}


def test_the_rule_about_a_decaying_disk_fires(prometheus: Prometheus) -> None:
    """Real damage, found by a real validation."""
    prometheus.wait_for('ALERTS{alertname="DpdDiskDecays", alertstate="firing"}')
    (alert,) = prometheus.rules()["DpdDiskDecays"]["alerts"]
    assert "damaged files within a day" in alert["annotations"]["summary"]
    assert not prometheus.query('ALERTS{alertname="DpdContentDamaged"}')  # it was mended


def test_the_reasons_for_empty_queries_still_hold(prometheus: Prometheus) -> None:
    there = {name for name in NOTHING_TO_COUNT if prometheus.query(f"count({name})")}
    assert there == set()


def value(prometheus: Prometheus, expression: str) -> float:
    (found,) = prometheus.query(expression)
    return float(found["value"][1])


CASES: list[tuple[str, Callable[[float], bool]]] = [
    ("dpd_library_contents", lambda value: value == 2),
    ("dpd_library_content_bytes", lambda value: value == 2 * SIZE_BYTES),
    ('dpd_pull_bytes_total{source="dpd"}', lambda value: value >= 2 * SIZE_BYTES),
    ("dpd_validation_fetched_bytes_total", lambda value: 0 < value <= SIZE_BYTES),
    ("dpd_validation_read_bytes_total", lambda value: value == 2 * SIZE_BYTES),
    ("dpd_library_damaged_blobs", lambda value: value == 0),
    ('dpd_distribution_packages{state="installed"}', lambda value: value == 2),
    ('dpd_distribution_events_total{event="content.repaired"}', lambda value: value == 1),
    ('dpd_distribution_jobs{state="waiting"}', lambda value: value in (0, 1)),  # GONE is tried again every few seconds
    ("dpd_library_root_free_bytes", lambda value: value > 0),
    ("dpd_validation_age_seconds", lambda value: 0 <= value < 120),
    ("sum(dpd_bus_connected)", lambda value: value == 2),  # the point and the site server
    ("dpd_bus_policy_age_seconds", lambda value: 0 <= value < 120),
    ("dpd_bus_policy_mirrored_total", lambda value: value >= 1),
    ("dpd_bus_desired_packages", lambda value: value == 1),
    ("dpd_bus_desired_missing", lambda value: value == 0),
    ('dpd_bus_asks_total{outcome="done"}', lambda value: value >= 1),
    ('dpd_site_points{state="present"}', lambda value: value == 1),
    (f'dpd_site_last_seen_age_seconds{{point="{POINT}"}}', lambda value: 0 <= value < 60),
    ("dpd_site_archive_stored_total", lambda value: value > 0),
]


@pytest.mark.parametrize(("expression", "is_right"), CASES, ids=[expression for expression, _ in CASES])
def test_the_numbers_are_those_of_what_happened(
    prometheus: Prometheus, expression: str, is_right: Callable[[float], bool]
) -> None:
    found = value(prometheus, expression)
    assert is_right(found), found
