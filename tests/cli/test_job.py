# SPDX-License-Identifier: Apache-2.0
"""`dpd job` against a real distribution."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.conftest import Dpd
from tests.cli.job_door import job_door
from tests.control.jobs import Door

from dpd.cli.job import _live_table
from dpd.distribution.jobs.job import Job, JobKind, JobOrder


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with job_door(tmp_path) as door:
        door.place.has = {"A": {1: b"one"}}
        monkeypatch.setenv("DPD_SOCKET", door.settings.control.socket)
        yield door


def halfway(door: Door) -> int:
    """A job that runs until its gate is opened."""
    job = door.distribution.desk.submit(JobOrder(JobKind.VALIDATE, "A", actor="alice"))
    for _ in range(1000):
        if door.distribution.desk.find(job.id).message == "halfway":
            return job.id
        time.sleep(0.01)
    raise AssertionError(door.distribution.desk.find(job.id))


def test_jobs_are_listed_shown_and_cancelled(door: Door, dpd: Dpd) -> None:
    assert "No job; `dpd job list --all`" in dpd("job", "list").out
    id = halfway(door)
    listed = dpd("job", "list").out
    assert all(word in listed for word in ("validate", "running", "50 %", "halfway", "normal"))
    assert [job["id"] for job in dpd("job", "list", "--json", "--package", "A").json["jobs"]] == [id]
    assert dpd("job", "list", "--json", "--state", "waiting").json == {"jobs": []}
    shown = dpd("job", "show", id).out
    assert all(word in shown for word in ("50 B of 100 B", "halfway", "by alice"))
    assert dpd("job", "show", id, "--json").json["state"] == "running"
    assert f"job {id}: validate A" in dpd("job", "cancel", id).out
    for _ in range(500):
        if dpd("job", "list", "--json").json["jobs"] == []:
            break
    (ended,) = dpd("job", "list", "--json", "--all").json["jobs"]
    assert (ended["id"], ended["state"]) == (id, "cancelled")
    assert dpd("job", "list", "--json", "--state", "done").json == {"jobs": []}


def test_what_failed_or_waits_is_tried_again(door: Door, dpd: Dpd) -> None:
    assert dpd("content", "distribute", "B", "--no-wait").code == 0
    for _ in range(1000):
        if (job := dpd("job", "show", 1, "--json").json)["state"] == "waiting":
            break
    assert job["error"] == "B: no source has it"
    waits = dpd("job", "list").out
    assert "waiting" in waits
    assert "B: no source has it" in waits
    door.place.has["B"] = {4: b"b"}
    ended = dpd("job", "retry", 1, "--wait")
    assert (ended.code, ended.out) == (0, "job 1: distribute B version 4 done: version 4 has come\n")


def test_errors_are_one_line(door: Door, dpd: Dpd) -> None:
    for verb in ("show", "cancel", "retry"):
        ended = dpd("job", verb, 77)
        assert (ended.code, ended.err) == (1, "dpd: no job 77; `dpd job list --all` shows those there are\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_pipe_gets_a_line_for_each_change(
    door: Door, dpd: Dpd, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    id = halfway(door)
    look, looks = door.distribution.desk.open_jobs, 0

    def look_and_let_through() -> list[Job]:
        nonlocal looks
        jobs, looks = look(), looks + 1
        if looks == 2:
            door.gated.open.set()
        return jobs

    monkeypatch.setattr(door.distribution.desk, "open_jobs", look_and_let_through)
    options = ["--json"] if as_json else []
    lines = dpd("job", "watch", "--until-idle", "--interval", 0.1, *options).out.splitlines()
    if as_json:
        assert [json.loads(line)["state"] for line in (lines[0], lines[-1])] == ["running", "done"]
        return
    assert lines[0] == f"job {id}: validate A running: halfway"
    assert lines[-1] == f"job {id}: validate A done: halfway"


def test_the_list_of_what_ended_is_cut_where_that_is_asked(door: Door, dpd: Dpd) -> None:
    for _ in range(5):
        assert dpd("content", "distribute", "A").code == 0
    assert len(dpd("job", "list", "--all", "--json").json["jobs"]) == 5
    assert [job["id"] for job in dpd("job", "list", "--all", "--limit", 2, "--json").json["jobs"]] == [5, 4]


def test_a_terminal_gets_a_table_that_says_how_much_is_left_out(door: Door, dpd: Dpd) -> None:
    id = halfway(door)
    console = Console(width=200, file=io.StringIO())
    console.print(_live_table(dpd("job", "list", "--json").json["jobs"], 41))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(word in shown for word in (str(id), "validate", "50 %", "1 of 41 jobs run", "40 more than fit"))
