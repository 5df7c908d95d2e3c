# SPDX-License-Identifier: Apache-2.0
"""The numbers of deployments under way, as Prometheus reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.deployment.executions import Ears, begin, said

from dpd.deployment.capture_table import Capture
from dpd.deployment.database import open_database
from dpd.deployment.execution_book import SILENT_S, ExecutionBook
from dpd.deployment.metrics import DeploymentStats, add_deployments, counting, read_deployments
from dpd.telemetry.metrics import MetricsRegistry


def samples(registry: MetricsRegistry) -> dict[tuple[str, str], float]:
    """By name and the value of the only label, "" where there is none."""
    families = text_string_to_metric_families(registry.render().decode())
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("dpd_deployment_")
    }


def test_what_is_under_way_and_what_has_been_is_summed_without_naming_a_machine(tmp_path: Path) -> None:
    stats, registry = DeploymentStats(), MetricsRegistry()
    book = ExecutionBook(open_database(tmp_path / "deployment.db"), tell=counting(Ears(), stats), clock=lambda: 1000.0)
    add_deployments(registry, stats, lambda: read_deployments(book.open_executions(), [], 1500.0))
    empty = samples(registry)
    assert set(empty.values()) == {0.0}
    assert ("dpd_deployment_ended_total", "failed") in empty
    assert ("dpd_deployment_steps_failed_total", "apply_os_image") in empty
    ids = [begin(book, f"pc-{number}", at=1000.0 + number) for number in range(5)]
    for id in ids[:2]:
        book.take_reports(id, [said(1, "2.1", "started"), said(0, "2.1", "progress", rate_bit_s=500)], 1450.0)
    book.take_reports(ids[2], [said(1, "1", "failed", "no disk"), said(2, "", "sequence_failed")], 1450.0)
    book.take_reports(ids[3], [said(1, "", "sequence_done", at=1063.0)], 1450.0)
    book.look_over(1004.0 + SILENT_S + 1.0)
    found = samples(registry)
    assert found["dpd_deployment_started_total", ""] == 5
    assert found["dpd_deployment_executions", "running"] == 2
    assert found["dpd_deployment_executions", "silent"] == 1
    assert found["dpd_deployment_steps", "apply_os_image"] == 2
    assert found["dpd_deployment_rate_bytes_per_second", ""] == 125
    assert found["dpd_deployment_oldest_seconds", ""] == 500
    assert found["dpd_deployment_ended_total", "failed"] == found["dpd_deployment_ended_total", "done"] == 1
    assert found["dpd_deployment_done_seconds_total", ""] == 60
    assert found["dpd_deployment_steps_failed_total", "partition_disk"] == 1
    assert set(empty) == set(found)
    assert "52:54" not in registry.render().decode()


def test_a_kind_of_a_newer_dpd_is_counted_as_another() -> None:
    stats = DeploymentStats()
    counting(Ears(), stats)("deployment.step_failed", {"step_kind": "paint_it_green"})
    assert stats.steps_failed["other"] == 1
    assert "paint_it_green" not in stats.steps_failed


def test_captures_are_summed() -> None:
    capture = Capture("c1", "e1", "PC-1", "CAP00001", 100, kept_bytes=40)
    levels = read_deployments([], [capture, replace(capture, kept_bytes=2)], 0.0)
    assert (levels.captures_open, levels.capture_bytes_kept) == (2, 42)
    stats = DeploymentStats()
    counting(Ears(), stats)("deployment.captured", {"size_bytes": 77})
    assert (stats.captures, stats.captured_bytes) == (1, 77)
