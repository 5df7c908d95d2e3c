# SPDX-License-Identifier: Apache-2.0
"""The logs that targets leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpd.deployment.deployment_logs import DeploymentLogs
from dpd.errors import DeploymentError, ExecutionNotFound
from dpd.sequence.exchange import MAX_LOG_BYTES

A, B, C = "a" * 16, "b" * 16, "c" * 16


def test_a_log_is_kept_over_restarts_and_the_newest_wins(tmp_path: Path) -> None:
    logs = DeploymentLogs(tmp_path / "logs")
    logs.keep(A, b"first")
    assert logs.keep(A, "zweite Fassung, größer\n".encode()) == 25
    assert DeploymentLogs(tmp_path / "logs").read(A) == "zweite Fassung, größer\n"


def test_who_left_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExecutionNotFound, match="left no log"):
        DeploymentLogs(tmp_path).read(A)


@pytest.mark.parametrize("execution", ["../../etc/passwd", "", "A" * 16, "a" * 15, "a/b", "a" * 16 + "\n"])
def test_a_name_that_is_no_execution_reaches_no_file(tmp_path: Path, execution: str) -> None:
    logs = DeploymentLogs(tmp_path / "logs")
    with pytest.raises(ExecutionNotFound, match="no execution"):
        logs.keep(execution, b"x")
    with pytest.raises(ExecutionNotFound, match="no execution"):
        logs.read(execution)
    assert list(tmp_path.rglob("*.log")) == []


def test_a_log_that_is_too_long_is_refused_with_how_much_may_be(tmp_path: Path) -> None:
    logs = DeploymentLogs(tmp_path)
    logs.keep(A, bytes(MAX_LOG_BYTES))
    with pytest.raises(DeploymentError, match=f"expected at most {MAX_LOG_BYTES}"):
        logs.keep(B, bytes(MAX_LOG_BYTES + 1))


def test_the_oldest_gives_way_where_all_are_more_than_may_be(tmp_path: Path) -> None:
    logs = DeploymentLogs(tmp_path, max_total_bytes=250)
    for age, execution in enumerate((C, A), 1):
        logs.keep(execution, bytes(100))
        os.utime(tmp_path / f"{execution}.log", (1000 + age, 1000 + age))
    logs.keep(A, bytes(110))  # in its own place
    assert logs.read(C)
    os.utime(tmp_path / f"{A}.log", (2000, 2000))
    logs.keep(B, bytes(100))
    with pytest.raises(ExecutionNotFound):
        logs.read(C)
    assert logs.read(A)
    assert logs.read(B)


def test_what_a_terminal_would_obey_is_shown_and_not_sent(tmp_path: Path) -> None:
    logs = DeploymentLogs(tmp_path)
    logs.keep(A, b"a\tb\n\x1b[2Jc\xff\r\n")
    assert logs.read(A) == "a\tb\n\ufffd[2Jc\ufffd\ufffd\n"


def test_what_is_forgotten_is_gone_and_a_half_written_one_too(tmp_path: Path) -> None:
    logs = DeploymentLogs(tmp_path)
    logs.keep(A, b"x")
    (tmp_path / f"{B}.part").write_bytes(b"half")
    logs.forget([A, B])
    DeploymentLogs(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeploymentError, match="cannot keep logs"):
        DeploymentLogs(tmp_path / "file" / "logs")
