# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the services' stats dataclasses, turned into metrics when it asks and not before.

Names are dpd_<part>_<field>, counters with _total. Help and label come from the field's metadata
(`dpd.telemetry.stats`), so a field added to a stats dataclass is exported without a line here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dpd import __version__
from dpd.errors import DpdError
from dpd.telemetry.stats import gauge

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_INTERVAL_S = 0.5
LAG_SAMPLES = 120  # the last minute: more than one scrape, so that no spike falls between two


class MetricsRegistry(Collector):
    """Every part of the daemon that counts. Safe to render from any thread."""

    def __init__(self) -> None:
        self._stats: dict[str, Any] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._reads: list[tuple[str, Callable[[], object]]] = []
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def add(self, part: str, stats: object) -> None:
        """Export the fields of a stats dataclass. Raises ValueError for another object or a part that is taken."""
        _refuse_other(part, stats)
        if part in self._stats:
            raise ValueError(f"{part}: its stats are exported already")
        self._stats[part] = stats

    def add_gauge(self, part: str, name: str, help: str, read: Callable[[], float]) -> None:
        """Export dpd_<part>_<name>, read anew at each scrape."""
        self._gauges[f"dpd_{part}_{name}"] = (help, read)

    def add_read(self, part: str, read: Callable[[], object]) -> None:
        """Export the fields of the stats dataclass that `read` makes at each scrape, beside those of `add`. Raises ValueError
        where it makes another object. A part that cannot be read then (DpdError) is left out of that page and logged."""
        _refuse_other(part, read())
        self._reads.append((part, read))

    def render(self) -> bytes:
        """The page, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for each page."""
        build = GaugeMetricFamily("dpd_build_info", "The version of dpd that runs", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        for part, stats in list(self._stats.items()):
            yield from _read_stats(part, stats)
        for part, read in list(self._reads):
            yield from _read_now(part, read)
        for name, (help, value_of) in list(self._gauges.items()):
            yield GaugeMetricFamily(name, help, value=value_of())


def _refuse_other(part: str, stats: object) -> None:
    if not is_dataclass(stats) or not any("kind" in field.metadata for field in fields(stats)):
        raise ValueError(f"{part}: {type(stats).__name__} is no stats dataclass; see dpd.telemetry.stats")


def _read_now(part: str, read: Callable[[], object]) -> list[Metric]:
    try:
        return list(_read_stats(part, read()))
    except DpdError as error:  # such as a disk that gives nothing back: the other parts are needed all the more
        log.warning("metrics left out", extra={"part": part, "error": str(error)})
        return []


def _read_stats(part: str, stats: Any) -> Iterator[Metric]:
    for each in fields(stats):
        if "kind" in each.metadata:
            yield _family(f"dpd_{part}_{each.name}", each.metadata, getattr(stats, each.name))


def _family(name: str, metadata: Mapping[str, Any], value: Any) -> Metric:
    label = metadata.get("label")
    kind = CounterMetricFamily if metadata["kind"] == "counter" else GaugeMetricFamily
    if label is None:
        return kind(name, metadata["help"], value=value)
    family = kind(name, metadata["help"], labels=[label])
    for key, count in sorted(dict(value).items()):  # a copy: the service may add a label while this reads
        family.add_metric([str(key)], count)
    return family


@dataclass(slots=True)
class LoopLag:
    """How late an event loop runs its timers: the time for which something held it."""

    lag_seconds: float = gauge("How late the loop ran its last timer")
    max_lag_seconds: float = gauge("How late the loop ran a timer at most in the last minute")
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=LAG_SAMPLES))


async def watch_loop_lag(stats: LoopLag, interval_s: float = LAG_INTERVAL_S) -> None:
    """Measure the lag of the running loop until cancelled."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(interval_s)
        stats.lag_seconds = max(0.0, time.monotonic() - before - interval_s)
        stats.recent.append(stats.lag_seconds)
        stats.max_lag_seconds = max(stats.recent)
