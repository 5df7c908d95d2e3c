# SPDX-License-Identifier: Apache-2.0
"""The book of executions: what it keeps, over kills and doubles and gaps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.deployment.executions import Ears, begin, open_book, said

from dpd.deployment.execution import ExecutionState, StepState
from dpd.deployment.execution_book import KEPT_S, MAX_REPORTS, RESTART_S, RUN_TIME_S, SILENT_S
from dpd.deployment.execution_table import Wanted
from dpd.errors import DeploymentDiskFull, DeploymentError, ExecutionNotFound
from dpd.sequence.exchange import Receipt

PATIENCE_S = 60.0


def test_an_execution_is_there_from_its_beginning_with_all_of_its_steps(tmp_path: Path) -> None:
    ears = Ears()
    book = open_book(tmp_path, ears)
    id = begin(book)
    execution = book.find(id)
    assert (execution.machine, execution.computer, execution.sequence, execution.version) == (
        "pc-1",
        "PC-1",
        "debian",
        3,
    )
    assert [(step.id, step.state) for step in execution.steps] == [(each, StepState.WAITING) for each in ("1", "2", "2.1", "2.2")]  # fmt: skip
    assert book.list() == book.open_executions() == [execution]
    assert ears.events == ["deployment.started"]
    assert ears.told[0][1]["computer"] == "PC-1"


def test_reports_are_taken_in_their_order_up_to_the_first_gap_and_once(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    one, two, three, five = (said(n, "1", "progress", f"word {n}") for n in (1, 2, 3, 5))
    assert book.take_reports(id, [one, two], 1010.0) == Receipt(3)
    assert book.take_reports(id, [one, two, three, five], 1011.0) == Receipt(4)
    assert book.take_reports(id, [one], 1012.0) == Receipt(4)
    assert [each.message for each in book.reports(id)] == ["word 1", "word 2", "word 3"]
    assert [each.number for each in book.reports(id, after=2)] == [3]


def test_what_was_confirmed_is_there_after_a_restart_and_what_was_not_may_come_again(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(1, "1", "started"), said(2, "1", "done"), said(3, "2.1", "started", "applies")], 1010.0)
    again = open_book(tmp_path)
    assert again.find(id) == book.find(id)
    assert again.open_executions() == book.open_executions()
    assert again.take_reports(id, [said(3, "2.1", "started"), said(4, "2.1", "done")], 1020.0) == Receipt(5)


def test_progress_is_seen_at_once_and_costs_no_write(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(1, "2.1", "started")], 1010.0)
    before = (tmp_path / "deployment.db-wal").stat().st_size
    for done in range(1, 2000):
        report = said(0, "2.1", "progress", f"{done} of 2000", done_bytes=done, total_bytes=2000, rate_bit_s=1_000_000)
        assert book.take_reports(id, [report], 1010.0 + done) == Receipt(2)
    step = book.find(id).find_step("2.1")
    assert step is not None
    assert (step.done_bytes, step.message) == (1999, "1999 of 2000")
    assert (tmp_path / "deployment.db-wal").stat().st_size == before
    book.take_reports(id, [said(2, "2.1", "failed", "no room")], 4000.0)
    (written,) = [each for each in open_book(tmp_path).find(id).steps if each.id == "2.1"]
    assert (written.done_bytes, written.state) == (1999, StepState.FAILED)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.booleans(), st.booleans()), max_size=25))
def test_none_is_lost_and_none_counts_twice_whatever_becomes_of_requests_answers_and_the_daemon(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, int, bool, bool]]
) -> None:
    """A target sends from some confirmed number on; the answer may be lost, and the daemon may begin anew from its file."""
    folder = tmp_path_factory.mktemp("book")
    book = open_book(folder)
    id = begin(book)
    confirmed = taken = 0
    for back, count, is_answer_lost, is_restarted in calls:
        start = max(1, confirmed + 1 - back)
        reports = [said(number, "1", "progress", f"word {number}") for number in range(start, start + count)]
        receipt = book.take_reports(id, reports, 1100.0)
        taken = max(taken, start + count - 1)
        assert receipt.next == taken + 1
        confirmed = confirmed if is_answer_lost else receipt.next - 1
        book = open_book(folder) if is_restarted else book
    assert [each.message for each in book.reports(id)] == [f"word {number}" for number in range(1, taken + 1)]


def test_what_was_confirmed_outlives_a_kill(tmp_path: Path) -> None:
    """A process of its own takes reports and says each number that it confirmed, until it is killed."""
    writer = Path(__file__).with_name("killed_book.py")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'src'}"}
    process = subprocess.Popen([sys.executable, writer, tmp_path], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    confirmed = [process.stdout.readline().strip() for _ in range(50)][-1]
    process.send_signal(signal.SIGKILL)
    confirmed = (process.stdout.read().split() or [confirmed])[-1]
    process.wait(PATIENCE_S)
    process.stdout.close()
    book = open_book(tmp_path)
    numbers = [each.number for each in book.reports(id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= int(confirmed)
    assert book.find(id).reported == len(numbers)


def test_many_targets_at_once_lose_nothing(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    ids = [begin(book, f"pc-{number}") for number in range(8)]

    def run(id: str) -> None:
        for number in range(1, 41):
            assert book.take_reports(id, [said(number, "1", "progress")], 1100.0).next == number + 1
        book.take_reports(id, [said(41, "", "sequence_done")], 1200.0)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, ids))
    assert [len(book.reports(id)) for id in ids] == [41] * 8
    assert book.open_executions() == []
    assert {each.state for each in book.list()} == {ExecutionState.DONE}


def test_a_target_that_is_told_to_stop_hears_it_until_it_says_that_it_has(tmp_path: Path) -> None:
    ears = Ears()
    book = open_book(tmp_path, ears)
    id = begin(book)
    assert book.cancel(id, "wrong room", "alice").cancel_reason == "wrong room"
    assert book.cancel(id, "another", "bob").cancel_actor == "alice"
    assert book.take_reports(id, [said(0, "1", "progress")], 1010.0) == Receipt(1, "wrong room")
    assert open_book(tmp_path).take_reports(id, [], 1011.0) == Receipt(1, "wrong room")
    assert book.take_reports(id, [said(1, "", "cancelled")], 1012.0) == Receipt(2)
    with pytest.raises(DeploymentError, match="has ended as cancelled"):
        book.cancel(id, "again", "alice")
    assert ears.events == ["deployment.started", "deployment.cancelling", "deployment.cancelled"]


def test_a_machine_that_begins_anew_loses_what_it_ran_before(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    first, other = begin(book), begin(book, "pc-2")
    second = begin(book, at=2000.0)
    assert (book.find(first).state, book.find(first).error) == (ExecutionState.LOST, "PC-1 began anew")
    assert book.take_reports(first, [said(1, "1", "started")], 2001.0) == Receipt(2, "PC-1 began anew")
    assert {each.id for each in book.open_executions()} == {other, second}
    assert [each.id for each in book.list(Wanted(machine="PC-1"))] == [second, first]


def test_silence_is_told_once_then_it_is_given_up_then_it_may_come_back(tmp_path: Path) -> None:
    ears = Ears()
    book = open_book(tmp_path, ears)
    id = begin(book)
    book.take_reports(id, [said(1, "2.1", "started")], 1010.0)
    book.look_over(1010.0 + SILENT_S)
    assert ears.events == ["deployment.started"]
    book.look_over(1011.0 + SILENT_S)
    book.look_over(1012.0 + SILENT_S)
    assert ears.events[1:] == ["deployment.silent"]
    assert book.find(id).is_silent
    book.take_reports(id, [said(0, "2.1", "progress")], 1400.0)
    assert ears.events[2:] == ["deployment.heard_again"]
    book.look_over(1000.0 + RUN_TIME_S + 1.0)
    assert book.find(id).state is ExecutionState.LOST
    book.take_reports(id, [said(2, "2.1", "done")], 9000.0)
    assert book.find(id).is_open
    assert ears.events[3:] == ["deployment.lost", "deployment.heard_again"]


def test_a_machine_that_talks_is_not_given_up_when_its_time_is_over(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(0, "1", "progress")], 1000.0 + RUN_TIME_S)
    book.look_over(1000.0 + RUN_TIME_S + 10.0)
    assert book.find(id).state is ExecutionState.RUNNING


def test_a_sign_of_life_without_a_word_is_heard_and_one_of_an_ended_machine_is_not_written(tmp_path: Path) -> None:
    ears = Ears()
    book = open_book(tmp_path, ears)
    id = begin(book)
    book.look_over(1001.0 + SILENT_S)
    assert book.take_reports(id, [], 1400.0) == Receipt(1)
    assert not book.find(id).is_silent
    book.look_over(1001.0 + RUN_TIME_S)
    assert book.find(id).state is ExecutionState.LOST
    assert book.take_reports(id, [], 9000.0) == Receipt(1)
    assert book.find(id).is_open
    assert ears.events[1:] == [
        "deployment.silent",
        "deployment.heard_again",
        "deployment.lost",
        "deployment.heard_again",
    ]
    book.take_reports(id, [said(1, "", "sequence_done")], 9001.0)
    revision = book.revision
    assert book.take_reports(id, [], 9100.0) == Receipt(2)
    assert book.revision == revision


def test_a_machine_that_restarts_may_take_longer(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(1, "2.2", "restarting")], 1010.0)
    book.look_over(1010.0 + RESTART_S)
    assert not book.find(id).is_silent
    book.look_over(1011.0 + RESTART_S)
    assert book.find(id).is_silent


def test_while_dpd_was_not_there_nobody_was_silent(tmp_path: Path) -> None:
    id = begin(open_book(tmp_path))
    book = open_book(tmp_path, opened_at=90000.0)
    book.look_over(90000.0 + SILENT_S)
    assert book.find(id).is_open
    assert not book.find(id).is_silent


def test_followers_get_what_changed_since_they_looked(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    news: list[int] = []
    book.at_change = lambda: news.append(book.revision)
    first, second = begin(book, "pc-1"), begin(book, "pc-2")
    revision, changed = book.changed(0)
    assert [each.id for each in changed] == [first, second]
    assert book.changed(revision) == (revision, [])
    book.take_reports(first, [said(0, "1", "progress")], 1010.0)
    book.take_reports(second, [said(1, "", "sequence_done")], 1010.0)
    later, changed = book.changed(revision)
    assert [(each.id, each.state) for each in changed] == [(first, "running"), (second, "done")]
    assert news == list(range(1, later + 1))


def test_what_ended_long_ago_is_forgotten_but_the_last_of_each_machine(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    ids = [begin(book, at=1000.0 + number) for number in range(3)]
    assert list(book.look_over(2000.0)) == []
    assert list(book.look_over(1010.0 + KEPT_S)) == ids[:2]
    with pytest.raises(ExecutionNotFound, match=f"no execution {ids[0]}; `dpd deploy list`"):
        book.find(ids[0])
    with pytest.raises(ExecutionNotFound):
        book.reports(ids[1])
    assert [each.id for each in book.list()] == [ids[2]]


def test_nobody_fills_the_disk_with_reports(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.take_reports(id, [said(number, "1", "progress") for number in range(1, MAX_REPORTS + 1)], 1010.0)
    with pytest.raises(DeploymentError, match="more than 20000 reports"):
        book.take_reports(id, [said(MAX_REPORTS + 1, "1", "progress")], 1011.0)
    assert book.find(id).reported == MAX_REPORTS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("missing: root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_told_and_what_it_did_not_take_is_taken_when_there_is_room(small_disk: Path) -> None:
    book = open_book(small_disk)
    id = begin(book)
    somebody = small_disk / "somebody"
    status = os.statvfs(small_disk)
    somebody.write_bytes(bytes(status.f_bavail * status.f_frsize - 40 * 4096))
    number = 1

    def fill() -> None:
        nonlocal number
        while number < 1000:
            book.take_reports(id, [said(number, "1", "progress", "x" * 1000)], 1010.0)
            number += 1

    with pytest.raises(DeploymentDiskFull, match="the disk is full"):
        fill()
    assert book.write_failures == 1
    assert book.find(id).reported == number - 1
    assert book.take_reports(id, [said(0, "1", "progress")], 1011.0) == Receipt(number)
    somebody.unlink()
    assert book.take_reports(id, [said(number, "1", "progress", "at last")], 1012.0) == Receipt(number + 1)
    again = open_book(small_disk)
    assert [each.number for each in again.reports(id)] == list(range(1, number + 1))
    for each in (book, again):
        each._database.close()


def test_reports_of_nobody_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExecutionNotFound, match="no execution beef"):
        open_book(tmp_path).take_reports("beef", [said(1, "1", "started")], 1010.0)


def test_the_size_of_a_log_is_noted(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    id = begin(book)
    book.note_log(id, 4096)
    assert open_book(tmp_path).find(id).log_bytes == 4096
