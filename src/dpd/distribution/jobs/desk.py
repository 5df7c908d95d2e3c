# SPDX-License-Identifier: Apache-2.0
"""The desk: takes orders, keeps the queue, gives jobs to who works, and writes down what became of them.

No threads of its own (workers.py has them): `claim` gives the next job that may run, `perform` runs it in the caller's
thread. Waits are measured on the monotonic clock, so a wall clock that is set back holds nobody up; order is by id, so
it changes nobody's age either.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from dpd.content_settings import DistributionSettings
from dpd.distribution.jobs.events import Tell, job_fields
from dpd.distribution.jobs.holds import Held, Holds
from dpd.distribution.jobs.job import NEW_CONTENT, Job, JobKind, JobOrder, JobPostponed, JobState
from dpd.distribution.jobs.outcome import MAX_RETRY_DELAY_S, after_restart, cancelled, outcome
from dpd.distribution.jobs.ports import Gate
from dpd.distribution.jobs.queue import Ids, JobQueue, Standing
from dpd.distribution.jobs.run import JobRun, Work
from dpd.distribution.jobs.store import JobStore
from dpd.errors import DpdError, JobCancelled, JobError

log = logging.getLogger(__name__)


class JobDesk:
    """All jobs of one distribution point. Any thread.

    `work` does what each kind means; `changed` is called after each change of a job, outside of the desk's lock, from
    the thread that made it.
    """

    def __init__(
        self,
        store: JobStore,
        work: Mapping[JobKind, Work],
        settings: DistributionSettings,
        *,
        tell: Tell,
        holds: Holds,
        changed: Callable[[Job], None] = lambda job: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open jobs of the last run of dpd go on: who ran is queued again, or ends where it was to."""
        self._store = store
        self._work = dict(work)
        self._settings = settings
        self._tell = tell
        self._holds = holds
        self._changed = changed
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.RLock()
        self._woken = threading.Condition(self._lock)
        self.news = 0  # goes up with whatever may let a job run
        self._open: dict[int, Job] = {}
        self._queue = JobQueue()  # of those that do not run; on the monotonic clock
        self._runs: dict[int, JobRun] = {}
        self._unwritten: dict[int, Job] = {}  # the disk refused them; newer than what it has
        self._draining = False
        self._recover()

    def _recover(self) -> None:
        now = self._clock()
        with suppress(DpdError):  # a full disk must not keep dpd from starting
            self._store.trim(now)
        for before in self._store.open_jobs():
            job = after_restart(before, self._settings, now)
            left_s = min(max(0.0, job.next_try_at - now), MAX_RETRY_DELAY_S)
            self._enter(job, self._monotonic() + left_s if job.state is JobState.WAITING else None)
            if job is not before:
                self._keep(job)
                self._tell(f"job.{job.state}", job_fields(job))

    # ---- orders

    def submit(self, order: JobOrder) -> Job:
        """The job of this order: the open one where somebody has asked for it before. Raises JobError for a kind that
        nobody here does."""
        if order.kind not in self._work:
            raise JobError(
                f"{order.kind}: not among what this distribution point does; `dpd job --help` shows the kinds"
            )
        with self._lock:
            self._write_again()
            added = self._store.add(order, self._clock())
            job = added.job
            self._enter(job, self._queue.due_at(job.id))
            for each in added.overtaken:
                self._follow(each)
            self._wake()
        for each in (*added.overtaken, *([job] if added.is_new else [])):
            self._announce(each)
        return self.find(job.id)

    def _follow(self, overtaken: Job) -> None:
        if overtaken.is_open:
            self._enter(overtaken)
            self._runs[overtaken.id].interrupt(JobCancelled(overtaken.stopping))
        else:
            self._forget(overtaken.id)

    def cancel(self, id: int, actor: str = "") -> Job:
        """Take a job back: one that runs stops at its next piece. Raises JobNotFound, JobError where it has ended."""
        reason = f"cancelled by {actor}" if actor else "cancelled"
        with self._lock:
            job = self._open.get(id)
            if job is None:
                return self._cancelled_before(id)
            if job.stopping:
                return self._seen(job)
            run = self._runs.get(id)
            job = replace(job, stopping=reason) if run else cancelled(job, reason, self._clock())
            self._write(job)
            if run is not None:
                run.interrupt(JobCancelled(reason))
        self._announce(job)
        return self.find(id)

    def _cancelled_before(self, id: int) -> Job:
        job = self.find(id)
        if job.state is not JobState.CANCELLED:
            raise JobError(f"{job}: has ended already, it is {job.state}; nothing to cancel")
        return job

    def retry(self, id: int, actor: str = "") -> Job:
        """Try now what waits; order anew what failed or was cancelled. Raises JobNotFound, JobError where it is done."""
        with self._lock:
            job = self._open.get(id)
            if job is not None and job.state is not JobState.WAITING:
                return self._seen(job)
            if job is not None:
                job = replace(job, state=JobState.QUEUED, next_try_at=0.0, message="")
                self._write(job)
                self._wake()
        if job is not None:
            self._announce(job)
            return self.find(id)
        ended = self.find(id)
        if ended.state is JobState.DONE:
            raise JobError(f"{ended}: is done; nothing to try again")
        what = ended.kind, ended.package_id, ended.source_version, ended.priority, ended.options
        return self.submit(JobOrder(*what, actor, ended.via))

    # ---- looking

    def find(self, id: int) -> Job:
        """Raises JobNotFound."""
        with self._lock:
            job = self._open.get(id) or self._unwritten.get(id) or self._store.find(id)
            return self._seen(job)

    def open_jobs(self) -> list[Job]:
        """Those that run, then those that will, in the order of their turn as of now."""
        with self._lock:
            holds = self._holds.as_of_now()
            jobs = [self._seen(job, holds) for job in self._open.values()]
        return sorted(jobs, key=lambda job: (_TURN[job.state], job.priority, job.id))

    def ended(self, before: int | None, limit: int, package_id: str = "", state: JobState | None = None) -> list[Job]:
        """At most `limit` that have ended, with lower ids than `before`, the newest first."""
        return self._store.ended(before, limit, package_id, state)

    def standing(self) -> dict[JobState, Standing]:
        """How many run, may run and wait, without looking at each of them."""
        with self._lock:
            self._queue.ripen(self._monotonic())
            waiting: list[Ids] = [self._queue.waiting]
            queued: list[Ids] = []
            for lane in self._queue.lanes():
                (waiting if self._holds.why(self._open[lane.first]) else queued).append(lane)
            return {
                JobState.RUNNING: self._standing(len(self._runs), self._runs),
                JobState.QUEUED: self._standing(sum(map(len, queued)), [lane.first for lane in queued]),
                JobState.WAITING: self._standing(sum(map(len, waiting)), [lane.first for lane in waiting if len(lane)]),
            }

    def _standing(self, count: int, ids: Iterable[int]) -> Standing:
        """By the oldest of each lane: ids are in the order of age."""
        oldest = min(ids, default=None)
        return Standing() if oldest is None else Standing(count, self._open[oldest].created_at)

    def _seen(self, job: Job, holds: Held | None = None) -> Job:
        """As it is at this moment, which disk has only at each change."""
        if run := self._runs.get(job.id):
            seen = run.seen()
            return replace(seen, stopping=job.stopping, priority=job.priority)
        if not job.is_open:
            return job
        left_s = (self._queue.due_at(job.id) or 0.0) - self._monotonic()
        if job.state is JobState.WAITING and left_s > 0:
            return replace(job, next_try_at=self._clock() + left_s)
        held = holds or self._holds.as_of_now()
        if why := held.why(job):
            opens_in_s = held.opens_in_s(job)
            opens_at = 0.0 if math.isinf(opens_in_s) else self._clock() + opens_in_s
            return replace(job, state=JobState.WAITING, message=why, next_try_at=opens_at)
        return replace(job, state=JobState.QUEUED, next_try_at=0.0)

    # ---- what surrounds the jobs

    def apply(self, settings: DistributionSettings, gate: Gate) -> None:
        """From now on these settings and hours hold."""
        with self._lock:
            self._settings, self._holds.gate = settings, gate
            self._wake()

    def set_maintenance(self, reason: str) -> None:
        """Begin maintenance, or with "" end it: jobs that bring content stop where they are and go on afterwards."""
        with self._lock:
            was = self._holds.maintenance.reason
            self._holds.maintenance.change(reason)
            for run in list(self._runs.values()):
                if reason and run.job.kind in NEW_CONTENT:
                    run.interrupt(JobPostponed(f"maintenance: {reason}"))
            self._wake()
        if reason != was:
            self._tell("maintenance.on" if reason else "maintenance.off", {"reason": reason or was})

    # ---- working

    def claim(self) -> JobRun | None:
        """The job whose turn it is, now running; None where there is none. Two jobs of one package never run side by side."""
        with self._lock:
            if self._draining:
                return None
            self._write_again()
            job = self._next()
            if job is None:
                return None
            run = self._begin(job)
        self._announce(run.job)
        return run

    def _next(self) -> Job | None:
        """By priority, then age, of those that nothing holds and whose package nobody is at."""
        busy, best = {run.job.package_id for run in self._runs.values()} - {""}, None
        self._queue.ripen(self._monotonic())
        for lane in self._queue.lanes():
            first = self._open[lane.first]
            if best is not None and first.priority > best.priority:
                break
            if self._holds.why(first):
                continue
            job = next((self._open[id] for id in lane if self._open[id].package_id not in busy), None)
            if job is not None and (best is None or job.id < best.id):
                best = job
        return best

    def _begin(self, job: Job) -> JobRun:
        """On disk first: a try that ends dpd must count."""
        now = self._clock()
        job = replace(
            job,
            state=JobState.RUNNING,
            attempts=job.attempts + 1,
            started_at=job.started_at or now,
            next_try_at=0.0,
            message="",
        )
        self._store.write(job)
        self._enter(job)
        self._runs[job.id] = run = JobRun(
            job, gate=self._holds.watch(lambda: self._open[job.id]), monotonic=self._monotonic
        )
        return run

    def perform(self, run: JobRun) -> Job:
        """Run what was claimed to the end of this try, in the caller's thread; what became of the job."""
        error: BaseException | None = None
        try:
            run.check()
            self._work[run.job.kind](run)
        except Exception as raised:
            error = raised
        with self._lock:
            job = outcome(self._ending(run), error, self._settings, self._clock())
            if job.state is JobState.DONE:
                job = replace(job, source_version=run.source_version)
            del self._runs[job.id]
            self._keep(job)
            self._wake()
        self._announce(job)
        return job

    def _ending(self, run: JobRun) -> Job:
        kept = self._open[run.job.id]
        return replace(run.seen(), stopping=kept.stopping, priority=kept.priority)

    def wait(self, after: int, at_most_s: float) -> None:
        """Until `news` is no longer `after`, a job is due, the hours change, or so long. `news` is to be read before `claim`."""
        with self._lock:
            turn_in_s = self._next_turn_in_s()
            timeout_s = at_most_s if turn_in_s is None else min(at_most_s, turn_in_s)
            self._woken.wait_for(lambda: self.news != after, timeout_s)

    def _wake(self) -> None:
        self.news += 1
        self._woken.notify_all()

    def _next_turn_in_s(self) -> float | None:
        """Until a job that waits is due or the hours change; None: only news can bring work."""
        now = self._monotonic()
        self._queue.ripen(now)
        waits = [] if self._queue.next_due_at is None else [self._queue.next_due_at - now]
        heads = [self._open[lane.first] for lane in self._queue.lanes()]
        waits += [self._holds.opens_in_s(job) for job in heads if self._holds.why(job)]
        return min(waits, default=None)

    def drain(self) -> None:
        """Begin no job; those that run stop at their next piece, and go on when dpd starts again."""
        with self._lock:
            self._draining = True
            for run in self._runs.values():
                run.interrupt(JobPostponed("goes on when dpd starts again"))
            self._wake()

    @property
    def is_draining(self) -> bool:
        return self._draining

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._runs)

    # ---- keeping

    def _write(self, job: Job) -> None:
        """What somebody has asked for is on disk before it holds. Raises the disk's DpdError."""
        self._write_again()
        self._store.write(job)
        self._settle(job)

    def _keep(self, job: Job) -> None:
        """What has happened has happened: in memory for certain, on disk as soon as it takes it."""
        self._settle(job)
        self._unwritten[job.id] = job
        with suppress(DpdError):
            self._write_again()

    def _settle(self, job: Job) -> None:
        if not job.is_open:
            self._forget(job.id)
        elif job.state is JobState.WAITING:
            self._enter(job, self._monotonic() + job.next_try_at - self._clock())
        else:
            self._enter(job)

    def _enter(self, job: Job, due_at: float | None = None) -> None:
        """As it is now; `due_at` where it waits."""
        self._open[job.id] = job
        if job.state is JobState.RUNNING:
            self._queue.drop(job.id)
        else:
            self._queue.put(job, due_at)

    def _write_again(self) -> None:
        """Raises the disk's DpdError, with what it refused kept for the next time."""
        for id, job in list(self._unwritten.items()):
            try:
                self._store.write(job)
            except DpdError as error:
                log.error("job not written", extra={"job": id, "error": str(error)})
                raise
            del self._unwritten[id]

    def _forget(self, id: int) -> None:
        self._open.pop(id, None)
        self._queue.drop(id)

    def _announce(self, job: Job) -> None:
        event = "cancelling" if job.stopping and job.is_open else job.state.value
        self._tell(f"job.{event}", job_fields(job))
        try:
            self._changed(job)
        except DpdError as error:  # who listens may have closed already; the job is what it is
            log.warning("change of a job not followed", extra={"job": job.id, "error": str(error)})


_TURN = {JobState.RUNNING: 0, JobState.QUEUED: 1, JobState.WAITING: 2}
