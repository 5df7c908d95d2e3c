# SPDX-License-Identifier: Apache-2.0
"""`dpd deploy` against a running daemon that has a book."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd, Ended
from tests.daemon_process import DaemonProcess
from tests.deployment.executions import begin, open_book, said

from dpd.deployment.deployment_logs import DeploymentLogs


@dataclass(frozen=True, slots=True)
class Book:
    """What the daemon found: one that failed and left a log, one that was done before that, one under way."""

    socket: str
    failed: str
    done: str
    running: str


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    folder = tmp_path_factory.mktemp("book")
    written, now = open_book(folder, opened_at=time.time()), time.time()
    done = begin(written, "pc-1", at=now - 500)
    written.take_reports(done, [said(1, "", "sequence_done", at=now - 375)], now - 375)
    failed = begin(written, "pc-1", at=now - 300)
    reports = [said(1, "1", "done", at=now - 290), said(2, "2.2", "failed", "no EFI partition", at=now - 280), said(3, "", "sequence_failed", at=now - 280)]  # fmt: skip
    written.take_reports(failed, reports, now - 280)
    written.note_log(failed, DeploymentLogs(folder / "deployment-logs").keep(failed, b"grub-install: error\n"))
    running = begin(written, "pc-2", at=now, deployment=8)
    written.take_reports(running, [said(1, "2.1", "started", "by multicast", at=now)], now)
    with DaemonProcess(folder).ready() as daemon:
        yield Book(daemon.control_socket, failed, done, running)


@pytest.fixture
def deploy(book: Book, dpd: Dpd) -> Callable[..., Ended]:
    return lambda *arguments: dpd("deploy", *arguments, "--socket", book.socket)


def test_machines_are_listed_the_newest_first_and_by_what_is_asked(deploy: Dpd, book: Book) -> None:
    lines = deploy("list").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [book.running, book.failed, book.done]
    assert "debian@3" in lines[2]
    assert "no EFI partition" in lines[2]
    for option, value, ids in (
        ("--state", "failed", [book.failed]),
        ("--state", "open", [book.running]),
        ("--machine", "PC-1", [book.failed, book.done]),
        ("--deployment", "8", [book.running]),
        ("--limit", "1", [book.running]),
    ):
        assert [each["id"] for each in deploy("list", option, value, "--json").json["executions"]] == ids


def test_a_computers_history_is_its_own(deploy: Dpd, book: Book) -> None:
    assert [each["state"] for each in deploy("history", "PC-1", "--json").json["executions"]] == ["failed", "done"]
    assert "2 min 5 s" in deploy("history", "PC-1").out
    assert deploy("history", "PC-9").out == "Nothing has been deployed to PC-9.\n"


def test_one_is_shown_with_its_steps_and_what_to_try_by_its_digits_or_its_machine(deploy: Dpd, book: Book) -> None:
    shown = deploy("show", "PC-1")
    assert shown.out == deploy("show", book.failed).out
    assert "no EFI partition" in shown.out
    assert f"`dpd deploy log {book.failed}` shows its log." in shown.out
    assert "install_boot_loader" in shown.out
    said_all = deploy("show", book.failed, "--reports", "--json").json
    assert [each["state"] for each in said_all["reports"]] == ["done", "failed", "sequence_failed"]
    assert "sequence_failed" in deploy("show", book.failed, "--reports").out


def test_its_log_is_printed_as_it_came(deploy: Dpd, book: Book) -> None:
    assert deploy("log", "PC-1").out == "grub-install: error\n"
    assert deploy("log", book.failed, "--json").json == {"execution": book.failed, "text": "grub-install: error\n"}
    without = deploy("log", "PC-2")
    assert (without.code, "left no log" in without.err) == (1, True)


def test_one_is_told_to_stop(deploy: Dpd, book: Book) -> None:
    told = deploy("cancel", "PC-2", "--reason", "wrong room")
    assert told.out.startswith("PC-2 is told to stop: wrong room")
    assert "Told to stop" in deploy("show", book.running).out
    ended = deploy("cancel", book.done)
    assert (ended.code, "has ended as done" in ended.err) == (1, True)


def test_nothing_was_captured_and_that_is_said(deploy: Dpd) -> None:
    assert deploy("captures", "--json").json == {"captures": []}
    assert deploy("captures").out.startswith("Nothing has been captured")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "f" * 16), 1, "no execution"),
        (("show", "PC-9"), 2, "no machine that was deployed"),
        (("list", "--state", "asleep"), 1, "state: Invalid enum value 'asleep'; expected one of open, ended, running"),
    ],
)
def test_what_is_not_there_is_told(deploy: Dpd, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = deploy(*arguments)
    assert ended.code == code
    assert words in ended.err


def test_a_group_cannot_be_watched(dpd: Dpd) -> None:
    ended = dpd("--group", "all", "deploy", "watch")
    assert (ended.code, "`dpd --site deploy watch` has all points'" in ended.err) == (1, True)


def test_where_nothing_was_deployed_the_next_step_is_told(asked: Dpd) -> None:
    assert "`dpd deployment add --sequence NAME`" in asked("deploy", "list").out


def test_the_command_is_described(dpd: Dpd, tmp_path: Path) -> None:
    for command in ("watch", "list", "show", "history", "log", "cancel", "captures"):
        assert f"Example: dpd deploy {command}" in dpd("deploy", command, "--help").out
