# SPDX-License-Identifier: Apache-2.0
"""Whatever is ordered, cancelled, failed, put off and restarted, in whatever order: no job is lost, doubled or untrue."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.distribution.job_room import Desk

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.job import BRINGING, OPEN, Job, JobKind, JobOrder, JobPostponed, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.errors import ContentError, JobError, SourceUnavailable

ATTEMPTS = 3
KINDS = [JobKind.DISTRIBUTE, JobKind.UPDATE, JobKind.REMOVE, JobKind.VALIDATE]
RESULTS = {
    "goes well": None,
    "source is gone": SourceUnavailable("gone"),
    "is not signed": ContentError("not signed"),
    "is put off": JobPostponed("later", 300.0),
}
ENDS = {"job.done", "job.failed", "job.cancelled"}


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dpd-jobs-"))
        self.result: Exception | None = None
        self.made = Desk(
            self.folder / "d.db",
            dict.fromkeys(KINDS, self.work),
            DistributionSettings(attempts=ATTEMPTS, retry_interval_s=10.0),
        )
        self.orders: dict[int, JobOrder] = {}
        self.ended: dict[int, JobState] = {}
        self.runs: list[JobRun] = []

    def work(self, run: JobRun) -> None:
        run.check()
        if self.result is not None:
            raise self.result

    def teardown(self) -> None:
        """With time, an end of maintenance and sources that are there, everything comes to its end."""
        try:
            self.made.desk.set_maintenance("")
            self.perform_all("goes well")
            for _ in range(3):
                self.made.clock.pass_by(3601)
                self.result = None
                self.made.work_off()
            assert self.made.desk.open_jobs() == []
            ends = Counter(fields["job"] for name, fields in self.made.told.events if name in ENDS)
            assert ends == dict.fromkeys(self.orders, 1)
        finally:
            self.made.database.close()
            shutil.rmtree(self.folder)

    @rule(
        kind=st.sampled_from(KINDS),
        package=st.sampled_from(["A", "B"]),
        version=st.sampled_from([None, 1]),
        priority=st.sampled_from(Priority),
    )
    def submit(self, kind: JobKind, package: str, version: int | None, priority: Priority) -> None:
        order = JobOrder(kind, package, version, priority)
        before = {job.id: job for job in self.made.desk.open_jobs()}
        job = self.made.desk.submit(order)
        assert (job.kind, job.package_id, job.source_version) == (kind, package, version)
        same = [each.id for each in before.values() if not each.stopping and same_order(each, order)]
        if same:
            assert same == [job.id]
            assert job.priority == min(before[job.id].priority, priority)
        else:
            assert job.id == len(self.orders) + 1
            self.orders[job.id] = order

    @rule()
    def claim(self) -> None:
        ready = [job for job in self.made.desk.open_jobs() if job.state is JobState.QUEUED]
        busy = {run.job.package_id for run in self.runs}
        ready = [job for job in ready if job.package_id not in busy]
        run = self.made.desk.claim()
        if run is None:
            assert ready == []
            return
        assert run.job.id == min(ready, key=lambda job: (job.priority, job.id)).id
        self.runs.append(run)

    @precondition(lambda self: self.runs)
    @rule(result=st.sampled_from(sorted(RESULTS)), which=st.integers(0, 3))
    def perform(self, result: str, which: int) -> None:
        run = self.runs.pop(which % len(self.runs))
        stopping = bool(self.made.desk.find(run.job.id).stopping)
        self.result = RESULTS[result]
        job = self.made.desk.perform(run)
        if stopping:
            assert job.state is JobState.CANCELLED
        elif result == "goes well" and not self.made.maintenance.reason:
            assert job.state in (JobState.DONE, JobState.QUEUED)  # queued: maintenance came and went meanwhile
        elif result == "is not signed" and not self.made.maintenance.reason:
            assert job.state in (JobState.FAILED, JobState.QUEUED)

    def perform_all(self, result: str) -> None:
        while self.runs:
            self.perform(result, 0)

    @precondition(lambda self: self.orders)
    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        id = which % len(self.orders) + 1
        was = self.made.desk.find(id)
        try:
            job = self.made.desk.cancel(id)
        except JobError:
            assert was.state in (JobState.DONE, JobState.FAILED)
            return
        assert job.state is JobState.CANCELLED or (job.state is JobState.RUNNING and job.stopping)

    @precondition(lambda self: self.orders)
    @rule(which=st.integers(0, 50))
    def retry(self, which: int) -> None:
        id = which % len(self.orders) + 1
        try:
            job = self.made.desk.retry(id)
        except JobError:
            assert self.made.desk.find(id).state is JobState.DONE
            return
        assert job.is_open
        if job.id not in self.orders:
            self.orders[job.id] = self.orders[id]

    @rule(seconds=st.sampled_from([1.0, 15.0, 400.0]), set_by=st.sampled_from([0.0, 0.0, -40_000.0, 40_000.0]))
    def time_passes(self, seconds: float, set_by: float) -> None:
        self.made.clock.pass_by(seconds)
        self.made.clock.wall += set_by

    @rule(reason=st.sampled_from(["", "disks"]))
    def maintenance(self, reason: str) -> None:
        self.made.desk.set_maintenance(reason)
        held = [job for job in self.made.desk.open_jobs() if job.kind in BRINGING and job.state is JobState.QUEUED]
        assert not reason or held == []

    @rule(drained=st.booleans())
    def restart(self, drained: bool) -> None:
        """After kill -9, or after an orderly end."""
        if drained:
            self.made.desk.drain()
            self.perform_all("goes well")
        self.runs.clear()
        self.made.restart()

    @invariant()
    def nothing_is_lost_doubled_or_untrue(self) -> None:
        jobs = [self.made.desk.find(id) for id in self.orders]
        for job in jobs:
            order = self.orders[job.id]
            assert (job.kind, job.package_id, job.source_version) == (
                order.kind,
                order.package_id,
                order.source_version,
            )
            assert job.attempts <= ATTEMPTS
            assert (job.ended_at > 0) is (not job.is_open)
            assert self.ended.get(job.id, job.state) == job.state
            if not job.is_open:
                self.ended[job.id] = job.state
            on_disk = self.made.store.find(job.id)
            assert (on_disk.state in OPEN) is job.is_open
            assert (on_disk.state is JobState.RUNNING) is (job.state is JobState.RUNNING)
        running = [job.package_id for job in jobs if job.state is JobState.RUNNING]
        assert len(running) == len(set(running)) == len(self.runs)
        wanted = [(job.kind, job.package_id, job.source_version) for job in jobs if job.is_open and not job.stopping]
        assert len(wanted) == len(set(wanted))
        assert {job.id for job in self.made.desk.open_jobs()} == {job.id for job in jobs if job.is_open}
        standing = self.made.desk.standing()
        assert {state: each.jobs for state, each in standing.items()} == {
            state: sum(job.state is state for job in jobs) for state in OPEN
        }
        for state, each in standing.items():
            oldest = min((job for job in jobs if job.state is state), key=lambda job: job.id, default=None)
            assert each.oldest_at == (oldest.created_at if oldest is not None else 0.0)


def same_order(job: Job, order: JobOrder) -> bool:
    return (job.kind, job.package_id, job.source_version) == (order.kind, order.package_id, order.source_version)


AnyOrder.TestCase.settings = settings(
    max_examples=int(os.environ.get("DPD_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestJobsInAnyOrder = AnyOrder.TestCase
