# SPDX-License-Identifier: Apache-2.0
"""Boots become status messages while nobody who answers machines waits, and a flood of them stays bounded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dpd.control import boot_watch
from dpd.control.boot_watch import Allowance, BootWatch
from dpd.explain.findings import Surroundings
from dpd.telemetry.events import Event, EventLog
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.status_messages import Severity, definition_of

PATIENCE_S = 30.0
MAC = "52:54:00:00:00:01"


@contextmanager
def watching(journal: BootJournal, events: EventLog, **options: object) -> Iterator[BootWatch]:
    watch = BootWatch(journal, events, lambda: Surroundings(time.time(), "10.0.0.1"), **options)  # type: ignore[arg-type]
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(events: EventLog) -> list[str]:
    return [each.event for each in events.after(0, 100_000)]


def begin(journal: BootJournal, mac: str, xid: str = "01", computer: str = "") -> None:
    journal.note(mac, "discover", xid=xid, client_class="PXEClient", client_arch="uefi-x64", secs=0)
    journal.note(mac, "decision", outcome="boot", cause="default", computer=computer, deployment="", boot_image="")
    journal.note(mac, "offer", rule="r", loader="ipxe.efi", destination="255.255.255.255:68", server="10.0.0.1")


def test_what_the_journal_gets_is_told_soon_and_what_is_silent_for_long_is_judged() -> None:
    journal, events = BootJournal(), EventLog()
    with watching(journal, events, over_s=1.0):
        begin(journal, MAC, computer="PC-1")
        wait_for(lambda: names(events) == ["boot.granted"])
        wait_for(lambda: names(events) == ["boot.granted", "boot.failed"])
    failed = events.after(0)[-1]
    assert failed.fields["cause"] == "no_lease"
    assert failed.fields["mac"] == MAC


def test_what_came_last_is_told_before_the_end() -> None:
    journal, events = BootJournal(), EventLog()
    with watching(journal, events) as watch:
        begin(journal, MAC)
        watch.stop()
        assert names(events) == ["boot.granted"]
        watch.stop()


def test_a_watch_that_was_never_started_can_be_stopped() -> None:
    BootWatch(BootJournal(), EventLog(), lambda: Surroundings(0.0)).stop()


def test_a_flood_of_beginnings_is_told_in_part_and_the_rest_by_number() -> None:
    journal, events = BootJournal(), EventLog()
    with watching(journal, events, allowance=Allowance(10, 0.0)):
        for number in range(200):
            begin(journal, f"52:54:00:00:01:{number:02x}")
        wait_for(lambda: "boot.unreported" in names(events))
        journal.bind("10.0.0.50", "52:54:00:00:01:07")
        journal.note_address("10.0.0.50", "tftp", file="ipxe.efi", verdict="completed", bytes=5)
        wait_for(lambda: "boot.loader_fetched" in names(events))
    counted = [each.fields["count"] for each in events.after(0) if each.event == "boot.unreported"]
    assert names(events).count("boot.granted") == 10
    assert sum(map(int, counted)) == 190, "all of the others, by the end"


def test_a_flood_of_boots_that_end_badly_is_told_in_part_and_the_rest_by_cause_and_number(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(boot_watch, "UNREPORTED_S", 0.1)
    journal, events = BootJournal(), EventLog()

    def summed() -> list[Event]:
        return [each for each in events.after(0) if each.event == "boot.failures"]

    with watching(journal, events, over_s=0.5, failures=Allowance(10, 0.0)):
        for number in range(200):
            begin(journal, f"52:54:00:00:01:{number:02x}")
        wait_for(lambda: sum(int(each.fields["count"]) for each in summed()) == 190)
    assert names(events).count("boot.unfinished") == 10
    assert {str(each.fields["causes"]).split()[0] for each in summed()} == {"no_lease"}
    severities = {definition_of(each.event).severity for each in events.after(0)}
    assert Severity.ERROR not in severities, "nothing was deployed to any of them"


def test_what_was_not_told_at_first_is_told_also_where_nothing_new_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_watch, "UNREPORTED_S", 1.0)
    journal, events = BootJournal(), EventLog()
    with watching(journal, events, allowance=Allowance(0, 0.0)):
        begin(journal, MAC)
        wait_for(lambda: names(events) == ["boot.unreported"])
        begin(journal, "52:54:00:00:00:02")
        wait_for(lambda: names(events) == ["boot.unreported", "boot.unreported"])


def test_causes_are_told_by_number_and_the_rare_ones_together() -> None:
    causes = Counter(
        {"no_lease": 40, "tftp_blocked": 3, "mtu_hole": 2, "fine": 2, "brake": 2, "no_ticket": 1, "no_relay": 1}
    )
    assert boot_watch._in_words(causes) == "no_lease 40, tftp_blocked 3, mtu_hole 2, fine 2, brake 2, others 2"


def test_a_story_that_cannot_be_judged_does_not_end_the_messages_of_others(caplog: pytest.LogCaptureFixture) -> None:
    journal, events = BootJournal(), EventLog()
    with watching(journal, events):
        journal.note_question(MAC, "discover", None, lambda values: values["no such"])
        wait_for(lambda: "boot not told" in caplog.text)
        begin(journal, "52:54:00:00:00:02")
        wait_for(lambda: names(events) == ["boot.granted"])


def test_an_allowance_fills_again_and_never_above_its_burst() -> None:
    now = [0.0]
    allowance = Allowance(3, 2.0, lambda: now[0])
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 1.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now[0] = 1000.0
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
