# SPDX-License-Identifier: Apache-2.0
"""The log of a run: masked, bounded, and there after a restart."""

from __future__ import annotations

from pathlib import Path

from dpd.sequence.variables import Variable, Variables
from dpd.target.work.execution_log import ExecutionLog


def plain(text: str) -> str:
    return text


def test_each_line_has_its_time(tmp_path: Path) -> None:
    log = ExecutionLog(tmp_path / "log", plain, now=lambda: 0.0)
    log.write("one\ntwo")
    assert log.text() == b"1970-01-01T00:00:00Z one\n1970-01-01T00:00:00Z two\n"


def test_a_secret_is_never_written_and_one_learnt_later_is_not_told(tmp_path: Path) -> None:
    variables = Variables([Variable("Password", "hunter2", secret=True)])
    log = ExecutionLog(tmp_path / "log", variables.mask)
    log.write("net use /user:x hunter2 and later-secret")
    assert b"hunter2" not in (tmp_path / "log").read_bytes()
    variables.put("Token", "later-secret", secret=True)
    assert b"later-secret" not in log.text()


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    log = ExecutionLog(tmp_path / "log", plain, limit_bytes=10_000)
    for number in range(2000):
        log.write(f"line {number}")
    text = log.text()
    assert len(text) <= 10_000
    assert b"line 0\n" in text
    assert text.endswith(b"line 1999\n")
    assert b"bytes are left out here" in text
    assert (tmp_path / "log").stat().st_size <= 20_000


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    ExecutionLog(tmp_path / "log", plain).write("before")
    again = ExecutionLog(tmp_path / "log", plain)
    again.write("after")
    assert [line.split()[1] for line in again.text().decode().splitlines()] == ["before", "after"]


def test_a_disk_that_refuses_ends_nothing(tmp_path: Path) -> None:
    log = ExecutionLog(tmp_path / "no folder" / "log", plain)
    log.write("lost")
    assert b"cannot be read" in log.text()


def test_a_line_of_megabytes_is_cut(tmp_path: Path) -> None:
    log = ExecutionLog(tmp_path / "log", plain)
    log.write("x" * 1_000_000)
    assert len(log.text()) < 5000
