# SPDX-License-Identifier: Apache-2.0
"""`pytest --cpu=25`: which tests and files take the processor: seconds of this process and of those it waited for. Unlike
`--durations` it says much the same on a busy machine."""

from __future__ import annotations

import resource

import pytest


class CpuTable:
    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._tests: dict[str, float] = {}
        self._told_s = _cpu_s()

    def pytest_collection_finish(self) -> None:
        self._count("(reading the tests)")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._count(nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        files: dict[str, float] = {}
        for test, cpu_s in self._tests.items():
            file = test.partition("::")[0]
            files[file] = files.get(file, 0) + cpu_s
        for title, seconds in (("file", files), ("test", self._tests)):
            terminalreporter.section(f"CPU seconds by {title}, {sum(seconds.values()):.0f} in all")
            for cpu_s, name in sorted(((cpu_s, name) for name, cpu_s in seconds.items()), reverse=True)[: self._rows]:
                terminalreporter.write_line(f"{cpu_s:8.1f}  {name}")

    def _count(self, name: str) -> None:
        now_s = _cpu_s()
        self._tests[name] = self._tests.get(name, 0) + now_s - self._told_s
        self._told_s = now_s


def _cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", type=int, metavar="N", help="the N tests and files that take most processor time")


def pytest_configure(config: pytest.Config) -> None:
    if rows := config.getoption("--cpu"):
        config.pluginmanager.register(CpuTable(rows))
