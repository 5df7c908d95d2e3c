# SPDX-License-Identifier: Apache-2.0
"""One cause for each story: the earliest stage that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.explain.stories import (
    AT,
    boot_reply,
    boot_request,
    decision,
    discover,
    event,
    foreign_offer,
    ignored,
    lease_request,
    offer,
    tftp,
    told,
)

from dpd.explain.causes import explain
from dpd.explain.findings import BootCause, Surroundings
from dpd.telemetry.journal import BootEvent


def test_a_boot_that_went_well_is_fine_and_told_in_order() -> None:
    story = told(discover(), offer(), lease_request(), boot_request(), boot_reply(), tftp(file="ipxe.efi", bytes=4096))
    assert (story.cause, story.remarks) == (BootCause.FINE, ())
    (attempt,) = story.attempts
    assert [step.at - AT for step in attempt.steps] == pytest.approx([0, 0.01, 4, 5, 5.01, 6])
    assert attempt.steps[0].text == "asks for a network boot as PXEClient, uefi-x64, asking for 0 s"
    assert attempt.steps[-1].text == "has fetched ipxe.efi by TFTP (4096 bytes)"


def test_the_newest_attempt_is_judged_and_every_attempt_told() -> None:
    story = told(
        discover(), decision("silent", "unknown_denied"), discover(200, "02"), offer(200), tftp(201), after=300
    )
    assert story.cause is BootCause.FINE
    assert len(story.attempts) == 2


def test_what_did_not_come_is_judged_after_a_while_only() -> None:
    assert told(discover(), offer(), after=5).cause is BootCause.IN_PROGRESS
    assert told(discover(), offer(), after=30).cause is BootCause.NO_LEASE


def test_another_server_that_did_not_stop_the_boot_is_a_remark() -> None:
    story = told(discover(), foreign_offer("proxy"), offer(), lease_request(), tftp())
    assert story.cause is BootCause.FINE
    assert story.remarks == ("Another server, 10.0.0.9, offers its own proxyDHCP offer to this machine too.",)


def test_who_came_without_asking_gets_a_remark() -> None:
    story = told(tftp())
    assert story.cause is BootCause.FINE
    assert story.remarks == (
        "dpd did not hear the machine's first question: it was sent here by another server, or there is no relay to dpd.",
    )


def test_what_went_wrong_over_ipv4_is_told_beside_what_went_wrong_over_ipv6() -> None:
    four = (discover(family=4), foreign_offer("proxy"), offer(), lease_request())
    six = (discover(40, "02", family=6), ignored("no_rule", 40))
    story = told(*four, *six)
    assert story.cause is BootCause.NO_IMAGE_FOR_ARCH
    assert story.remarks[-1].startswith("Over IPv4 just before: Another proxyDHCP, 10.0.0.9")
    assert told(*four, discover(1000, "02", family=6), ignored("no_rule", 1000), after=1100).remarks == ()


def test_a_plain_lease_is_no_remark() -> None:
    assert told(discover(), foreign_offer("lease"), offer(), lease_request(), tftp()).remarks == ()


STAGED: dict[str, tuple[BootCause, tuple[BootEvent, ...]]] = {
    "no relay": (BootCause.NO_RELAY, ()),
    "second proxy": (BootCause.SECOND_PROXY, (discover(), foreign_offer("proxy"), offer(), lease_request())),
    "stray option 60": (
        BootCause.STRAY_OPTION_60,
        (discover(), foreign_offer("lease option60", server="10.0.0.2"), offer(), lease_request()),
    ),
    "lease server sets file": (
        BootCause.LEASE_SERVER_SETS_FILE,
        (discover(), foreign_offer("lease file option60", loader="old.efi"), offer(), lease_request()),
    ),
    "no image for the architecture": (
        BootCause.NO_IMAGE_FOR_ARCH,
        (discover(), decision("abort", "no_image_for_arch", boot_image="winpe"), offer(loader="abort.ipxe")),
    ),
    "unknown denied": (BootCause.UNKNOWN_DENIED, (discover(), decision("silent", "unknown_denied"))),
    "ticket expired": (
        BootCause.TICKET_EXPIRED,
        (
            discover(),
            offer(),
            lease_request(),
            tftp(),
            event(90, "refused_file", file="boot.wim", reason="ticket_expired"),
        ),
    ),
    "TFTP blocked": (BootCause.TFTP_BLOCKED, (discover(), offer(), lease_request(), boot_request(), boot_reply())),
    "key not pressed": (
        BootCause.KEY_NOT_PRESSED,
        (discover(), decision("prompt", "available", deployment="7"), offer(loader=""), lease_request()),
    ),
    "MTU hole": (
        BootCause.MTU_HOLE,
        (discover(), offer(), lease_request(), tftp(verdict="timeout", bytes=0, retransmits=6, answered=1)),
    ),
    "GUID shared": (
        BootCause.GUID_SHARED,
        (
            discover(),
            event(0, "conflict", kind="duplicate_guid", guid="feed", others="aa"),
            decision("boot", "required", computer="PC-7"),
            offer(),
            tftp(),
        ),
    ),
    "required already run": (BootCause.ALREADY_RUN, (discover(), decision("abort", "already_run"), offer(), tftp())),
    "deployment expired": (BootCause.DEPLOYMENT_EXPIRED, (discover(), decision("abort", "expired"), offer())),
    "loader chain broken": (
        BootCause.LOADER_CHAIN_BROKEN,
        (discover(), ignored("chain_broken", detail="grubx64.efi is not signed")),
    ),
    "response delay": (
        BootCause.RESPONSE_DELAY,
        (discover(), ignored("too_early"), discover(4, secs=4), ignored("too_early", 4)),
    ),
    "maintenance": (BootCause.MAINTENANCE, (discover(), decision("silent", "maintenance"))),
}


@pytest.mark.parametrize(("cause", "events"), STAGED.values(), ids=STAGED.keys())
def test_the_cause_of_each_failure(cause: BootCause, events: tuple[BootEvent, ...]) -> None:
    story = told(*events, after=200)
    assert story.cause is cause
    assert story.sentence.endswith(".")
    assert story.next_step


NAMES = [
    "discover",
    "boot_request",
    "decision",
    "offer",
    "boot_reply",
    "ignored",
    "ticket",
    "tftp",
    "http",
    "refused_file",
    "send_failed",
    "approval",
    "foreign_offer",
    "wire_request",
    "conflict",
    "another",
]
VALUES = st.one_of(
    st.integers(-1, 5),
    st.sampled_from(
        [
            "",
            "PXEClient",
            "iPXE",
            "completed",
            "timeout",
            "refused",
            "too_early",
            "lease_request",
            "proxy file",
            "{x}",
            "silent",
            "wait",
            "unknown_denied",
            "duplicate_id",
            "chain_broken",
            "no_ticket",
            "broken",
            "grubx64.efi",
        ]
    ),
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "xid",
            "secs",
            "reason",
            "verdict",
            "step",
            "cause",
            "outcome",
            "flags",
            "server",
            "file",
            "loader",
            "bytes",
            "answered",
            "detail",
            "kind",
        ]
    ),
    VALUES,
    max_size=5,
)


@given(st.lists(st.tuples(st.floats(0, 200), st.sampled_from(NAMES), FIELDS), max_size=12), st.floats(0, 400))
def test_any_story_has_one_cause_and_words_for_every_step(
    drawn: list[tuple[float, str, dict[str, str | int]]], now: float
) -> None:
    events = [BootEvent(at, name, fields) for at, name, fields in sorted(drawn, key=lambda each: each[0])]
    story = explain(events, Surroundings(now))
    assert story.sentence
    assert sum(len(attempt.steps) for attempt in story.attempts) == len(events)
    assert all(step.text for attempt in story.attempts for step in attempt.steps)
