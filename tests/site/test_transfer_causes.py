# SPDX-License-Identifier: Apache-2.0
"""The second half of a boot: other servers, the loader's way, and what came after."""

from __future__ import annotations

import pytest
from tests.site.stories import (
    AT,
    boot_reply,
    boot_request,
    decision,
    discover,
    event,
    foreign_offer,
    lease_request,
    offer,
    tftp,
    told,
)

from dpd.site.causes import explain
from dpd.site.findings import BootCause, Surroundings
from dpd.telemetry.journal import BootEvent

ANSWERED = (discover(), offer(), lease_request())


def refused_file(reason: str, at: float = 7) -> BootEvent:
    return event(at, "refused_file", file="boot.wim", reason=reason, detail="why")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("ticket_expired", "ticket_expired"),
        ("no_ticket", "no_ticket"),
        ("other_image", "other_image"),
        ("bad_name", "file_missing"),
        ("chain_broken", "loader_chain_broken"),
    ],
)
def test_a_refused_file_ends_a_boot(reason: str, expected: str) -> None:
    assert told(*ANSWERED, tftp(), refused_file(reason)).cause.value == expected


def test_a_refused_file_that_the_boot_went_on_without_is_none() -> None:
    assert told(*ANSWERED, refused_file("no_ticket", 5), tftp(6)).cause is BootCause.FINE


def test_requests_that_end_at_the_network_card_are_this_hosts_firewall() -> None:
    story = told(*ANSWERED, event(9, "wire_request", file="ipxe.efi"), after=10)
    assert story.cause is BootCause.TFTP_BLOCKED
    assert "a firewall on this host" in story.sentence


def test_a_request_seen_twice_and_then_served_is_fine() -> None:
    assert told(*ANSWERED, event(9, "wire_request", file="ipxe.efi"), tftp(10)).cause is BootCause.FINE


def test_a_request_without_any_confirmation_is_a_blocked_way_back() -> None:
    story = told(*ANSWERED, tftp(verdict="timeout", bytes=0, retransmits=6, answered=0))
    assert story.cause is BootCause.TFTP_BLOCKED
    assert "transfer ports" in story.sentence


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"verdict": "timeout", "bytes": 0, "retransmits": 6, "answered": 1}, "mtu_hole"),
        ({"verdict": "aborted", "bytes": 0, "retransmits": 3, "answered": 1}, "mtu_hole"),
        ({"verdict": "timeout", "bytes": 0, "retransmits": 6, "answered": 1, "blksize": 512}, "transfer_broken"),
        ({"verdict": "timeout", "bytes": 70000, "retransmits": 6, "answered": 1}, "transfer_broken"),
    ],
)
def test_large_blocks_alone_that_never_arrive_are_an_mtu_hole(fields: dict[str, str | int], expected: str) -> None:
    assert told(*ANSWERED, tftp(**fields)).cause.value == expected  # type: ignore[arg-type]


def test_the_mtu_is_named_in_what_to_do() -> None:
    story = told(*ANSWERED, tftp(verdict="timeout", bytes=0, retransmits=6, blksize=1468))
    assert "1468 bytes" in story.sentence
    assert "max_blksize" in story.next_step


def test_a_probe_for_the_size_is_no_failure() -> None:
    probe = tftp(5, verdict="probe", bytes=0, detail="client error 8")
    assert told(*ANSWERED, probe, tftp(6)).cause is BootCause.FINE


def test_the_loader_that_is_not_there_is_told_and_optional_files_are_not() -> None:
    missing = tftp(verdict="refused", detail="no such file", bytes=0)
    assert told(*ANSWERED, missing).cause is BootCause.FILE_MISSING
    optional = tftp(7, file="grub.cfg-01", verdict="refused", bytes=0)
    assert told(*ANSWERED, tftp(), optional).cause is BootCause.FINE


def test_a_download_that_broke_off() -> None:
    story = told(*ANSWERED, event(9, "http", file="boot.wim", step="broken", bytes=5, reason="connection reset"))
    assert story.cause is BootCause.TRANSFER_BROKEN
    assert "connection reset" in story.sentence


@pytest.mark.parametrize(
    ("at", "words"), [(0.001, "answered first"), (0.5, "answered too, after dpd")], ids=["before", "after"]
)
def test_another_proxy_is_told_with_its_turn(at: float, words: str) -> None:
    events = sorted([*ANSWERED, foreign_offer("proxy", at)], key=lambda each: each.at)
    story = told(*events)
    assert story.cause is BootCause.SECOND_PROXY
    assert words in story.sentence


def test_a_file_of_the_lease_server_is_named() -> None:
    story = told(
        discover(), foreign_offer("lease file", server="10.0.0.2", loader="pxelinux.0"), offer(), lease_request()
    )
    assert story.cause is BootCause.LEASE_SERVER_SETS_FILE
    assert "10.0.0.2 names a boot file itself (pxelinux.0)" in story.sentence
    assert "dpd pxe options" in story.next_step


def test_nothing_after_port_4011_is_a_blocked_tftp() -> None:
    assert told(*ANSWERED, boot_request(), boot_reply()).cause is BootCause.TFTP_BLOCKED


def test_a_machine_that_starts_over_at_once_does_not_merge_two_offers() -> None:
    again = (discover(8, "02"), offer(8), lease_request(12))
    story = told(*ANSWERED, *again)
    assert story.cause is BootCause.OFFERS_NOT_MERGED
    assert "dpd pxe options" in story.next_step
    assert told(*ANSWERED, discover(8, "02"), offer(8)).cause is BootCause.OFFERS_NOT_MERGED


def test_a_machine_that_starts_over_after_its_tftp_timed_out_is_blocked() -> None:
    again = (discover(40, "02"), offer(40), lease_request(44))
    assert told(*ANSWERED, *again).cause is BootCause.TFTP_BLOCKED


def test_a_binl_machine_that_did_not_come_to_4011_does_not_merge() -> None:
    binl = event(0.01, "offer", loader="ipxe.efi", flow="binl")
    assert told(discover(), binl, lease_request()).cause is BootCause.OFFERS_NOT_MERGED


def test_without_a_lease_nothing_goes_on() -> None:
    asking = (discover(), offer(), discover(4), offer(4), discover(12), offer(12))
    assert told(*asking).cause is BootCause.NO_LEASE
    assert "The lease server 10.0.0.9" in told(foreign_offer("lease"), *asking).sentence


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
