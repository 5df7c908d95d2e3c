# SPDX-License-Identifier: Apache-2.0
"""Who is known, and what a list of computers would change."""

from __future__ import annotations

import pytest

from dpd.site.known_computers import KnownComputers, plan_changes
from dpd.site.records import Computer, SiteNotFound

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"
GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
ONE, TWO = Computer("One", (A,), GUID, added_at=1.0), Computer("Two", (B,), added_at=1.0)
KNOWN = KnownComputers([ONE, TWO])


def test_mac_or_guid_is_enough_and_the_mac_goes_first() -> None:
    assert KNOWN.identify(A, "") is ONE
    assert KNOWN.identify(C, GUID) is ONE
    assert KNOWN.identify(B, GUID) is TWO
    assert KNOWN.identify(C, "") is None


def test_identities_that_several_share_tell_nothing() -> None:
    assert KNOWN.identify(A, GUID, {A}) is ONE
    assert KNOWN.identify(A, GUID, {A, GUID}) is None
    assert KNOWN.identify(C, GUID, {GUID}) is None


def test_a_name_is_found_in_any_case() -> None:
    assert KNOWN.find("oNE") is ONE
    with pytest.raises(SiteNotFound, match="no computer three; `dpd computer list`"):
        KNOWN.find("three")


def test_a_plan_tells_new_changed_and_unchanged_computers_apart() -> None:
    plan = plan_changes(
        KNOWN, [Computer("one", (A, C), GUID), Computer("Two", (B,)), Computer("Three", (), GUID[:-1] + "0")]
    )
    assert [each.name for each in plan.added] == ["Three"]
    assert plan.changed == ((ONE, Computer("One", (A, C), GUID, added_at=1.0)),)
    assert plan.unchanged == (TWO,)
    assert plan.problems == ()


def test_an_identity_of_somebody_else_stands_against_it() -> None:
    (problem,) = plan_changes(KNOWN, [Computer("Three", (C, B))]).problems
    assert (problem.place, problem.message) == (0, f"computer Three: {B} is Two's already")


def test_what_is_given_twice_stands_against_itself() -> None:
    plan = plan_changes(KNOWN, [Computer("X", (C,)), Computer("x", (C,)), Computer("Y", (C,))])
    assert [(each.place, each.message) for each in plan.problems] == [
        (1, "computer x: given more than once"),
        (2, f"computer Y: {C} is X's already"),
    ]


def test_identities_may_change_hands_in_one_plan() -> None:
    plan = plan_changes(KNOWN, [Computer("One", (B,)), Computer("Two", (A,), GUID)])
    assert plan.problems == ()
    assert len(plan.changed) == 2
