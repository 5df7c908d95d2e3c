# SPDX-License-Identifier: Apache-2.0
"""Boot tickets."""

from __future__ import annotations

from dpd.site.decision import BootRequest, Cause, Decision, Outcome
from dpd.site.tickets import CAPACITY, Tickets

MAC = "52:54:00:00:00:01"
BOOT = Decision(Outcome.BOOT, Cause.REQUIRED, boot_image="LAB00005")


def request(at: float = 0.0, mac: str = MAC) -> BootRequest:
    return BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", at=at)


def test_a_ticket_lasts_for_its_lifetime_and_no_longer() -> None:
    ticket = Tickets().issue(request(100.0), BOOT, 60.0)
    assert not ticket.grants_now(99.9)
    assert ticket.grants_now(100.0)
    assert ticket.grants_now(159.9)
    assert not ticket.grants_now(160.0)


def test_a_retry_in_one_boot_keeps_its_ticket_and_another_decision_makes_another() -> None:
    tickets = Tickets()
    first = tickets.issue(request(0.0), BOOT, 60.0)
    assert tickets.issue(request(4.0), BOOT, 60.0).id == first.id
    other = tickets.issue(request(8.0), Decision(Outcome.BOOT, Cause.REQUIRED, boot_image="LAB00006"), 60.0)
    assert other.id != first.id
    assert tickets.of_mac(MAC) == other


def test_a_boot_after_the_end_of_a_ticket_makes_another() -> None:
    tickets = Tickets()
    first = tickets.issue(request(0.0), BOOT, 60.0)
    assert tickets.issue(request(61.0), BOOT, 60.0).id != first.id


def test_an_address_is_the_machine_seen_there_last() -> None:
    tickets = Tickets()
    tickets.bind("192.0.2.7", MAC)
    tickets.bind("192.0.2.7", "52:54:00:00:00:02")
    assert tickets.mac_of("192.0.2.7") == "52:54:00:00:00:02"
    assert tickets.mac_of("192.0.2.8") == ""


def test_a_revoked_ticket_is_gone() -> None:
    tickets = Tickets()
    tickets.issue(request(), BOOT, 60.0)
    tickets.revoke(MAC)
    assert tickets.of_mac(MAC) is None


def test_invented_machines_cost_old_tickets_and_no_memory() -> None:
    tickets = Tickets()
    for number in range(CAPACITY + 5):
        mac = f"52:54:00:{number >> 16:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"
        tickets.issue(request(mac=mac), BOOT, 60.0)
        tickets.bind(f"10.0.{number >> 8}.{number & 0xFF}", mac)
    assert tickets.of_mac("52:54:00:00:00:00") is None
    assert tickets.mac_of("10.0.0.0") == ""
    assert tickets.of_mac(mac) is not None


def test_each_boot_has_a_proof_of_its_own_that_retries_keep_and_no_text_shows() -> None:
    tickets = Tickets()
    first = tickets.issue(request(0.0), BOOT, 60.0)
    assert len(bytes.fromhex(first.proof)) == 16
    assert first.proof not in f"{first} {first.id}"
    proof = first.proof
    assert tickets.issue(request(4.0), BOOT, 60.0).proof == proof
    assert tickets.issue(request(100.0), BOOT, 60.0).proof != proof
    assert tickets.issue(request(100.0, "52:54:00:00:00:02"), BOOT, 60.0).proof != proof


def test_a_machine_that_has_shown_its_proof_and_asks_again_is_in_another_boot() -> None:
    tickets = Tickets()
    first = tickets.issue(request(0.0), BOOT, 60.0)
    first.used_by = "somebody"
    again = tickets.issue(request(4.0), BOOT, 60.0)
    assert again.id != first.id
    assert again.proof != first.proof
    assert not again.used_by
