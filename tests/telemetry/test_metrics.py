# SPDX-License-Identifier: Apache-2.0
"""The page for Prometheus, read back by prometheus_client's own parser."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dpd.errors import DpdError
from dpd.telemetry.metrics import LoopLag, MetricsRegistry, watch_loop_lag
from dpd.telemetry.stats import bump, counter, counts, gauge, levels


@dataclass(slots=True)
class Stats:
    sent_bytes: int = counter("Bytes sent")
    transfers: int = gauge("Transfers now")
    ignored: dict[str, int] = counts("Ignored, by reason", "reason")
    private: str = "not exported"


def samples_of(registry: MetricsRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(registry.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_fields_become_metrics_when_they_are_read() -> None:
    registry, stats = MetricsRegistry(), Stats()
    registry.add("tftp", stats)
    stats.sent_bytes += 1400
    stats.transfers = 3
    bump(stats.ignored, "late", 2)
    bump(stats.ignored, 'odd "one"\n')
    samples = samples_of(registry)
    assert samples["dpd_tftp_sent_bytes_total", ()] == 1400
    assert samples["dpd_tftp_transfers", ()] == 3
    assert samples["dpd_tftp_ignored_total", (("reason", "late"),)] == 2
    assert samples["dpd_tftp_ignored_total", (("reason", 'odd "one"\n'),)] == 1
    assert not any("private" in name for name, _ in samples)
    stats.sent_bytes += 1
    assert samples_of(registry)["dpd_tftp_sent_bytes_total", ()] == 1401


def test_types_and_help_are_told() -> None:
    registry = MetricsRegistry()
    registry.add("tftp", Stats())
    page = registry.render().decode()
    assert "# HELP dpd_tftp_sent_bytes_total Bytes sent\n# TYPE dpd_tftp_sent_bytes_total counter\n" in page
    assert "# HELP dpd_tftp_transfers Transfers now\n# TYPE dpd_tftp_transfers gauge\n" in page


def test_a_gauge_by_callable_is_read_anew_at_each_page() -> None:
    registry = MetricsRegistry()
    sessions: list[str] = []
    registry.add_gauge("multicast", "sessions", "Sessions now", lambda: len(sessions))
    assert samples_of(registry)["dpd_multicast_sessions", ()] == 0
    sessions.append("one")
    assert samples_of(registry)["dpd_multicast_sessions", ()] == 1


@dataclass(slots=True)
class Room:
    blobs: int = gauge("Blobs")
    free_bytes: dict[str, float] = levels("Free, by root", "root")


def test_stats_that_are_made_when_they_are_read() -> None:
    registry, rooms = MetricsRegistry(), iter(range(10))
    registry.add("library", Stats())
    registry.add_read("library", lambda: Room(next(rooms), {"0": 2.5, "1": 0}))
    assert samples_of(registry)["dpd_library_blobs", ()] == 1  # 0 was the look whether it is a stats dataclass
    samples = samples_of(registry)
    assert samples["dpd_library_blobs", ()] == 2
    assert samples["dpd_library_free_bytes", (("root", "0"),)] == 2.5
    assert samples["dpd_library_free_bytes", (("root", "1"),)] == 0
    assert samples["dpd_library_sent_bytes_total", ()] == 0
    assert "# TYPE dpd_library_free_bytes gauge\n" in registry.render().decode()


def test_a_part_that_cannot_be_read_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    registry, trouble = MetricsRegistry(), [False]

    def read() -> Room:
        if trouble[0]:
            raise DpdError("library.db: disk I/O error")
        return Room()

    registry.add_read("library", read)
    registry.add("tftp", Stats())
    trouble[0] = True
    names = {name for name, _ in samples_of(registry)}
    assert "dpd_tftp_transfers" in names
    assert not any(name.startswith("dpd_library") for name in names)
    assert "metrics left out" in caplog.text
    trouble[0] = False
    assert samples_of(registry)["dpd_library_blobs", ()] == 0


def test_build_process_and_python_are_told() -> None:
    names = {name for name, _ in samples_of(MetricsRegistry())}
    assert {"dpd_build_info", "process_cpu_seconds_total", "process_open_fds", "python_info"} <= names


def test_what_has_no_stats_is_refused() -> None:
    registry = MetricsRegistry()
    with pytest.raises(ValueError, match="object is no stats dataclass"):
        registry.add("x", object())
    with pytest.raises(ValueError, match="object is no stats dataclass"):
        registry.add_read("x", object)
    registry.add("tftp", Stats())
    with pytest.raises(ValueError, match="tftp: its stats are exported already"):
        registry.add("tftp", Stats())


async def test_the_lag_of_a_held_loop_is_seen_and_kept() -> None:
    lag = LoopLag()
    watch = asyncio.get_running_loop().create_task(watch_loop_lag(lag, interval_s=0.01))

    async def measurements(count: int) -> None:
        before = len(lag.recent)
        async with asyncio.timeout(5):
            while len(lag.recent) < before + count:
                await asyncio.sleep(0)

    await measurements(1)
    time.sleep(0.2)  # holds the loop, as a blocking call would
    await measurements(2)
    assert lag.max_lag_seconds > 0.15
    assert lag.lag_seconds < lag.max_lag_seconds
    watch.cancel()
