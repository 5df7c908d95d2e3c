# SPDX-License-Identifier: Apache-2.0
"""The order of open jobs, beside a list of them that is looked at one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpd.distribution.jobs.job import BRINGING, NEW_CONTENT, Job, JobKind, JobState, Priority
from dpd.distribution.jobs.queue import Ids, JobQueue

CHANGES = st.one_of(
    st.tuples(
        st.just("put"),
        st.integers(1, 12),
        st.sampled_from(JobKind),
        st.sampled_from(Priority),
        st.sampled_from([None, 1.0, 2.0, 3.0]),
    ),
    st.tuples(st.just("drop"), st.integers(1, 12)),
    st.tuples(st.just("ripen"), st.sampled_from([0.5, 1.0, 2.5])),
)


@given(st.lists(CHANGES, max_size=40))
def test_it_has_what_was_put_and_not_dropped_in_its_order(changes: list[tuple[object, ...]]) -> None:
    queue = JobQueue()
    known: dict[int, tuple[Job, float | None]] = {}
    for change in changes:
        match change:
            case ("put", int(id), JobKind() as kind, Priority() as priority, (float() | None) as due_at):
                known[id] = Job(id, kind, "P", None, priority, JobState.QUEUED, 0.0), due_at
                queue.put(*known[id])
            case ("drop", int(id)):
                known.pop(id, None)
                queue.drop(id)
            case ("ripen", float(now)):
                known = {id: (job, None if at is not None and at <= now else at) for id, (job, at) in known.items()}
                queue.ripen(now)
        waiting = {id: at for id, (_, at) in known.items() if at is not None}
        assert list(queue.waiting) == sorted(waiting)
        assert queue.next_due_at == min(waiting.values(), default=None)
        assert all(queue.due_at(id) == waiting.get(id) for id in range(14))
        lanes: dict[tuple[Priority, bool, bool], list[int]] = {}
        for id, (job, at) in sorted(known.items()):
            if at is None:
                lanes.setdefault((job.priority, job.kind in BRINGING, job.kind in NEW_CONTENT), []).append(id)
        assert [list(lane) for lane in queue.lanes()] == [lanes[key] for key in sorted(lanes)]
        assert [lane.first for lane in queue.lanes()] == [min(lanes[key]) for key in sorted(lanes)]


@given(st.lists(st.integers(0, 30), unique=True), st.data())
def test_ids_stay_in_their_order(numbers: list[int], data: st.DataObject) -> None:
    ids = Ids()
    for number in numbers:
        ids.add(number)
    for number in data.draw(st.permutations(numbers)):
        assert list(ids) == sorted(numbers)
        assert (len(ids), ids.first) == (len(numbers), min(numbers))
        ids.remove(number)
        numbers = [each for each in numbers if each != number]
    assert len(ids) == 0
