# SPDX-License-Identifier: Apache-2.0
"""The loader's way to the machine."""

from __future__ import annotations

import pytest
from tests.explain.stories import (
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

from dpd.explain.findings import BootCause
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


def test_a_refused_file_is_no_cause_where_the_target_speaks_for_itself() -> None:
    found = told(*ANSWERED, tftp(), refused_file("bad_name", 7), event(8, "target", step="hello", offers=1))
    assert found.cause is BootCause.FINE
    assert "has asked for a task sequence" in found.sentence
    assert found.next_step.startswith("`dpd deploy list`")


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


def test_a_https_address_that_nothing_was_asked_of_is_a_certificate_that_is_not_trusted() -> None:
    story = told(discover(client_class="HTTPClient"), offer(loader="https://10.0.0.1:8443/boot/x.efi"), lease_request())
    assert story.cause is BootCause.HTTPS_NOT_TRUSTED
    assert "https://10.0.0.1:8443/boot/x.efi" in story.sentence
    assert "subjectAltName" in story.next_step


def test_without_a_lease_the_certificate_is_not_to_blame() -> None:
    story = told(discover(client_class="HTTPClient"), offer(loader="https://10.0.0.1:8443/boot/x.efi"))
    assert story.cause is BootCause.NO_LEASE


AVAILABLE = decision("prompt", "available", deployment="7")
MENU = (discover(), AVAILABLE, offer(loader=""), lease_request())
IPXE = {"client_class": "iPXE"}


def test_an_available_deployment_at_which_nobody_presses_the_key_is_no_blocked_tftp() -> None:
    story = told(*MENU)
    assert story.cause is BootCause.KEY_NOT_PRESSED
    assert "Deployment 7 is available, not required" in story.sentence
    assert "F8" in story.next_step
    assert told(*MENU, after=10).cause is BootCause.IN_PROGRESS


def test_a_menu_that_comes_again_after_a_restart_is_still_waiting_for_a_key() -> None:
    """A machine that goes on to its disk and starts over soon does what firmware does that merges no offers."""
    again = (
        discover(8, "02"),
        decision("prompt", "available", 8, deployment="7"),
        offer(8, loader=""),
        lease_request(12),
    )
    assert told(*MENU, *again).cause is BootCause.KEY_NOT_PRESSED


def test_a_key_that_was_pressed_and_led_nowhere_is_a_blocked_tftp() -> None:
    assert told(*MENU, boot_request(), boot_reply()).cause is BootCause.TFTP_BLOCKED


def test_a_menu_without_a_lease_and_one_beside_another_proxy_have_those_causes() -> None:
    assert told(*MENU[:3]).cause is BootCause.NO_LEASE
    assert told(*MENU, foreign_offer("proxy")).cause is BootCause.SECOND_PROXY


def test_firmware_without_a_menu_that_asks_for_nothing_is_not_waiting_for_a_key() -> None:
    story = told(discover(), AVAILABLE, offer(loader="ipxe.efi"), lease_request())
    assert story.cause is BootCause.TFTP_BLOCKED


def test_a_menu_of_grub_in_which_nobody_chose_is_told() -> None:
    story = (*MENU, boot_request(), boot_reply(), tftp(6), tftp(9, file="grub.cfg"))
    left = told(*story)
    assert left.cause is BootCause.KEY_NOT_PRESSED
    assert "GRUB has shown its menu" in left.sentence
    assert told(*story, tftp(20, file="vmlinuz")).cause is BootCause.FINE


def test_a_menu_of_ipxe_in_which_nobody_chose_is_told_and_an_image_that_was_chosen_is_not() -> None:
    story = (
        *MENU,
        boot_request(),
        boot_reply(),
        tftp(6),
        discover(8, "02", **IPXE),
        decision("prompt", "available", 8, deployment="7"),
        offer(8, loader="http://10.0.0.1:8080/boot/boot.ipxe"),
        event(9, "http", file="boot.ipxe", step="finished"),
    )
    left = told(*story)
    assert left.cause is BootCause.KEY_NOT_PRESSED
    assert "iPXE has shown its menu" in left.sentence
    assert told(*story, event(20, "http", file="kernel", step="finished")).cause is BootCause.FINE
    assert told(*story, event(20, "http", file="kernel", step="broken", bytes=5)).cause is BootCause.TRANSFER_BROKEN
    required = [decision("boot", "required", 8) if each.event == "decision" else each for each in story]
    assert told(*required).cause is BootCause.FINE
