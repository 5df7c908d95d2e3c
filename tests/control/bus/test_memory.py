# SPDX-License-Identifier: Apache-2.0
"""What is remembered of the bus over a restart."""

from __future__ import annotations

from pathlib import Path

from dpd.bus.messages import SharedRun
from dpd.control.bus import memory as bus_memory
from dpd.control.bus.memory import KEPT_ASKS_S, BusMemory
from dpd.database import Database
from dpd.errors import BusError
from dpd.site.records import Run


def test_an_ask_is_begun_once_over_a_restart(tmp_path: Path) -> None:
    memory = BusMemory(tmp_path / "bus.db")
    assert memory.begin_ask("one-ask-id")
    assert not memory.begin_ask("one-ask-id")
    memory.close()
    again = BusMemory(tmp_path / "bus.db")
    assert not again.begin_ask("one-ask-id")
    assert again.begin_ask("another-id")
    again.close()


def test_asks_that_nobody_repeats_any_more_are_forgotten(tmp_path: Path) -> None:
    now = 1000.0
    memory = BusMemory(tmp_path / "bus.db", clock=lambda: now)
    memory.begin_ask("one-ask-id")
    memory.close()
    now += KEPT_ASKS_S + 1
    again = BusMemory(tmp_path / "bus.db", clock=lambda: now)
    assert again.begin_ask("one-ask-id")
    again.close()


def test_a_clear_is_kept_until_the_bus_has_heard_of_it_or_of_a_later_one(tmp_path: Path) -> None:
    memory = BusMemory(tmp_path / "bus.db")
    memory.note_clears([Run(1, "pc", "m", 100.0, 150.0), Run(1, "other", "m", 100.0)])
    memory.close()
    memory = BusMemory(tmp_path / "bus.db")
    clear = SharedRun(1, "pc", "", 100.0, 150.0, is_cleared=True)
    assert sorted(memory.clears(), key=lambda each: each.machine)[1] == clear
    memory.note_told([SharedRun(1, "pc", "", 90.0)])
    assert clear in memory.clears()
    memory.note_told([SharedRun(1, "pc", "", 200.0)])
    assert [each.machine for each in memory.clears()] == ["other"]
    memory.close()


def test_when_what_was_cleared_had_begun_is_known_over_a_restart_whoever_cleared_it(tmp_path: Path) -> None:
    memory = BusMemory(tmp_path / "bus.db")
    memory.note_clears([Run(1, "pc", "m", 100.0), Run(2, "pc", "m", 70.0)])
    memory.note_told([SharedRun(1, "pc", "", 100.0)])
    memory.note_heard([SharedRun(1, "pc", "", 90.0), SharedRun(1, "other", "", 50.0, is_cleared=True)])
    memory.close()
    memory = BusMemory(tmp_path / "bus.db")
    assert memory.cleared() == {(1, "pc"): 100.0, (1, "other"): 50.0, (2, "pc"): 70.0}
    memory.note_heard([SharedRun(2, "pc", "", 80.0, is_cleared=True)])
    assert memory.clears() == []  # a later clear than the one here is what holds
    memory.note_clears([Run(3, "pc", "m", 60.0)])
    memory.keep_clears_of([1])
    assert memory.cleared() == {(1, "pc"): 100.0, (1, "other"): 50.0, (3, "pc"): 60.0}  # the bus has yet to hear of 3
    memory.close()


def test_a_file_of_before_is_taken_over_with_what_the_bus_has_not_heard(tmp_path: Path) -> None:
    old = Database(tmp_path / "bus.db", [bus_memory._SCHEMA], error=BusError, full=BusError)
    with old.transaction() as connection:
        connection.execute("INSERT INTO clears VALUES (1, 'pc', 100.0, 0.0)")
    old.close()
    memory = BusMemory(tmp_path / "bus.db")
    assert memory.clears() == [SharedRun(1, "pc", "", 100.0, is_cleared=True)]
    memory.close()


def test_packages_that_the_site_spoke_of_are_known_by_version(tmp_path: Path) -> None:
    memory = BusMemory(tmp_path / "bus.db")
    memory.speak_of([("A", 0), ("B", 3)])
    memory.speak_of([("A", 0), ("A", 2)])
    assert memory.spoken() == {("A", 0), ("A", 2), ("B", 3)}
    memory.speak_no_more_of([("A", 0), ("C", 1)])
    assert memory.spoken() == {("A", 2), ("B", 3)}
    memory.close()
