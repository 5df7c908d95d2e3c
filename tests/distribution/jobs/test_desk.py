# SPDX-License-Identifier: Apache-2.0
"""The desk: one job for one order, in the right order, tried as often as it should be, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.distribution.job_room import EPOCH, Desk, EightToTen

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.job import JobKind, JobOrder, JobPostponed, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.errors import ContentCorrupt, JobError, JobNotFound, LibraryFull, SourceUnavailable

DISTRIBUTE, UPDATE, REMOVE = JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REMOVE


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "distribution.db", settings=DistributionSettings(attempts=3, retry_interval_s=60.0))


class Failing:
    """Work that raises what it is given, then goes well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.runs: list[JobRun] = []

    def __call__(self, run: JobRun) -> None:
        self.runs.append(run)
        run.progress(len(self.runs) * 10, 100)
        if self.errors:
            raise self.errors.pop(0)


def with_work(made: Desk, work: Failing) -> Desk:
    made.work = dict.fromkeys(JobKind, work)
    made.restart()
    return made


def test_one_order_is_one_job_and_its_urgency_the_higher(made: Desk) -> None:
    first = made.desk.submit(JobOrder(DISTRIBUTE, "P1", None, Priority.LOW, actor="alice"))
    again = made.desk.submit(JobOrder(DISTRIBUTE, "P1", None, Priority.HIGH, actor="bob"))
    third = made.desk.submit(JobOrder(DISTRIBUTE, "P1", None, Priority.NORMAL))
    assert (first.id, again.id, third.id) == (1, 1, 1)
    assert (again.priority, third.priority, again.actor) == (Priority.HIGH, Priority.HIGH, "alice")
    others = [
        made.desk.submit(order).id
        for order in (
            JobOrder(DISTRIBUTE, "P1", 1),
            JobOrder(UPDATE, "P1"),
            JobOrder(DISTRIBUTE, "P2"),
            JobOrder(DISTRIBUTE, "P1", options={"source": "a"}),
        )
    ]
    assert others == [2, 3, 4, 5]
    assert made.told.names() == ["job.queued"] * 5
    made.work_off()
    assert made.desk.submit(JobOrder(DISTRIBUTE, "P1")).id == 6


def test_a_kind_that_nobody_does_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "d.db", {REMOVE: lambda run: None}).desk
    with pytest.raises(JobError, match="gc: not among what this distribution point does"):
        desk.submit(JobOrder(JobKind.GC))


def test_priority_goes_before_age(made: Desk) -> None:
    for package, priority in (("A", 3), ("B", 2), ("C", 1), ("D", 2), ("E", 1)):
        made.desk.submit(JobOrder(DISTRIBUTE, package, None, Priority(priority)))
    assert [job.package_id for job in made.desk.open_jobs()] == ["C", "E", "B", "D", "A"]
    turns = []
    while (run := made.desk.claim()) is not None:
        turns.append(run.job.package_id)
    assert turns == ["C", "E", "B", "D", "A"]


def test_age_is_by_number_also_where_the_clock_was_set_back(made: Desk) -> None:
    made.desk.submit(JobOrder(DISTRIBUTE, "A"))
    made.clock.wall -= 1e6
    made.desk.submit(JobOrder(DISTRIBUTE, "B"))
    run = made.desk.claim()
    assert run is not None
    assert run.job.package_id == "A"


def test_two_jobs_of_one_package_do_not_run_side_by_side(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    made.desk.submit(JobOrder(JobKind.VALIDATE, "A"))
    made.desk.submit(JobOrder(JobKind.GC))
    made.desk.submit(JobOrder(JobKind.DRAIN, options={"root": 1}))
    runs = [run for _ in range(4) if (run := made.desk.claim()) is not None]
    assert [run.job.kind for run in runs] == [UPDATE, JobKind.GC, JobKind.DRAIN]
    made.desk.perform(runs[0])
    assert (last := made.desk.claim()) is not None
    assert last.job.kind is JobKind.VALIDATE


def test_what_a_later_try_may_find_better_is_tried_again_and_the_time_is_told(made: Desk) -> None:
    work = Failing(SourceUnavailable("dp1: refused"), LibraryFull("no room"))
    with_work(made, work).desk.submit(JobOrder(DISTRIBUTE, "P1"))
    made.work_off()
    job = made.desk.find(1)
    assert (job.state, job.attempts, job.error, job.next_try_at) == (JobState.WAITING, 1, "dp1: refused", EPOCH + 60)
    made.clock.pass_by(59.9)
    assert made.work_off() == 0
    made.clock.pass_by(0.2)
    assert made.work_off() == 1
    job = made.desk.find(1)
    assert (job.state, job.attempts, job.error) == (JobState.WAITING, 2, "no room")
    assert job.next_try_at == pytest.approx(made.clock.wall + 120)
    made.clock.pass_by(120.1)
    made.work_off()
    job = made.desk.find(1)
    assert (job.state, job.attempts, job.error, job.done_bytes) == (JobState.DONE, 3, "", 30)
    assert made.told.names() == [
        "job.queued",
        *["job.running", "job.waiting"] * 2,
        "job.running",
        "job.done",
    ]


def test_after_the_last_try_it_has_failed_and_says_so(made: Desk) -> None:
    with_work(made, Failing(*[SourceUnavailable("no source")] * 9)).desk.submit(JobOrder(DISTRIBUTE, "P1"))
    for _ in range(5):
        made.work_off()
        made.clock.pass_by(3700)
    job = made.desk.find(1)
    assert (job.state, job.attempts) == (JobState.FAILED, 3)
    assert job.error == "no source (given up after 3 tries)"
    assert made.desk.open_jobs() == []
    again = made.desk.retry(1, "alice")
    assert (again.id, again.state, again.attempts, again.actor) == (2, JobState.QUEUED, 0, "alice")


def test_what_no_later_try_finds_better_fails_at_once(made: Desk) -> None:
    with_work(made, Failing(ContentCorrupt("P1: not signed"), ValueError("bug"))).desk.submit(JobOrder(DISTRIBUTE, "A"))
    made.desk.submit(JobOrder(DISTRIBUTE, "B"))
    made.work_off()
    assert (made.desk.find(1).state, made.desk.find(1).error) == (JobState.FAILED, "P1: not signed")
    assert (made.desk.find(2).state, made.desk.find(2).error) == (
        JobState.FAILED,
        "a fault inside dpd; its log has the details",
    )


def test_a_job_that_was_put_off_has_not_been_tried(made: Desk) -> None:
    with_work(made, Failing(*[JobPostponed("no source has it yet", 1800.0)] * 5)).desk.submit(JobOrder(UPDATE, "A"))
    for _ in range(5):
        assert made.work_off() == 1
        job = made.desk.find(1)
        assert (job.state, job.attempts, job.message) == (JobState.WAITING, 0, "no source has it yet")
        assert job.next_try_at == made.clock.wall + 1800
        made.clock.pass_by(1800)
    made.work_off()
    assert made.desk.find(1).state is JobState.DONE


def test_the_next_try_holds_when_the_wall_clock_is_set(made: Desk) -> None:
    with_work(made, Failing(SourceUnavailable("x"))).desk.submit(JobOrder(UPDATE, "A"))
    made.work_off()
    made.clock.wall -= 86400.0
    assert made.desk.find(1).next_try_at == pytest.approx(made.clock.wall + 60)
    made.clock.pass_by(60)
    assert made.work_off() == 1


def test_a_clock_set_back_while_dpd_was_off_holds_nobody_for_long(made: Desk) -> None:
    with_work(made, Failing(SourceUnavailable("x"))).desk.submit(JobOrder(UPDATE, "A"))
    made.work_off()
    made.clock.wall -= 365 * 86400.0
    made.restart()
    made.clock.pass_by(3600)
    assert made.work_off() == 1


def test_who_waits_or_failed_may_be_told_to_try_now(made: Desk) -> None:
    with_work(made, Failing(SourceUnavailable("x"))).desk.submit(JobOrder(UPDATE, "A"))
    made.work_off()
    assert made.desk.retry(1).state is JobState.QUEUED
    assert made.desk.retry(1).state is JobState.QUEUED
    assert made.work_off() == 1
    with pytest.raises(JobError, match=r"job 1 \(update A\): is done; nothing to try again"):
        made.desk.retry(1)
    with pytest.raises(JobNotFound, match="no job 7"):
        made.desk.retry(7)


def test_a_queued_job_is_cancelled_at_once_and_only_once(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    job = made.desk.cancel(1, "alice")
    assert (job.state, job.message, job.ended_at) == (JobState.CANCELLED, "cancelled by alice", EPOCH)
    assert made.desk.cancel(1, "bob") == job
    assert made.work_off() == 0
    made.desk.submit(JobOrder(UPDATE, "A"))
    made.work_off()
    with pytest.raises(JobError, match=r"job 2 \(update A\): has ended already, it is done"):
        made.desk.cancel(2)


def test_a_running_job_that_is_cancelled_stops_at_its_next_piece(made: Desk) -> None:
    pieces = []

    def work(run: JobRun) -> None:
        for piece in range(10):
            run.check()
            pieces.append(piece)
            if piece == 3:
                stopping = made.desk.cancel(1, "alice")
                assert (stopping.state, stopping.stopping) == (JobState.RUNNING, "cancelled by alice")
                assert made.desk.cancel(1).stopping == "cancelled by alice"

    made.work = {UPDATE: work}
    made.restart().submit(JobOrder(UPDATE, "A"))
    made.work_off()
    assert pieces == [0, 1, 2, 3]
    job = made.desk.find(1)
    assert (job.state, job.message, job.stopping) == (JobState.CANCELLED, "cancelled by alice", "")
    assert made.told.names() == ["job.queued", "job.running", "job.cancelling", "job.cancelled"]


def test_what_was_done_before_it_could_be_cancelled_is_done(made: Desk) -> None:
    def work(run: JobRun) -> None:
        made.desk.cancel(1)

    made.work = {UPDATE: work}
    made.restart().submit(JobOrder(UPDATE, "A"))
    made.work_off()
    assert (made.desk.find(1).state, made.desk.find(1).message) == (
        JobState.DONE,
        "was done before it could be cancelled",
    )


def test_a_cancelled_job_whose_source_fails_just_then_is_not_tried_again(made: Desk) -> None:
    def work(run: JobRun) -> None:
        made.desk.cancel(1)
        raise SourceUnavailable("gone")

    made.work = {UPDATE: work}
    made.restart().submit(JobOrder(UPDATE, "A"))
    made.work_off()
    assert made.desk.find(1).state is JobState.CANCELLED


def test_who_orders_what_is_being_cancelled_gets_a_new_job(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    run = made.desk.claim()
    assert run is not None
    made.desk.cancel(1)
    assert made.desk.submit(JobOrder(UPDATE, "A")).id == 2
    assert made.desk.claim() is None
    made.desk.perform(run)
    assert made.desk.find(1).state is JobState.CANCELLED
    assert made.work_off() == 1
    assert made.desk.find(2).state is JobState.DONE


def test_the_last_word_about_a_package_holds(made: Desk) -> None:
    made.desk.submit(JobOrder(DISTRIBUTE, "A"))
    made.desk.submit(JobOrder(UPDATE, "A"))
    running = made.desk.claim()
    assert running is not None
    removal = made.desk.submit(JobOrder(REMOVE, "A"))
    assert made.desk.find(1).stopping == f"overtaken by {removal}"
    assert made.desk.find(2).state is JobState.CANCELLED
    made.desk.perform(running)
    assert made.desk.find(1).state is JobState.CANCELLED
    back = made.desk.submit(JobOrder(DISTRIBUTE, "A"))
    assert made.desk.find(removal.id).state is JobState.CANCELLED
    assert [job.id for job in made.desk.open_jobs()] == [back.id]


def test_one_version_out_does_not_stop_the_newest_from_coming(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    made.desk.submit(JobOrder(DISTRIBUTE, "A", 2))
    made.desk.submit(JobOrder(REMOVE, "A", 1))
    made.desk.submit(JobOrder(REMOVE, "A", 2))
    assert [job.state for job in map(made.desk.find, (1, 2, 3, 4))] == ["queued", "cancelled", "queued", "queued"]


def test_kill_9_in_each_state_loses_and_doubles_nothing(made: Desk) -> None:
    with_work(made, Failing(SourceUnavailable("x"))).desk.submit(JobOrder(UPDATE, "waits"))
    made.work_off()
    for package in ("runs", "is stopping", "is queued"):
        made.desk.submit(JobOrder(UPDATE, package))
    assert made.desk.claim() is not None
    assert made.desk.claim() is not None
    made.desk.cancel(3)
    made.desk.submit(JobOrder(UPDATE, "was cancelled"))
    made.desk.cancel(5)
    made.restart()
    states = [(job.state, job.attempts) for job in map(made.desk.find, range(1, 6))]
    assert states == [("waiting", 1), ("queued", 1), ("cancelled", 1), ("queued", 0), ("cancelled", 0)]
    assert made.desk.find(2).message == "goes on after a restart of dpd"
    assert made.desk.submit(JobOrder(UPDATE, "runs")).id == 2
    assert made.work_off() == 2
    made.clock.pass_by(60)
    assert made.work_off() == 1
    assert [made.desk.find(id).state for id in range(1, 6)] == ["done", "done", "cancelled", "done", "cancelled"]


def test_a_job_that_ends_dpd_each_time_fails(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    for _ in range(3):
        assert made.desk.claim() is not None
        made.restart()
    job = made.desk.find(1)
    assert (job.state, job.error) == (JobState.FAILED, "dpd ended during each of its 3 tries")


def test_a_drain_lets_jobs_stop_and_the_next_start_goes_on(made: Desk) -> None:
    def work(run: JobRun) -> None:
        run.progress(40, 100)
        made.desk.drain()
        run.check()

    made.work = {UPDATE: work}
    made.restart().submit(JobOrder(UPDATE, "A"))
    made.desk.submit(JobOrder(UPDATE, "B"))
    assert made.work_off() == 1
    job = made.restart().find(1)
    assert (job.state, job.attempts, job.done_bytes) == (JobState.QUEUED, 0, 40)
    made.work = {UPDATE: lambda run: None}
    made.restart()
    assert made.work_off() == 2


def test_maintenance_holds_back_new_content_alone_and_survives_a_restart(made: Desk) -> None:
    made.desk.set_maintenance("disks are changed")
    made.restart()
    for kind in JobKind:
        made.desk.submit(JobOrder(kind, "P-" + kind))
    held = {job.kind: job for job in made.desk.open_jobs() if job.state is JobState.WAITING}
    assert set(held) == {DISTRIBUTE, UPDATE, JobKind.REDISTRIBUTE, JobKind.IMPORT}
    assert held[UPDATE].message == "maintenance: disks are changed"
    assert made.work_off() == 5
    made.desk.set_maintenance("")
    assert made.work_off() == 4
    assert made.told.names("maintenance") == ["maintenance.on", "maintenance.off"]


def test_maintenance_stops_a_pull_where_it_is(made: Desk) -> None:
    def work(run: JobRun) -> None:
        run.progress(30, 100)
        made.desk.set_maintenance("now")
        run.check()

    made.work = {UPDATE: work, JobKind.VALIDATE: lambda run: None}
    made.restart().submit(JobOrder(UPDATE, "A"))
    assert made.work_off() == 1
    job = made.desk.find(1)
    assert (job.state, job.message, job.attempts, job.done_bytes) == (JobState.WAITING, "maintenance: now", 0, 30)


def test_out_of_hours_only_what_may_is_pulled_and_the_rest_waits_for_them(tmp_path: Path) -> None:
    made = Desk(tmp_path / "d.db", gate=EightToTen())
    made.clock.wall = EPOCH - EPOCH % 86400 + 7 * 3600
    made.desk.submit(JobOrder(UPDATE, "A"))
    made.desk.submit(JobOrder(UPDATE, "B", None, Priority.HIGH))
    made.desk.submit(JobOrder(REMOVE, "C"))
    assert made.work_off() == 2
    (job,) = made.desk.open_jobs()
    assert (job.package_id, job.state, job.next_try_at) == ("A", JobState.WAITING, made.clock.wall + 3600)
    assert job.message == "the hours are closed for priority normal"
    made.desk.submit(JobOrder(UPDATE, "A", None, Priority.HIGH))
    assert made.work_off() == 1


def test_a_pull_stops_when_its_hours_end(tmp_path: Path) -> None:
    made = Desk(tmp_path / "d.db", gate=EightToTen())
    made.clock.wall = EPOCH - EPOCH % 86400 + 9 * 3600
    pieces = 0

    def work(run: JobRun) -> None:
        nonlocal pieces
        for _ in range(100):
            run.check()
            pieces += 1
            made.clock.pass_by(120)

    made.work = {UPDATE: work}
    made.restart().submit(JobOrder(UPDATE, "A"))
    made.work_off()
    assert pieces == 30
    assert made.desk.find(1).state is JobState.WAITING
    made.clock.pass_by(22 * 3600)
    made.work_off()
    assert pieces == 30 + 60


def test_a_full_disk_loses_no_outcome(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    run = made.desk.claim()
    assert run is not None

    def full(job: object) -> None:
        raise LibraryFull("distribution.db: the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(made.store, "write", full)
        made.desk.perform(run)
        assert made.desk.find(1).state is JobState.DONE
        with pytest.raises(LibraryFull):
            made.desk.submit(JobOrder(UPDATE, "B"))
        with pytest.raises(LibraryFull):
            made.desk.claim()
    assert made.desk.submit(JobOrder(UPDATE, "A")).id == 2
    assert made.restart().find(1).state is JobState.DONE


def test_a_disk_that_is_really_full_refuses_orders_and_forgets_nothing(made: Desk) -> None:
    made.desk.submit(JobOrder(UPDATE, "A"))
    run = made.desk.claim()
    assert run is not None
    (pages,) = made.database.rows("PRAGMA page_count")[0]
    made.database.rows(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(1000):
            made.desk.submit(JobOrder(UPDATE, f"P{number}" + "x" * 50))

    with pytest.raises(LibraryFull, match=r"distribution\.db: the disk is full; make room there"):
        fill()
    accepted = len(made.desk.open_jobs())
    assert 1 < accepted < 1000
    made.desk.perform(run)
    assert made.desk.find(run.job.id).state is JobState.DONE
    made.database.rows("PRAGMA max_page_count = 1000000")
    assert made.desk.submit(JobOrder(UPDATE, "room again")).id == accepted + 1
    made.restart()
    assert made.desk.find(run.job.id).state is JobState.DONE
    assert len(made.desk.open_jobs()) == accepted


class CountingGate(EightToTen):
    """How often it is asked."""

    asked = 0

    def allows(self, priority: Priority, at: float) -> bool:
        self.asked += 1
        return super().allows(priority, at)


def test_many_held_jobs_are_not_looked_at_one_by_one(tmp_path: Path) -> None:
    """The store of an order is a transaction each, so a hundred stand for ten thousand."""
    gate = CountingGate()
    made = Desk(tmp_path / "d.db", gate=gate)
    made.clock.wall += 12 * 3600 - EPOCH % 86400  # closed
    for number in range(100):
        made.desk.submit(JobOrder(DISTRIBUTE, f"P{number}"))
    made.desk.submit(JobOrder(REMOVE, "Q"))
    gate.asked = 0
    run = made.desk.claim()
    assert run is not None
    assert run.job.package_id == "Q"
    assert made.desk.claim() is None
    standing = made.desk.standing()
    assert {state: each.jobs for state, each in standing.items()} == {
        JobState.RUNNING: 1,
        JobState.QUEUED: 0,
        JobState.WAITING: 100,
    }
    assert len(made.desk.open_jobs()) == 101
    made.desk.wait(made.desk.news, 0.0)
    assert gate.asked < 10


def test_a_retry_still_knows_for_whom_it_is_made(made: Desk) -> None:
    """Over a failure, a restart and an operator's new try: who asked us must not be asked by us."""
    work, via = Failing(SourceUnavailable("gone"), SourceUnavailable("gone"), ContentCorrupt("damaged")), ("a" * 32,)
    with_work(made, work)
    job = made.desk.submit(JobOrder(DISTRIBUTE, "P1", via=via))
    made.work_off()
    made.clock.pass_by(61)
    made.work_off()
    made.restart()
    made.clock.pass_by(121)
    made.work_off()
    assert made.desk.find(job.id).state is JobState.FAILED
    made.desk.retry(job.id, "bob")
    made.work_off()
    assert [run.job.via for run in work.runs] == [via] * 4
