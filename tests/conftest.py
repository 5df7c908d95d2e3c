# SPDX-License-Identifier: Apache-2.0
"""Three rules for the whole suite: on a machine that has everything (CI=true), a skipped interop test is a failure; no test's
lines of the log go where another test's went; and what tests leave behind in cycles goes once it is much: a simulated session
has few objects, so Python sees no need to collect them, but tens of MB in each."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job, whose children would not hear it either
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine makes any example slow once, which says nothing of what is tested.
settings.register_profile("dpd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dpd")

pytest_plugins = ["tests.cpu_table"]

INTEROP = Path(__file__).parent / "interop"
MUCH_BYTES = 64 << 20
_kept_bytes = 0  # in memory behind the last look


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason} (CI=true: interop tests must run here)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself or by a fixture."""
    report = yield
    if item.get_closest_marker("interop") or INTEROP in item.path.parents:
        _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole file that skips itself while it is read."""
    report = yield
    if INTEROP in collector.path.parents:
        _forbid_skip(report)
    return report


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """A command that runs in this process has its log on a standard error that is closed when the test ends."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)


def pytest_collection_finish() -> None:
    """What is there before the first test stays until the end, and need not be looked at by each collection."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """Behind each test."""
    global _kept_bytes
    if _resident_bytes() > _kept_bytes + MUCH_BYTES:
        gc.collect()
        _kept_bytes = _resident_bytes()


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
