# SPDX-License-Identifier: Apache-2.0
"""Prometheus's own checker reads the metrics page and the alert rules; rules and dashboard ask only for metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families

from dpd.bus.stats import BusStats
from dpd.cli import app
from dpd.control.bus.desired import DesiredStats
from dpd.control.bus.policy import FollowerStats
from dpd.control.bus.runs import RunStats
from dpd.control.bus.status import ShipperStats
from dpd.deployment.metrics import DeploymentLevels, DeploymentStats
from dpd.deployment.target_desk import TargetStats
from dpd.distribution.metrics import DistributionLevels, EventStats, LibraryLevels, ValidationLevels
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.validation.validation import ValidationStats
from dpd.service.diagnosis.probe import ProbeStats
from dpd.service.diagnosis.querier import QuerierStats
from dpd.service.http.server import HttpStats
from dpd.service.multicast.service import MulticastStats
from dpd.service.pxe.conflict_watch import ConflictStats
from dpd.service.pxe.proxy_dhcp import PxeStats
from dpd.service.tftp.reading import TftpStats
from dpd.site_server.archive import ArchiveStats
from dpd.site_server.lease import LeaseStats
from dpd.site_server.points import PointStats
from dpd.telemetry.metrics import LoopLag, MetricsRegistry
from dpd.telemetry.spool import SpoolStats
from dpd.telemetry.stats import bump

CONFIG = Path(__file__).parent.parent.parent / "config"
ALERTS = CONFIG / "prometheus-alerts.yml"
DASHBOARD = CONFIG / "grafana-dashboard.json"
METRIC = re.compile(r"\b(?:dpd|process|python)_[a-z0-9_]+\b")
STATS = {
    "http": HttpStats,
    "multicast": MulticastStats,
    "pxe": PxeStats,
    "pxe_watch": ConflictStats,
    "tftp": TftpStats,
    "probe": ProbeStats,
    "querier": QuerierStats,
    "validation": ValidationStats,
    "distribution": EventStats,
    "pull": PullStats,
    "http_loop": LoopLag,
    "control_loop": LoopLag,
    "spool": SpoolStats,
    "bus": BusStats,
    "bus_policy": FollowerStats,
    "bus_status": ShipperStats,
    "bus_runs": RunStats,
    "bus_desired": DesiredStats,
    "site_archive": ArchiveStats,
    "site_lease": LeaseStats,
    "deployment": DeploymentStats,
    "target": TargetStats,
}


READ_WHEN_ASKED = {
    "library": LibraryLevels,
    "validation": ValidationLevels,
    "distribution": DistributionLevels,
    "site": PointStats,
    "deployment": DeploymentLevels,
}


@pytest.fixture
def registry() -> MetricsRegistry:
    """All parts under the names that the daemon gives them, each labelled count with one sample."""
    registry = MetricsRegistry()
    for part, kind in STATS.items():
        registry.add(part, with_a_sample(kind()))
    for part, kind in READ_WHEN_ASKED.items():
        registry.add_read(part, partial(with_a_sample, kind()))
    registry.add_gauge("boot_files", "refused", "Boot files of a broken Secure Boot chain", lambda: 0)
    registry.add_gauge("bus_status", "backlog", "Status messages that the site does not have yet", lambda: 0)
    registry.add_gauge("bus_policy", "age_seconds", "Since the site's policy was last heard to hold", lambda: 0)
    return registry


def with_a_sample(stats: Any) -> object:
    for each in fields(stats):
        if "label" in each.metadata:
            bump(getattr(stats, each.name), "some")
    return stats


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    found = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[str]:
    """What the dashboard asks."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def expressions() -> list[str]:
    """The `expr` of each rule, joined where it has several lines."""
    text = ALERTS.read_text(encoding="utf-8")
    return re.findall(r"expr: (?:\|\n)?(.*?)\n        (?:for|labels):", text, re.DOTALL)


def test_promtool_has_no_word_against_the_metrics(registry: MetricsRegistry, need: Callable[..., None]) -> None:
    need("promtool")
    run = subprocess.run(["promtool", "check", "metrics"], input=registry.render(), capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_promtool_accepts_the_rules(need: Callable[..., None]) -> None:
    need("promtool")
    run = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"{len(expressions())} rules found" in run.stdout


def test_rules_ask_only_for_metrics_that_exist(registry: MetricsRegistry) -> None:
    exported = {
        sample.name
        for family in text_string_to_metric_families(registry.render().decode())
        for sample in family.samples
    }
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    shown = {name for query in queries() for name in METRIC.findall(query)}
    assert (asked | shown) - exported == set()
    assert (len(asked) > 30, len(shown) > 50) == (True, True)  # they were found at all


@pytest.mark.parametrize(
    "part",
    [
        "pxe",
        "tftp",
        "http",
        "multicast",
        "library",
        "distribution",
        "pull",
        "validation",
        "spool",
        "bus",
        "site",
        "deployment",
    ],
)
def test_each_part_is_on_the_dashboard(part: str) -> None:
    assert any(f"dpd_{part}_" in query for query in queries())


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    """As far as that can be seen without it: version 37 of the schema is Grafana 9's, each panel has its place, number and
    data source, and each query speaks of the daemon that was chosen."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["schemaVersion"] == 37
    assert [each["name"] for each in dashboard["templating"]["list"]] == ["datasource", "instance"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels():
        assert {panel["datasource"]["uid"]} | {each["datasource"]["uid"] for each in panel["targets"]} == {
            "${datasource}"
        }
        assert [each["refId"] for each in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    assert all('instance=~"$instance"' in query for query in queries() if "ALERTS" not in query)


@pytest.mark.parametrize(
    "part",
    ["pxe", "tftp", "http", "multicast", "library", "distribution", "pull", "validation", "bus", "site", "deployment"],
)
def test_each_part_has_an_alert(part: str) -> None:
    assert any(f"dpd_{part}_" in expression for expression in expressions())


def test_each_alert_names_the_next_step() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    assert text.count("- alert: ") == text.count("summary: ") == text.count("action: ") == len(expressions())


def test_each_command_that_is_named_is_there() -> None:
    text = ALERTS.read_text(encoding="utf-8") + DASHBOARD.read_text(encoding="utf-8")
    named = {tuple(found.split()) for found in re.findall(r"`dpd ([a-z][a-z -]*?)(?= [A-Z-]|[`.]| --)", text)}
    assert len(named) > 10
    assert {words for words in named if not _is_command(words)} == set()


def _is_command(words: tuple[str, ...]) -> bool:
    node: Any = typer.main.get_command(app)
    for word in words:
        node = getattr(node, "commands", {}).get(word)
        if node is None:
            return word in ("on", "off")  # an argument
    return True


MEMBERS = {"dpd_multicast_members": "3+0x30", "dpd_multicast_members_waiting": "0+0x30"}


def roots(free: float, reserve: float, root: str = "0") -> dict[str, str]:
    """A root's series."""
    return {
        f'dpd_library_root_free_bytes{{root="{root}"}}': f"{free:.0f}+0x30",
        f'dpd_library_root_reserve_bytes{{root="{root}"}}': f"{reserve:.0f}+0x30",
    }


# Series over 30 minutes, one sample a minute, and whether the alert fires at the end of them.
CASES = [
    ("DpdPxeSilent", {'dpd_pxe_discovers_total{client_arch="7"}': "0+2x30"}, True),
    ("DpdPxeSilent", {'dpd_pxe_discovers_total{client_arch="7"}': "0+2x30", "dpd_pxe_offers_total": "0+1x30"}, False),
    ("DpdPxeOtherServer", {'dpd_pxe_watch_conflicts_total{kind="proxy"}': "0+1x30"}, True),
    ("DpdPxeOtherServer", {'dpd_pxe_watch_conflicts_total{kind="repeated_request"}': "0+1x30"}, False),
    ("DpdTftpTransfersFail", {'dpd_tftp_transfers_total{verdict="timeout"}': "0+1x30"}, True),
    ("DpdTftpTransfersFail", {'dpd_tftp_transfers_total{verdict="probe"}': "0+1x30"}, False),
    ("DpdMulticastStuck", MEMBERS | {"dpd_multicast_datagrams_total": "500+0x30"}, True),
    ("DpdMulticastStuck", MEMBERS | {"dpd_multicast_datagrams_total": "0+9x30"}, False),
    (
        "DpdMulticastStuck",
        MEMBERS | {"dpd_multicast_members_waiting": "3+0x30", "dpd_multicast_datagrams_total": "500+0x30"},
        False,  # a scheduled cast
    ),
    ("DpdSecureBootChainBroken", {"dpd_boot_files_refused": "2+0x30"}, True),
    ("DpdSecureBootChainBroken", {"dpd_boot_files_refused": "0+0x30"}, False),
    ("DpdContentDamaged", {"dpd_library_damaged_blobs": "1+0x30"}, True),
    ("DpdContentDamaged", {"dpd_library_damaged_blobs": "0+0x30"}, False),
    ("DpdDiskDecays", {"dpd_validation_found_total": "0+0x20 1+0x9"}, True),
    ("DpdDiskDecays", {"dpd_validation_found_total": "1+0x30"}, False),  # found before, and long since told
    ("DpdValidationOverdue", {"dpd_validation_age_seconds": "1300000+60x30"}, True),
    ("DpdValidationOverdue", {"dpd_validation_age_seconds": "600000+60x30"}, False),
    ("DpdLibraryFull", roots(free=20e9, reserve=18e9), True),
    ("DpdLibraryFull", roots(free=20e9, reserve=1e9), False),
    (
        "DpdLibraryFull",
        roots(free=20e9, reserve=18e9) | roots(free=500e9, reserve=1e9, root="1"),
        False,  # one root has room
    ),
    ("DpdRootMissing", {"dpd_library_roots_missing": "1+0x30"}, True),
    ("DpdPackageFailed", {'dpd_distribution_packages{state="failed"}': "1+0x30"}, True),
    ("DpdPackageFailed", {'dpd_distribution_packages{state="removal-failed"}': "1+0x30"}, True),
    ("DpdPackageFailed", {'dpd_distribution_packages{state="retrying"}': "1+0x30"}, False),
    ("DpdJobWaits", {'dpd_distribution_oldest_job_seconds{state="waiting"}': "90000+60x30"}, True),
    ("DpdJobWaits", {'dpd_distribution_oldest_job_seconds{state="running"}': "90000+60x30"}, False),
    ("DpdSourcesUnreachable", {'dpd_pull_requests_total{outcome="unreachable"}': "0+1x30"}, True),
    (
        "DpdSourcesUnreachable",
        {
            'dpd_pull_requests_total{outcome="unreachable"}': "0+1x30",
            'dpd_pull_requests_total{outcome="ok"}': "0+1x30",
        },
        False,  # the next source gives it
    ),
    ("DpdSourceWrong", {'dpd_pull_requests_total{outcome="wrong_hash"}': "0+0x20 1+0x9"}, True),
    ("DpdMulticastByHttp", MEMBERS | {"dpd_multicast_members_unicast": "5+0x30"}, True),
    ("DpdMulticastByHttp", MEMBERS | {"dpd_multicast_members_unicast": "1+0x30"}, False),
    ("DpdBusAway", {"dpd_bus_connected": "0+0x30"}, True),
    ("DpdBusAway", {"dpd_bus_connected": "0+0x20 1+0x9"}, False),
    ("DpdBusPolicyStale", {"dpd_bus_policy_age_seconds": "3300+60x30"}, True),
    ("DpdBusPolicyStale", {"dpd_bus_policy_age_seconds": "5+0x30"}, False),
    ("DpdBusPolicyRefused", {"dpd_bus_policy_refused_total": "0+0x20 1+0x9"}, True),
    ("DpdBusPolicyRefused", {"dpd_bus_policy_refused_total": "1+0x30"}, False),
    ("DpdBusStatusBacklog", {"dpd_bus_status_backlog": "1500+10x30"}, True),
    ("DpdBusStatusBacklog", {"dpd_bus_status_backlog": "1500-100x30"}, False),  # it goes
    ("DpdBusDesiredMissing", {"dpd_bus_desired_missing": "1+0x30"}, False),  # its job may wait for the night
    ("DpdBusWorkFails", {"dpd_bus_failures_total": "0+4x30"}, False),  # for how long is not known yet
    ("DpdSitePointAway", {'dpd_site_last_seen_age_seconds{point="b1"}': "0+60x30"}, True),
    ("DpdSitePointAway", {'dpd_site_last_seen_age_seconds{point="b1"}': "10+0x30"}, False),
    ("DpdSiteNotSteered", {"dpd_site_lease_held": "0+0x30"}, True),
    (
        "DpdSiteNotSteered",
        {'dpd_site_lease_held{instance="a"}': "0+0x30", 'dpd_site_lease_held{instance="b"}': "1+0x30"},
        False,  # one of two does
    ),
    ("DpdSiteSteeringMoves", {"dpd_site_lease_lost_total": "0+1x30"}, True),
    ("DpdSiteSteeringMoves", {"dpd_site_lease_lost_total": "0+0x20 1+0x9"}, False),  # once, as at a restart of the hub
    ("DpdSiteMessagesMissing", {"dpd_site_archive_missing_total": "0+0x20 5+0x9"}, True),
    ("DpdSiteMessagesMissing", {"dpd_site_archive_missing_total": "5+0x30"}, False),  # known for long
    ("DpdSitePointsBehind", {"dpd_site_behind": "2+0x30"}, True),
    ("DpdSitePointsBehind", {"dpd_site_behind": "0+0x30"}, False),
    ("DpdDeploymentsFail", {'dpd_deployment_ended_total{outcome="failed"}': "0+0x10 4+0x19"}, True),
    ("DpdDeploymentsFail", {'dpd_deployment_ended_total{outcome="done"}': "0+1x30"}, False),
    ("DpdTargetsRefused", {'dpd_target_refused_total{reason="sequence_missing"}': "0+0x10 3+0x19"}, True),
    (
        "DpdTargetsRefused",
        {
            'dpd_target_refused_total{reason="no_ticket"}': "0+0x10 2+0x19",  # one that was told once, and booted again
            'dpd_target_refused_total{reason="proof_used"}': "7+0x30",
        },
        False,
    ),
    ("DpdDeploymentsSilent", {'dpd_deployment_executions{state="silent"}': "1+0x30"}, True),
    ("DpdDeploymentsSilent", {'dpd_deployment_executions{state="silent"}': "0+0x20 1+0x9"}, False),
    ("DpdDeploymentsNotWritten", {"dpd_deployment_write_failures_total": "0+0x20 1+0x9"}, True),
    ("DpdDeploymentsNotWritten", {"dpd_deployment_write_failures_total": "1+0x30"}, False),
    ("DpdDeploymentStuck", {"dpd_deployment_oldest_seconds": "14000+60x30"}, True),
    ("DpdDeploymentStuck", {"dpd_deployment_oldest_seconds": "60+60x30"}, False),
]
SLOW_CASES: list[tuple[str, dict[str, str], bool]] = [  # those that wait for half an hour and more
    (
        "DpdCaptureStands",
        {"dpd_deployment_captures_open": "1+0x120", "dpd_deployment_capture_bytes_kept": "5+0x120"},
        True,
    ),
    (
        "DpdCaptureStands",
        {"dpd_deployment_captures_open": "1+0x120", "dpd_deployment_capture_bytes_kept": "5+1x120"},
        False,
    ),
]


@pytest.mark.parametrize(
    ("alert", "series", "fires", "eval_time"),
    [*((*each, "30m") for each in CASES), *((*each, "2h") for each in SLOW_CASES)],
)
def test_alerts_fire_when_they_should(
    alert: str, series: dict[str, str], fires: bool, eval_time: str, tmp_path: Path, need: Callable[..., None]
) -> None:
    need("promtool")
    given = series | {"dpd_tftp_requests_total": "0+2x30"}
    document = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in given.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                        "eval_time": eval_time,
                        "exp_samples": [{"value": 1}] if fires else [],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    run = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
