# SPDX-License-Identifier: Apache-2.0
"""Prometheus's own checker reads the metrics page and the alert rules; the rules ask only for metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dpd.service.conflict_watch import ConflictStats
from dpd.service.http import HttpStats
from dpd.service.multicast import MulticastStats
from dpd.service.probe import ProbeStats
from dpd.service.pxe import PxeStats
from dpd.service.querier import QuerierStats
from dpd.service.tftp_reading import TftpStats
from dpd.telemetry.metrics import LoopLag, MetricsRegistry
from dpd.telemetry.stats import bump

ALERTS = Path(__file__).parent.parent.parent / "config" / "prometheus-alerts.yml"
METRIC = re.compile(r"\b(?:dpd|process|python)_[a-z0-9_]+\b")
STATS = {
    "http": HttpStats,
    "multicast": MulticastStats,
    "pxe": PxeStats,
    "pxe_watch": ConflictStats,
    "tftp": TftpStats,
    "probe": ProbeStats,
    "querier": QuerierStats,
    "http_loop": LoopLag,
    "control_loop": LoopLag,
}


@pytest.fixture
def registry() -> MetricsRegistry:
    """All parts under the names that the daemon gives them, each labelled count with one sample."""
    registry = MetricsRegistry()
    for part, kind in STATS.items():
        stats = kind()
        for each in fields(stats):
            if "label" in each.metadata:
                bump(getattr(stats, each.name), "some")
        registry.add(part, stats)
    registry.add_gauge("library", "contents", "Package versions in the library", lambda: 0)
    registry.add_gauge("boot_files", "refused", "Boot files of a broken Secure Boot chain", lambda: 0)
    return registry


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
    assert asked - exported == set()
    assert len(asked) > 20  # the expressions were found at all


@pytest.mark.parametrize("part", ["pxe", "tftp", "http", "multicast"])
def test_each_part_has_an_alert(part: str) -> None:
    assert any(f"dpd_{part}_" in expression for expression in expressions())


def test_each_alert_names_the_next_step() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    assert text.count("- alert: ") == text.count("summary: ") == text.count("action: ") == len(expressions())


MEMBERS = {"dpd_multicast_members": "3+0x30", "dpd_multicast_members_waiting": "0+0x30"}

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
    ("DpdMulticastByHttp", MEMBERS | {"dpd_multicast_members_unicast": "5+0x30"}, True),
    ("DpdMulticastByHttp", MEMBERS | {"dpd_multicast_members_unicast": "1+0x30"}, False),
]


@pytest.mark.parametrize(("alert", "series", "fires"), CASES)
def test_alerts_fire_when_they_should(
    alert: str, series: dict[str, str], fires: bool, tmp_path: Path, need: Callable[..., None]
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
                        "eval_time": "30m",
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
