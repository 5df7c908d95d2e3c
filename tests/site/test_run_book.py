# SPDX-License-Identifier: Apache-2.0
"""Who was given which required deployment."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from dpd.site.records import Computer, Deployment, Purpose, Run, SiteNotFound
from dpd.site.run_book import HOUR_S, Stage, Work
from dpd.site.store import SiteStore

MAC = "52:54:00:00:00:0a"
NOW = 10_000.0


def open_store(path: Path | None = None, now: float = NOW) -> SiteStore:
    return SiteStore(path, clock=lambda: now)


def deployed(store: SiteStore) -> int:
    return store.add_deployment(Deployment(0, "all", "IMG1", Purpose.REQUIRED), "test").id


def test_the_first_time_counts_and_lasts_over_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "site.db")
    id = deployed(store)
    store.runs.start(Run(id, "pc1", MAC, NOW))
    store.runs.start(Run(id, "pc1", MAC, NOW + 50))
    store.runs.finish(id, "pc1", NOW + 60)
    store.runs.finish(id, "pc1", NOW + 90)
    store.close()
    again = open_store(tmp_path / "site.db")
    assert again.runs.of_deployment(id) == [Run(id, "pc1", MAC, NOW, NOW + 60)]
    assert again.runs.started_since(NOW - 1) == 1
    again.close()


def test_runs_are_cleared_one_by_one_or_all(tmp_path: Path) -> None:
    store = open_store()
    id = deployed(store)
    for name in ("pc1", "pc2", "pc3"):
        store.runs.start(Run(id, name, MAC, NOW))
    assert store.runs.clear(id, "pc2", "alice") == 1
    assert store.runs.find(id, "pc2") is None
    with pytest.raises(SiteNotFound, match=f"pc2 has not run deployment {id}"):
        store.runs.clear(id, "pc2", "alice")
    assert store.runs.clear(id, None, "alice") == 2
    assert store.runs.of_deployment(id) == []
    assert store.runs.clear(id, None, "alice") == 0
    assert store.audit(1)[0].action == "runs cleared"


def test_runs_go_with_their_deployment_and_their_computer() -> None:
    store = open_store()
    one, two = deployed(store), deployed(store)
    store.add_computer(Computer("PC1", (MAC,)), "test")
    store.runs.start(Run(one, "pc1", MAC, NOW))
    store.runs.start(Run(two, "pc1", MAC, NOW))
    store.remove_deployment(one, "test")
    assert store.runs.find(one, "pc1") is None
    assert store.runs.find(two, "pc1") is not None
    store.remove_computer("PC1", "test")
    assert store.runs.find(two, "pc1") is None


def test_what_began_in_the_last_hour_is_counted_over_clears_and_restarts(tmp_path: Path) -> None:
    store = open_store(tmp_path / "site.db")
    id = deployed(store)
    for number in range(3):
        store.runs.start(Run(id, f"pc{number}", MAC, NOW + number))
    store.runs.clear(id, None, "test")
    assert [store.runs.started_since(NOW + at) for at in (-1, 0, 1, 2)] == [3, 2, 1, 0]
    store.close()
    again = open_store(tmp_path / "site.db", NOW + HOUR_S + 1)
    assert again.runs.started_since(NOW) == 2
    again.close()


def test_a_disk_that_refuses_does_not_make_a_machine_run_twice(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store()
    with caplog.at_level(logging.ERROR):
        store.runs.start(Run(99, "pc1", MAC, NOW))  # no such deployment: the database refuses by its foreign key
    assert store.runs.find(99, "pc1") is not None
    assert "FOREIGN KEY" in caplog.records[0].__dict__["error"]
    store.add_computer(Computer("PC2", (MAC,)), "test")  # every change reads the runs anew
    assert store.runs.find(99, "pc1") is not None
    assert store.runs.clear(99, "pc1", "test") == 1
    assert store.runs.find(99, "pc1") is None


def test_an_answer_that_begins_a_run_does_not_wait_for_a_change_of_policy_to_end(tmp_path: Path) -> None:
    store = open_store(tmp_path / "site.db")
    id = deployed(store)
    following, started = threading.Event(), threading.Event()

    def follow() -> None:  # as slow as a site of thousands of computers
        following.set()
        assert started.wait(30)
        store.runs.load()

    database = store.runs._database
    changing = threading.Thread(target=lambda: database.change("test", "slow", "", lambda c: None, follow))
    changing.start()
    assert following.wait(30)
    store.runs.start(Run(id, "pc1", MAC, NOW))
    store.runs.finish(id, "pc1", NOW + 1)
    started.set()
    changing.join(30)
    assert store.runs.of_deployment(id) == [Run(id, "pc1", MAC, NOW, NOW + 1)]
    store.close()
    again = open_store(tmp_path / "site.db")
    assert again.runs.of_deployment(id) == [Run(id, "pc1", MAC, NOW, NOW + 1)]
    again.close()


def test_what_a_machine_is_at_lasts_until_its_time_is_over_or_its_run_is_cleared() -> None:
    store = open_store()
    id, runs = deployed(store), store.runs
    runs.start(Run(id, "pc1", MAC, NOW))
    restarting = Work(id, NOW + 100, Stage.RESTARTING)
    runs.note_work("pc1", restarting)
    assert (runs.work_of("pc1", NOW + 99), runs.work_of("pc1", NOW + 100)) == (restarting, None)
    assert runs.is_restarting("pc1", NOW)
    runs.still_restarts = lambda machine: machine != "pc1"
    assert not runs.is_restarting("pc1", NOW)
    runs.clear(id, "pc1", "test")
    assert runs.work_of("pc1", NOW) is None
    runs.note_work("pc1", Work(id, NOW + 100))
    runs.drop([(id, "pc1")])  # as another point has cleared it
    assert runs.work_of("pc1", NOW) is None
