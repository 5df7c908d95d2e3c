# SPDX-License-Identifier: Apache-2.0
"""What the bus counts, on the page that Prometheus reads."""

from __future__ import annotations

from dpd.bus.stats import BusStats
from dpd.telemetry.metrics import MetricsRegistry


def test_each_count_is_on_the_page() -> None:
    registry = MetricsRegistry()
    stats = BusStats(connected=1, connections=3, sent=7, acked=6, asks={"done": 2})
    registry.add("bus", stats)
    page = registry.render().decode()
    for line in ("dpd_bus_connected 1.0", "dpd_bus_connections_total 3.0", "dpd_bus_acked_total 6.0", 'dpd_bus_asks_total{outcome="done"} 2.0'):  # fmt: skip
        assert line in page
