# SPDX-License-Identifier: Apache-2.0
"""What `dpd deploy watch` knows and shows, and against a daemon that runs."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess
from tests.deployment.executions import STEPS, begin, open_book, said

from dpd.cli.deploy_watch import MAX_MARKS, Board, line_of, marks, row_of, view_of
from dpd.control.api.messages.execution import reply_of
from dpd.deployment.execution import Execution, plan_steps, take_progress, take_report
from dpd.sequence.exchange import Report

PATIENCE_S = 60.0


def told(*reports: Report, machine: str = "pc-1", id: str = "e1", started_at: float = 1000.0) -> dict[str, Any]:
    """An execution as the API tells it."""
    execution = Execution(
        id, machine, machine.upper(), "52:54:00:00:00:01", 7, "debian", 3, started_at, 8200.0, heard_at=1000.0, steps=plan_steps(STEPS)
    )  # fmt: skip
    for report in reports:
        execution = (take_report if report.number else take_progress)(execution, report, 1100.0)
    shown: dict[str, Any] = msgspec.to_builtins(reply_of(execution))
    return shown


def test_a_row_has_each_steps_mark_and_how_far_and_how_fast_it_is() -> None:
    execution = told(
        said(1, "1", "done"),
        said(2, "2.1", "started"),
        said(0, "2.1", "progress", "by multicast", done_bytes=1 << 30, total_bytes=4 << 30, rate_bit_s=8 << 20),
    )
    assert row_of(execution, 1103.0) == (
        "PC-1",
        "debian@3",
        "running",
        "✓·▶·",
        "2.1 Apply the image",
        "25 % of 4.0 GiB",
        "1.0 MiB/s",
        "3 s ago",
        "by multicast",
    )


def test_many_steps_are_counted() -> None:
    execution = told()
    execution["step_states"] = ["done"] * 20 + ["skipped"] * 5 + ["waiting"] * MAX_MARKS
    assert marks(execution) == f"25 of {25 + MAX_MARKS}"


def test_a_line_says_what_failed_where_and_what_to_try() -> None:
    line = line_of(told(said(1, "2.2", "failed", "no EFI partition"), said(2, "", "sequence_failed")), 1100.0)
    assert "PC-1" in line
    assert "2.2 Boot loader  no EFI partition" in line
    assert line.endswith("`dpd deploy log e1` shows its log.")


def test_what_a_machine_says_is_told_with_the_step_that_it_is_of_also_behind_one_that_was_allowed_to_fail() -> None:
    reports = [said(1, "1", "failed", "no fast disk"), said(2, "2.1", "started"), said(0, "2.1", "progress", "by HTTP")]
    failed, begun, under_way = (told(*reports[:count]) for count in (1, 2, 3))
    assert [row_of(each, 1103.0)[-1] for each in (failed, begun, under_way)] == ["no fast disk", "", "by HTTP"]
    assert line_of(failed, 1103.0).endswith("`dpd deploy log e1` shows its log.")
    assert line_of(under_way, 1103.0).endswith("2.1 Apply the image  by HTTP")
    board = Board()
    board.take(under_way)
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(view_of(board, 1103.0))
    assert console.export_text().splitlines()[-1].startswith("PC-1: no fast disk. ")


def test_the_table_has_those_under_way_first_a_sum_and_what_to_try() -> None:
    board = Board()
    board.take(
        told(said(1, "2.2", "failed", "no EFI partition"), said(2, "", "sequence_failed"), machine="pc-9", id="e9")
    )
    board.take(told(said(1, "2.1", "started"), said(0, "2.1", "progress", rate_bit_s=8 << 20), id="e2", machine="pc-2"))
    board.take(told(id="e1", started_at=900.0))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view_of(board, 1103.0))
    lines = console.export_text().splitlines()
    assert lines[0].rstrip() == "1 failed, 2 running; 1.0 MiB/s in all"
    assert [line.split()[0] for line in lines[2:5]] == ["PC-1", "PC-2", "PC-9"]
    assert lines[-1].startswith("PC-9: ")


def test_a_narrow_terminal_takes_from_what_was_said_and_not_from_who_and_how_it_stands() -> None:
    board = Board()
    board.take(
        told(said(1, "2.2", "failed", "no EFI partition " * 20), said(2, "", "sequence_failed"), machine="ws-00017")
    )
    for width in (100, 160):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(view_of(board, 1103.0))
        _, head, row, *_ = console.export_text().splitlines()
        assert row.split()[:4] == ["WS-00017", "debian@3", "failed", "···✗"]
        assert head.split()[:5] == ["MACHINE", "SEQUENCE", "STATE", "STEPS", "STEP"]


def test_an_ended_execution_makes_room_for_the_next_of_its_machine_whatever_comes_first() -> None:
    older = told(said(1, "", "sequence_failed"), id="e1")
    newer = told(id="e2", started_at=1050.0)
    for order in ([older, newer], [newer, older]):
        board = Board()
        for each in order:
            board.take(each)
        assert list(board.executions) == ["e2"]
        assert not board.has_failed


def test_what_ended_long_ago_is_not_shown_to_who_begins_to_watch() -> None:
    board = Board()
    board.take(told(said(1, "", "sequence_done", at=1100.0)))
    board.take(told(id="e2", machine="pc-2"))
    board.settle(1100.0 + 3600.0)
    assert set(board.executions) == {"e1", "e2"}
    board.settle(1101.0 + 3600.0)
    assert set(board.executions) == {"e2"}


# ---- against a daemon


@contextmanager
def deploying(folder: Path) -> Iterator[tuple[DaemonProcess, str]]:
    """A daemon that finds one machine under way in its book."""
    folder.mkdir(exist_ok=True)
    book = open_book(folder, opened_at=time.time())
    id = begin(book, at=time.time())
    book.take_reports(
        id, [said(1, "1", "done", at=time.time()), said(2, "2.1", "started", at=time.time())], time.time()
    )
    with DaemonProcess(folder).ready() as daemon:
        yield daemon, id


def read_until(follower: int, wanted: str, shown: str = "") -> str:
    deadline = time.monotonic() + PATIENCE_S
    while wanted not in shown:
        assert select.select([follower], [], [], max(0.0, deadline - time.monotonic()))[0], shown
        chunk = os.read(follower, 65536)
        assert chunk, shown
        shown += chunk.decode("utf-8", "replace")
    return shown


def test_each_change_is_a_line_and_the_end_comes_when_none_is_under_way(tmp_path: Path, dpd: Dpd) -> None:
    with deploying(tmp_path / "state") as (daemon, id):
        command = [
            sys.executable,
            "-m",
            "dpd",
            "deploy",
            "watch",
            "--until-done",
            "--json",
            "--socket",
            daemon.control_socket,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watcher:
            try:
                assert watcher.stdout is not None
                first = json.loads(watcher.stdout.readline())
                assert (first["id"], first["step"], first["state"]) == (id, "2.1", "running")
                assert (
                    dpd("deploy", "cancel", id, "--reason", "wrong room", "--socket", daemon.control_socket).code == 0
                )
                assert json.loads(watcher.stdout.readline())["cancel_reason"] == "wrong room"
                # The machine begins anew: what it ran is lost, and shown no more beside what it runs now.
                daemon.signal(signal.SIGTERM)
                assert daemon.wait_ended()[0] == 0
                book = open_book(tmp_path / "state")
                book.take_reports(id, [said(3, "", "cancelled", at=time.time())], time.time())
                book._database.close()
                with DaemonProcess(tmp_path / "state").ready():
                    out, errors = watcher.communicate(timeout=PATIENCE_S)
            finally:
                watcher.kill()
    assert json.loads(out.decode().splitlines()[-1])["state"] == "cancelled"
    assert watcher.returncode == 1
    assert b"waiting for it to come back" in errors


def test_on_a_terminal_there_is_a_table_that_lives_until_it_is_interrupted(tmp_path: Path, dpd: Dpd) -> None:
    with deploying(tmp_path / "state") as (daemon, id):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "dpd", "deploy", "watch", "--socket", daemon.control_socket]
        environment = os.environ | {"COLUMNS": "180", "LINES": "40", "TERM": "xterm"}
        with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment) as watcher:
            os.close(slave)
            try:
                shown = read_until(master, "1 running")
                assert "✓·▶·" in shown
                dpd("deploy", "cancel", id, "--socket", daemon.control_socket)
                read_until(master, "(to stop)")
                watcher.send_signal(signal.SIGINT)
                assert watcher.wait(PATIENCE_S) == 0
            finally:
                watcher.kill()
                os.close(master)


def test_a_daemon_that_does_not_run_is_told_at_once(dpd: Dpd, dead_socket: str) -> None:
    ended = dpd("deploy", "watch", "--socket", dead_socket)
    assert (ended.code, "does not run" in ended.err) == (1, True)


def test_where_nothing_is_under_way_the_end_is_at_once(asked: Dpd) -> None:
    assert asked("deploy", "watch", "--until-done").code == 0
