# SPDX-License-Identifier: Apache-2.0
"""The steps of a boot that become status messages: each once, whatever the machine repeats and whatever was forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.explain.stories import (
    AT,
    SERVER,
    boot_reply,
    boot_request,
    decision,
    discover,
    event,
    ignored,
    lease_request,
    offer,
    tftp,
)

from dpd.explain.boot_reports import MACHINES, BootReport, BootReports
from dpd.explain.findings import BootCause, Surroundings
from dpd.telemetry.journal import EVENTS_PER_MACHINE, BootEvent, BootJournal

MAC = "52:54:00:00:00:01"
BOOT = (
    discover(),
    decision("boot", "required", computer="PC-7", deployment="3", boot_image="LAB5"),
    offer(),
    lease_request(),
    boot_request(),
    boot_reply(),
    tftp(file="wdsmgfw.efi"),
    tftp(7, file="bcd"),
    tftp(30, file="boot.wim"),
    event(30, "image_fetched", file="boot.wim"),
)


def around(after: float = 100.0) -> Surroundings:
    return Surroundings(AT + after, SERVER)


def look(
    reports: BootReports, events: Sequence[BootEvent], *, is_over: bool = False, before: int = 0
) -> list[BootReport]:
    return reports.look(MAC, before, events, around(), is_over=is_over)


def names(told: list[BootReport]) -> list[str]:
    return [each.event for each in told]


def test_a_boot_that_goes_well_is_granted_fetches_and_finishes() -> None:
    told = look(BootReports(), BOOT, is_over=True)
    assert told == [
        BootReport("boot.granted", {"mac": MAC, "computer": "PC-7", "cause": "required", "deployment": "3", "boot_image": "LAB5"}),
        BootReport("boot.loader_fetched", {"mac": MAC, "computer": "PC-7", "file": "wdsmgfw.efi", "by": "TFTP"}),
        BootReport("boot.finished", {"mac": MAC, "computer": "PC-7", "boot_image": "LAB5", "file": "boot.wim"}),
    ]  # fmt: skip


def test_each_step_is_told_once_however_often_one_looks() -> None:
    reports, told = BootReports(), []
    for count in range(1, len(BOOT) + 1):
        told += look(reports, BOOT[:count])
        told += look(reports, BOOT[:count])
    told += look(reports, BOOT, is_over=True)
    assert names(told) == ["boot.granted", "boot.loader_fetched", "boot.finished"]


def test_questions_that_firmware_repeats_are_one_boot() -> None:
    reports, told = BootReports(), []
    story: list[BootEvent] = []
    for at in (0, 4, 12, 28):
        story += [discover(at), decision("silent", "unknown_denied", at)]
        told += look(reports, story)
    told += look(reports, story, is_over=True)
    assert names(told) == ["boot.refused"]
    assert told[0].fields == {"mac": MAC, "computer": "", "cause": "unknown_denied", "deployment": ""}


def test_another_boot_is_told_anew() -> None:
    reports = BootReports()
    again = [
        BootEvent(each.at + 600, each.event, each.fields | ({"xid": "02"} if "xid" in each.fields else {}))
        for each in BOOT
    ]
    assert names(look(reports, BOOT)) == names(look(reports, [*BOOT, *again]))


def test_a_machine_that_waits_shows_its_code_once_and_boots_when_it_is_approved() -> None:
    reports, told = BootReports(), []
    story = [discover(), decision("wait", "unknown_pending", code="WXYZ"), offer(), tftp(2, file="ipxe.efi")]
    for second in range(5, 500, 5):
        story.append(event(second, "http", file="boot.ipxe", step="finished"))
        told += look(reports, story)
    assert names(told) == ["boot.waiting", "boot.loader_fetched"]
    assert told[0].fields["code"] == "WXYZ"
    story += [
        event(500, "approval", state="approved", by="ada"),
        decision("boot", "unknown_allowed", 501, boot_image="LAB5"),
        event(502, "http", file="kernel", step="finished"),
        event(503, "image_fetched", file="initrd"),
    ]
    told = look(reports, story, is_over=True)
    assert names(told) == ["boot.approved", "boot.granted", "boot.loader_fetched", "boot.finished"]
    assert told[0].fields["by"] == "ada"
    assert told[2].fields["file"] == "kernel"


def test_a_machine_that_was_never_heard_can_be_denied() -> None:
    told = look(BootReports(), [event(0, "approval", state="denied", by="ada")])
    assert [(each.event, each.fields["by"]) for each in told] == [("boot.denied", "ada")]


def test_a_boot_that_fails_is_told_with_its_cause_when_it_is_over() -> None:
    reports = BootReports()
    story = [*BOOT[:6]]
    assert names(look(reports, story)) == ["boot.granted"]
    (failed,) = look(reports, story, is_over=True)
    assert (failed.event, failed.fields["cause"]) == ("boot.failed", BootCause.TFTP_BLOCKED)
    assert str(failed.fields["sentence"]).endswith(".")
    assert look(reports, story, is_over=True) == []


def test_a_boot_that_nobody_had_deployed_anything_for_is_told_as_less_than_a_failure() -> None:
    story = [discover(), decision("boot", "default"), offer(), lease_request()]
    assert names(look(BootReports(), story, is_over=True)) == ["boot.granted", "boot.unfinished"]
    known = [discover(), decision("boot", "default", computer="PC-1"), offer(), lease_request()]
    assert names(look(BootReports(), known, is_over=True)) == ["boot.granted", "boot.failed"]


def test_a_boot_that_failed_is_told_when_the_machine_begins_anew() -> None:
    reports = BootReports()
    first = [*BOOT[:6]]
    look(reports, first)
    again = [discover(20, "02"), decision("boot", "required", 20.1)]
    assert names(look(reports, [*first, *again])) == ["boot.failed", "boot.granted"]


@pytest.mark.parametrize(
    "story",
    [
        (discover(), decision("abort", "nothing_deployed"), offer()),
        (discover(), decision("silent", "maintenance")),
        (discover(), ignored("too_early")),
        (discover(), ignored("wrong_port")),
        (event(0, "foreign_offer", server="10.0.0.9", flags="lease", loader=""),),
    ],
    ids=["nothing deployed", "maintenance", "response delay", "not for us", "another server's"],
)
def test_what_policy_did_not_want_and_what_was_not_asked_is_no_failure(story: tuple[BootEvent, ...]) -> None:
    assert "boot.failed" not in names(look(BootReports(), story, is_over=True))


def test_a_user_who_presses_no_key_has_let_nothing_fail() -> None:
    story = [discover(), decision("prompt", "available", deployment="3"), offer(loader=""), lease_request()]
    assert names(look(BootReports(), story, is_over=True)) == ["boot.granted"]
    pressed = [*story, boot_request(), boot_reply()]
    assert names(look(BootReports(), pressed, is_over=True)) == ["boot.granted", "boot.failed"]


def test_a_story_that_has_lost_its_beginning_is_the_same_boot() -> None:
    journal, reports, told = BootJournal(clock=lambda: AT), BootReports(), []

    def look_again() -> list[BootReport]:
        before, events = journal.chapter(MAC)
        return reports.look(MAC, before, events, around())

    journal.note(MAC, "discover", xid="01")
    journal.note(MAC, "decision", outcome="wait", cause="unknown_pending", code="WXYZ")
    told += look_again()
    for _ in range(5 * EVENTS_PER_MACHINE):
        journal.note(MAC, "http", file="boot.ipxe", step="finished")
        told += look_again()
    assert names(told) == ["boot.waiting", "boot.loader_fetched"]


def test_a_machine_that_the_journal_forgot_begins_anew() -> None:
    reports = BootReports()
    look(reports, BOOT)
    assert names(look(reports, BOOT[:2])) == ["boot.granted"]


def test_a_clock_that_is_set_back_makes_nothing_new_and_hides_nothing() -> None:
    reports = BootReports()
    look(reports, BOOT)
    back = [
        BootEvent(each.at - 5000, each.event, each.fields | ({"xid": "02"} if "xid" in each.fields else {}))
        for each in BOOT
    ]
    assert names(look(reports, [*BOOT, *back])) == ["boot.granted", "boot.loader_fetched", "boot.finished"]
    assert look(reports, [*BOOT, *back]) == []


def test_memory_is_bounded_by_machines() -> None:
    reports = BootReports()
    for number in range(MACHINES + 100):
        reports.look(f"mac {number}", 0, BOOT[:2], around())
    assert len(reports._boots) == MACHINES
