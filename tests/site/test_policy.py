# SPDX-License-Identifier: Apache-2.0
"""Boot policy: each outcome with its cause."""

from __future__ import annotations

from dpd.settings import parse_settings
from dpd.site.decision import BootRequest, Cause, Outcome
from dpd.site.policy import BootPolicy

MAC, ADDRESS = "52:54:00:00:00:01", "192.0.2.7"


def request(at: float = 1000.0, mac: str = MAC) -> BootRequest:
    return BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", at=at)


def test_without_a_policy_every_machine_boots_what_the_rules_name() -> None:
    decision = BootPolicy(parse_settings("", "t")).decide(request())
    assert (decision.outcome, decision.cause, decision.boot_image) == (Outcome.BOOT, Cause.DEFAULT, "")


def test_the_default_image_is_what_every_machine_boots() -> None:
    policy = BootPolicy(parse_settings('[boot]\ndefault_image = "LAB00005"\n', "t"))
    assert policy.decide(request()).boot_image == "LAB00005"


def test_a_ticket_is_found_at_the_address_of_its_machine_alone() -> None:
    policy = BootPolicy(parse_settings("", "t"))
    ticket = policy.issue(request(), policy.decide(request()))
    assert policy.ticket_at(ADDRESS) is None
    policy.bind(ADDRESS, MAC)
    assert policy.ticket_at(ADDRESS) == ticket
    assert policy.ticket_at("192.0.2.8") is None
