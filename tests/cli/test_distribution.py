# SPDX-License-Identifier: Apache-2.0
"""`dpd content distribute`, `update`, `redistribute`, `validate`, `status` against a real distribution."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.cli.job_door import job_door
from tests.control.jobs import Door

from dpd.distribution.jobs.job import Job
from dpd.errors import ContentCorrupt


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with job_door(tmp_path) as door:
        door.place.has = {"A": {1: b"one", 2: b"two"}, "B": {7: b"seven"}}
        monkeypatch.setenv("DPD_SOCKET", door.settings.control.socket)
        yield door


def test_a_package_comes_and_is_kept_up(door: Door, dpd: Dpd) -> None:
    ended = dpd("content", "distribute", "A", "--source-version", 1)
    assert (ended.code, ended.out) == (0, "job 1: distribute A version 1 done: version 1 has come\n")
    assert dpd("content", "update", "A", "--json").json["message"] == "version 2 has come, 1 taken out"
    assert dpd("content", "redistribute", "A").out.endswith("version 2 is as it should be\n")
    queued = dpd("content", "validate", "A", "--no-wait", "--priority", "low", "--json").json
    assert (queued["kind"], queued["priority"]) == ("validate", 3)
    door.gated.open.set()
    assert dpd("content", "validate", "A").code == 0


def test_the_state_of_each_package_is_a_line(door: Door, dpd: Dpd) -> None:
    assert "No package is here or on its way" in dpd("content", "status").out
    dpd("content", "distribute", "A")
    dpd("content", "distribute", "Z", "--no-wait")
    for _ in range(500):
        if dpd("content", "status", "Z", "--json").json["packages"][0]["state"] == "retrying":
            break
    packages = dpd("content", "status", "--json").json["packages"]
    assert [(each["package_id"], each["state"], each["number"]) for each in packages] == [
        ("A", "installed", 0),
        ("Z", "retrying", 2),
    ]
    table = dpd("content", "status").out
    assert "Z: no source has it" in table
    assert dpd("content", "status", "--state", "installed", "--json").json["packages"] == packages[:1]
    ended = dpd("content", "status", "NONE")
    assert ended.code == 1
    assert "`dpd content distribute NONE` fetches it" in ended.err


def test_a_job_that_fails_is_one_line_and_an_exit_code(door: Door, dpd: Dpd) -> None:
    door.place.errors = [ContentCorrupt("A version 2: is not signed by dp1")]
    ended = dpd("content", "distribute", "A")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "dpd: job 1: distribute A failed: A version 2: is not signed by dp1; `dpd job retry 1` tries again\n"
    )


def test_who_interrupts_the_command_leaves_the_job(door: Door, dpd: Dpd, monkeypatch: pytest.MonkeyPatch) -> None:
    look, halfway = door.distribution.desk.find, 0

    def look_and_interrupt(id: int) -> Job:
        nonlocal halfway
        job = look(id)
        halfway += job.message == "halfway"
        if halfway == 3:  # the command has had an answer to its order, and follows
            halfway += 1
            os.kill(os.getpid(), signal.SIGINT)
        return job

    monkeypatch.setattr(door.distribution.desk, "find", look_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    try:
        ended = dpd("content", "validate")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ended.code, ended.err) == (130, "job 1 goes on; `dpd job show 1` tells how far it is\n")
    assert dpd("job", "show", 1, "--json").json["state"] == "running"
    door.gated.open.set()


def test_all_of_a_package_goes(door: Door, dpd: Dpd) -> None:
    for version in (1, 2):
        dpd("content", "distribute", "A", "--source-version", version)
    ended = dpd("content", "remove", "A", "--every-version")
    assert (ended.code, ended.out) == (0, "job 3: remove A done: version 1, 2 taken out\n")
    assert door.library.contents() == []
    assert dpd("content", "remove", "A", "--every-version").out.endswith("was not here\n")
    assert door.distribution.store.wanted() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("content", "remove", "A", "--every-version", "--source-version", "1"), "expected one of them"),
        (("content", "distribute", "A", "--priority", "urgent"), "expected high, normal or low"),
        (("content", "distribute", "not an id"), "package_id: expected 1 to 64 of"),
        (("content", "distribute", "A", "--url", "http://x/y.wim"), "url and sha256: expected both"),
    ],
)
def test_wrong_orders_are_told(door: Door, dpd: Dpd, arguments: tuple[str, ...], words: str) -> None:
    ended = dpd(*arguments)
    assert ended.code in (1, 2)
    assert words in ended.err
