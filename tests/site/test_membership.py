# SPDX-License-Identifier: Apache-2.0
"""Who belongs to which collection; worked out anew, or from what was known before, it is the same."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.site.membership import Membership, in_order
from dpd.site.records import Collection, Computer, MemberKind, MembershipRule, SiteConflict, SiteNotFound

NAME, MAC, GUID = MemberKind.NAME, MemberKind.MAC_PREFIX, MemberKind.GUID


def known(*names: str) -> dict[str, Computer]:
    macs = (f"52:54:00:00:00:{number:02x}" for number in range(len(names)))
    return {name.lower(): Computer(name, (mac,)) for name, mac in zip(names, macs, strict=True)}


def rule(value: str, kind: MemberKind = NAME) -> MembershipRule:
    return MembershipRule(kind, value)


def names(membership: Membership, collection: str) -> list[str]:
    return [each.name for each in membership.members(collection)]


def test_computers_belong_by_name_and_by_rule() -> None:
    computers = known("LAB-1", "lab-2", "OFFICE-1", "X")
    lab = Collection("Lab", ("x",), (rule("Lab-*"), rule("OFFICE-?")))
    membership = Membership([lab], computers)
    assert names(membership, "LAB") == ["LAB-1", "lab-2", "OFFICE-1", "X"]
    assert membership.collections_of("Lab-2") == ["Lab"]
    assert [membership.why("lab", each) for each in ("x", "LAB-2", "office-1", "Y")] == [
        "named",
        "name Lab-*",
        "name OFFICE-?",
        "",
    ]


def test_a_mac_prefix_and_a_guid_find_any_of_a_computers_nics() -> None:
    computers = {
        "a": Computer("A", ("52:54:00:00:00:01", "aa:bb:cc:00:00:01")),
        "b": Computer("B", ("52:54:00:00:00:02",), "4c4c4544-0044-3510-8052-b4c04f4e4d31"),
        "c": Computer("C", ("aa:bb:c0:00:00:01",)),
    }
    membership = Membership(
        [
            Collection("dock", (), (rule("aa:bb:cc", MAC),)),
            Collection("dell", (), (rule("4c4c4544-*", GUID),)),
            Collection("any", (), (rule("*", GUID),)),
        ],
        computers,
    )
    assert [names(membership, each) for each in ("dock", "dell", "any")] == [["A"], ["B"], ["B"]]


def test_who_is_excluded_is_no_member_whatever_else_says_so() -> None:
    computers = known("LAB-1", "LAB-2", "LAB-3")
    lab = Collection("lab", (), (rule("LAB-*"),))
    old = Collection("old", ("lab-2",))
    new = Collection("new", ("LAB-2",), (rule("LAB-2"),), ("lab",), ("old",))
    newer = Collection("newer", (), (), ("new",))
    membership = Membership([newer, new, old, lab], computers)
    assert names(membership, "new") == names(membership, "newer") == ["LAB-1", "LAB-3"]
    assert membership.why("newer", "lab-1") == "collection new"
    assert membership.collections_of("lab-2") == ["lab", "old"]


def test_a_circle_is_refused_with_its_steps() -> None:
    one, two, three = (
        Collection("One", include=("TWO",)),
        Collection("two", exclude=("three",)),
        Collection("three", include=("one",)),
    )
    with pytest.raises(SiteConflict, match=r"in a circle: .*one -> .*; take one step out"):
        Membership([one, two, three])
    assert in_order([one, two])[-1] == "one"


def test_what_is_not_there_is_told_or_empty() -> None:
    membership = Membership([Collection("lab", ("gone",), (), ("none",))], known("A"))
    assert names(membership, "lab") == []
    assert membership.keys_in("nothing") == frozenset()
    with pytest.raises(SiteNotFound, match="no collection x; `dpd collection list`"):
        membership.find("x")


def test_long_chains_of_collections_are_no_trouble() -> None:
    chain = [Collection("c0", ("A",)), *(Collection(f"c{n}", include=(f"c{n - 1}",)) for n in range(1, 3000))]
    assert names(Membership(chain, known("A")), "c2999") == ["A"]


computers = st.dictionaries(
    st.sampled_from(["LAB-1", "LAB-2", "lab-3", "X-1", "X-2"]),
    st.sampled_from(["52:54:00:00:00:01", "aa:bb:cc:00:00:01"]),
)
rules = st.lists(
    st.sampled_from([rule("LAB-*"), rule("*-1"), rule("x-?"), rule("aa:bb", MAC), rule("52:54:00", MAC)]),
    max_size=2,
    unique=True,
)
listed = st.lists(st.sampled_from(["LAB-1", "lab-3", "X-2"]), max_size=2, unique=True)
KEYS = ["a", "b", "c", "d"]


@st.composite
def collection_lists(draw: st.DrawFn) -> list[Collection]:
    """Each speaks of earlier ones alone, so that there is no circle."""
    found: list[Collection] = []
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True)):
        earlier = [each.name for each in found]
        others = st.lists(st.sampled_from(earlier), max_size=2, unique=True) if earlier else st.just([])
        found.append(Collection(key, tuple(draw(listed)), tuple(draw(rules)), tuple(draw(others)), tuple(draw(others))))
    return found


def slowly(collections: Iterable[Collection], computers: dict[str, Computer]) -> dict[str, set[str]]:
    """What the words of the records say, without any order or memory."""
    found: dict[str, set[str]] = {}
    for each in collections:
        members = {key for key in computers if key in [name.lower() for name in each.computers]}
        for key, computer in computers.items():
            for rule in each.rules:
                if rule.kind is NAME and fnmatchcase(key, rule.value.lower()):
                    members.add(key)
                if rule.kind is MAC and computer.macs[0].startswith(rule.value):
                    members.add(key)
        for other in each.include:
            members |= found[other]
        for other in each.exclude:
            members -= found[other]
        found[each.name] = members
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(collection_lists(), computers), min_size=1, max_size=5))
def test_after_any_changes_it_is_what_it_would_be_from_the_beginning(
    states: list[tuple[list[Collection], dict[str, str]]],
) -> None:
    membership: Membership | None = None
    for collections, macs in states:
        there = {name.lower(): Computer(name, (mac,)) for name, mac in macs.items()}
        membership = Membership(collections, there, membership)
        expected = slowly(collections, there)
        assert {each.name: set(membership.keys_in(each.name)) for each in collections} == expected
        for key in there:
            assert membership.collections_of(key) == sorted(name for name, keys in expected.items() if key in keys)
            for name, keys in expected.items():
                assert bool(membership.why(name, key)) == (key in keys)
