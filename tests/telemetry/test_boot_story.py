# SPDX-License-Identifier: Apache-2.0
"""Where one attempt ends and the next begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpd.telemetry.boot_story import Attempt, family_of, split_attempts
from dpd.telemetry.journal import BootEvent


def event(at: float, name: str, **fields: str | int) -> BootEvent:
    return BootEvent(at, name, fields)


def discover(at: float, xid: str, client_class: str = "PXEClient", **fields: str | int) -> BootEvent:
    return event(at, "discover", xid=xid, client_class=client_class, **fields)


def sizes(*events: BootEvent) -> list[int]:
    return [len(attempt.events) for attempt in split_attempts(events)]


def test_retries_with_one_xid_are_one_attempt() -> None:
    assert sizes(*(discover(at, "01") for at in (0, 4, 12, 28, 60))) == [5]


def test_another_xid_of_the_firmware_is_another_attempt() -> None:
    assert sizes(discover(0, "01"), event(0, "offer"), discover(9, "02"), event(9, "offer")) == [2, 2]


def test_a_minute_of_silence_ends_an_attempt() -> None:
    assert sizes(discover(0, "01"), discover(61, "01")) == [1, 1]


def test_without_xid_the_seconds_tell() -> None:
    first = [event(at, "discover", secs=at) for at in (0, 4, 12)]
    assert sizes(*first, event(20, "discover", secs=0)) == [3, 1]


def test_ipxe_behind_its_firmware_is_the_same_attempt() -> None:
    stages = [
        discover(0, "01"),
        event(1, "tftp", file="snponly.efi", verdict="completed"),
        discover(5, "02", "iPXE"),
        event(6, "http", file="boot.ipxe", step="finished"),
        discover(7, "03", "iPXE"),
    ]
    assert sizes(*stages) == [5]


def test_ipxe_that_starts_over_without_a_file_is_another_attempt() -> None:
    assert sizes(discover(0, "01", "iPXE"), discover(5, "02", "iPXE")) == [1, 1]


def test_the_firmware_after_ipxe_is_another_attempt() -> None:
    assert sizes(discover(0, "01"), discover(5, "02", "iPXE"), discover(9, "03")) == [2, 1]


def test_ipv6_after_ipv4_is_another_attempt() -> None:
    assert sizes(discover(0, "01", family=4), discover(5, "01", family=6)) == [1, 1]


def test_a_long_transfer_does_not_split_an_attempt() -> None:
    assert sizes(discover(0, "01"), event(500, "tftp", file="boot.wim", verdict="completed")) == [2]
    assert sizes(discover(0, "01"), event(700, "tftp", file="boot.wim", verdict="completed")) == [1, 1]


def test_remarks_begin_nothing() -> None:
    assert sizes(discover(0, "01"), event(4000, "conflict"), event(9000, "approval")) == [3]


def test_other_servers_heard_before_the_machine_belong_to_its_attempt() -> None:
    assert sizes(event(0, "foreign_offer"), discover(0.01, "01")) == [2]


def test_a_file_that_was_fetched_before_any_question_is_an_attempt_of_its_own() -> None:
    assert sizes(event(0, "tftp", verdict="completed"), discover(5, "01")) == [1, 1]


def test_looking_into_an_attempt() -> None:
    attempt = Attempt((discover(1, "01"), event(2, "offer", rule="a"), event(3, "offer", rule="b")))
    assert (attempt.began_at, attempt.ended_at) == (1, 3)
    assert [each.fields["rule"] for each in attempt.all("offer")] == ["a", "b"]
    assert attempt.last("offer") == attempt.events[2]
    assert attempt.last("tftp") is None


def test_the_family_of_an_attempt() -> None:
    assert family_of(Attempt((discover(0, "01", family=6), event(1, "offer")))) == 6
    assert family_of(Attempt((event(1, "tftp"),))) == 4


NAMES = ("discover", "offer", "ignored", "boot_request", "boot_reply", "tftp", "http", "foreign_offer", "conflict")


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9),
            st.sampled_from(NAMES),
            st.dictionaries(
                st.sampled_from(("xid", "secs", "client_class", "step", "verdict", "family")), st.integers(4, 6)
            ),
        )
    )
)
def test_every_event_is_in_exactly_one_attempt(drawn: list[tuple[float, str, dict[str, int]]]) -> None:
    events = [BootEvent(at, name, dict(fields)) for at, name, fields in sorted(drawn, key=lambda each: each[0])]
    attempts = split_attempts(events)
    assert [each for attempt in attempts for each in attempt.events] == events
    assert all(attempt.events for attempt in attempts)
