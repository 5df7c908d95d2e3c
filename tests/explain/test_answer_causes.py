# SPDX-License-Identifier: Apache-2.0
"""The first half of a boot: heard, decided, answered."""

from __future__ import annotations

import pytest
from tests.explain.stories import (
    boot_reply,
    boot_request,
    decision,
    discover,
    event,
    foreign_offer,
    ignored,
    offer,
    tftp,
    told,
)

from dpd.explain.findings import BootCause
from dpd.site.decision import Cause


def test_a_machine_that_was_never_heard_names_the_relays_that_work() -> None:
    story = told(relays=("10.1.0.1", "10.2.0.1"))
    assert story.cause is BootCause.NO_RELAY
    assert "10.1.0.1, 10.2.0.1" in story.sentence
    assert "add 10.0.0.1 as DHCP relay target" in story.next_step


def test_a_machine_that_only_others_answer_names_them() -> None:
    story = told(foreign_offer("lease", server="10.0.0.2"), foreign_offer("proxy", server="10.0.0.9"))
    assert story.cause is BootCause.NO_RELAY
    assert "only the answers of 10.0.0.2, 10.0.0.9" in story.sentence


@pytest.mark.parametrize(
    ("outcome", "cause", "expected"),
    [
        ("silent", "ignored_mac", "ignored_mac"),
        ("silent", "maintenance", "maintenance"),
        ("silent", "unknown_denied", "unknown_denied"),
        ("wait", "unknown_pending", "unknown_pending"),
        ("wait", "pin_missing", "pin_missing"),
        ("abort", "nothing_deployed", "nothing_deployed"),
        ("abort", "not_for_pxe", "not_for_pxe"),
        ("abort", "already_run", "already_run"),
        ("abort", "not_yet", "not_yet"),
        ("abort", "expired", "deployment_expired"),
        ("abort", "brake", "brake"),
        ("abort", "no_image_for_arch", "no_image_for_arch"),
        ("boot", "duplicate_id", "guid_shared"),
    ],
)
def test_what_policy_said_is_the_cause(outcome: str, cause: str, expected: str) -> None:
    story = told(
        discover(), decision(outcome, cause, computer="PC-7", deployment="win11"), offer(), boot_request(), tftp()
    )
    assert story.cause.value == expected
    assert "{" not in story.sentence


def test_the_command_that_clears_a_deployment_is_whole() -> None:
    ran = decision("abort", "already_run", computer="PC-7", deployment="3")
    assert "`dpd deployment clear 3 PC-7`" in told(discover(), ran).next_step
    assert "`dpd deployment clear`" in told(discover(), decision("abort", "already_run")).next_step


@pytest.mark.parametrize("cause", ["default", "required", "available", "unknown_allowed"])
def test_a_decision_that_boots_is_no_cause(cause: str) -> None:
    assert told(discover(), decision("boot", cause), offer(), tftp()).cause is BootCause.FINE


def test_every_cause_that_keeps_a_machine_from_booting_is_explained() -> None:
    boots = {Cause.DEFAULT, Cause.REQUIRED, Cause.AVAILABLE, Cause.UNKNOWN_ALLOWED}
    causes = {cause: told(discover(), decision("abort", cause.value)).cause for cause in set(Cause) - boots}
    assert [cause for cause, found in causes.items() if found in (BootCause.FINE, BootCause.NOT_ANSWERED)] == []


def test_a_machine_that_was_approved_no_longer_waits() -> None:
    waiting = (discover(), decision("wait", "unknown_pending"), offer(), tftp(file="boot.ipxe"))
    assert told(*waiting).cause is BootCause.UNKNOWN_PENDING
    assert told(*waiting, event(20, "approval", state="approved", by="lab"), tftp(21)).cause is BootCause.FINE


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("switched_off", "switched_off"),
        ("no_rule", "no_image_for_arch"),
        ("no_image_for_arch", "no_image_for_arch"),
        ("chain_broken", "loader_chain_broken"),
        ("ignored_mac", "ignored_mac"),
        ("wrong_port", "not_answered"),
    ],
)
def test_why_there_was_no_answer(reason: str, expected: str) -> None:
    assert told(discover(), ignored(reason)).cause.value == expected


def test_a_broken_chain_says_what_is_broken() -> None:
    assert (
        "shimx64.efi: signer unknown"
        in told(discover(), ignored("chain_broken", detail="shimx64.efi: signer unknown")).sentence
    )


def test_a_delay_that_ended_is_no_cause() -> None:
    early = (discover(), ignored("too_early"))
    assert told(*early).cause is BootCause.RESPONSE_DELAY
    assert "asking for 0 s" in told(*early).sentence
    assert told(*early, discover(8, secs=8), offer(8), tftp(9)).cause is BootCause.FINE


def test_an_answer_that_could_not_be_sent() -> None:
    failed = told(discover(), event(0.1, "send_failed", destination="10.9.0.1:67"))
    assert failed.cause is BootCause.SEND_FAILED
    assert "10.9.0.1:67" in failed.sentence


def test_a_machine_beside_the_lease_server_asks_at_the_boot_port_alone() -> None:
    """pxe.mode = boot_port_only: nothing is heard on port 67, and nothing is wrong with that."""
    assert told(boot_request(), boot_reply(), tftp()).cause is BootCause.FINE
