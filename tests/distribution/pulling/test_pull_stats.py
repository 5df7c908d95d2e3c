# SPDX-License-Identifier: Apache-2.0
"""What pulls count, from several threads and for Prometheus."""

from __future__ import annotations

import threading

from dpd.distribution.pulling.pull_stats import PullStats
from dpd.telemetry.metrics import MetricsRegistry


def test_no_count_is_lost_between_threads() -> None:
    stats = PullStats()

    def count() -> None:
        for _ in range(2000):
            stats.came("http", 3)
            stats.ended("ok")
            stats.add(reused=2, again=1, running=1)
            stats.add(running=-1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (stats.bytes, stats.requests) == ({"http": 24000}, {"ok": 8000})
    assert (stats.bytes_reused, stats.bytes_again, stats.running) == (16000, 8000, 0)


def test_prometheus_sees_each() -> None:
    stats, registry = PullStats(), MetricsRegistry()
    registry.add("pull", stats)
    stats.came("s3", 5)
    stats.ended("stalled")
    text = registry.render().decode()
    assert 'dpd_pull_bytes_total{source="s3"} 5.0' in text
    assert 'dpd_pull_requests_total{outcome="stalled"} 1.0' in text
    assert "dpd_pull_bytes_reused_total 0.0" in text
