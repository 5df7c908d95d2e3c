# SPDX-License-Identifier: Apache-2.0
"""What came after the loader, and whether it was meant for this machine."""

from __future__ import annotations

from tests.explain.stories import (
    AT,
    boot_reply,
    boot_request,
    decision,
    discover,
    event,
    lease_request,
    offer,
    tftp,
    told,
)

from dpd.explain.causes import explain
from dpd.explain.findings import BootCause, Surroundings

ANSWERED = (discover(), offer(), lease_request())


def test_signed_grub_that_asks_for_nothing_has_stalled() -> None:
    fetched = (tftp(6, "shimx64.efi"), tftp(7, "grubx64.efi"))
    assert told(*ANSWERED, *fetched, after=10).cause is BootCause.FINE
    stalled = told(*ANSWERED, *fetched, after=40)
    assert stalled.cause is BootCause.SIGNED_GRUB_STALL
    assert "next-server" in stalled.next_step
    assert "10.0.0.1" in stalled.next_step


def test_grub_that_goes_on_has_not_stalled() -> None:
    went_on = tftp(8, "grub/grub.cfg", verdict="refused", bytes=0)
    assert told(*ANSWERED, tftp(7, "grubx64.efi"), went_on).cause is BootCause.FINE


def test_a_loader_that_is_fetched_again_and_again_does_not_start() -> None:
    again = (discover(30, "02"), offer(30), lease_request(34), tftp(36))
    assert told(*ANSWERED, tftp(), *again).cause is BootCause.LOADER_NOT_STARTED
    another = (discover(30, "02"), offer(30), lease_request(34), tftp(36), tftp(37, "boot.ipxe"))
    assert told(*ANSWERED, tftp(), *another).cause is BootCause.FINE


CONFLICT = event(0, "conflict", kind="duplicate_guid", guid="feed", others="02:00:00:00:00:07")


def test_a_shared_guid_is_the_cause_where_policy_went_by_it() -> None:
    known = decision("boot", "required", computer="PC-7")
    story = told(discover(), CONFLICT, known, offer(), tftp())
    assert story.cause is BootCause.GUID_SHARED
    assert "02:00:00:00:00:07" in story.sentence
    assert "pxe.duplicate_ids" in story.next_step


def test_a_shared_guid_is_a_remark_where_policy_did_not_or_something_else_failed() -> None:
    unknown = told(discover(), CONFLICT, decision("boot", "default"), offer(), tftp())
    assert unknown.cause is BootCause.FINE
    blocked = told(discover(), CONFLICT, decision("boot", "required", computer="PC-7"), offer(), lease_request(), boot_request(), boot_reply())  # fmt: skip
    assert blocked.cause is BootCause.TFTP_BLOCKED
    assert all("02:00:00:00:00:07" in each.remarks[0] for each in (unknown, blocked))


def test_a_guid_that_policy_does_not_go_by_is_no_conflict() -> None:
    known = decision("boot", "required", computer="PC-7")
    around = Surroundings(AT + 100, shared_ids={"feed"})
    story = explain((discover(), CONFLICT, known, offer(), tftp()), around)
    assert (story.cause, story.remarks) == (BootCause.FINE, ())


def test_a_deployment_that_a_twin_has_run_is_the_shared_guids_fault() -> None:
    ran = decision("abort", "already_run", computer="PC-7", deployment="3")
    assert told(discover(), CONFLICT, ran, offer()).cause is BootCause.GUID_SHARED
    itself = (
        discover(),
        CONFLICT,
        offer(),
        tftp(),
        discover(90, "02"),
        decision("abort", "already_run", 90, computer="PC-7"),
    )
    assert told(*itself).cause is BootCause.ALREADY_RUN


def test_a_loader_with_a_known_fault_did_not_start_for_that() -> None:
    fault = event(5, "loader_fault", file="ipxe.efi", detail="its signature does not hold")
    story = told(*ANSWERED, fault, tftp())
    assert story.cause is BootCause.LOADER_NOT_STARTED
    assert "its signature does not hold" in story.sentence
    assert told(*ANSWERED, fault, tftp(), after=10).cause is BootCause.FINE
    assert told(*ANSWERED, fault, tftp(6), tftp(7, "boot.ipxe")).cause is BootCause.FINE
