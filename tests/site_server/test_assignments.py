# SPDX-License-Identifier: Apache-2.0
"""What points are to hold, and what each of them is told of it."""

from __future__ import annotations

import asyncio

import pytest
from tests.site_server.at_work import at_work

from dpd.bus.link import Link
from dpd.bus.messages import Desired, DesiredPackage, decode
from dpd.bus.subjects import Subjects
from dpd.database import Database
from dpd.settings import Settings
from dpd.site.records import Point, SiteNotFound
from dpd.site_server.assignments import Assignments
from dpd.site_server.layout import ensure_layout
from dpd.site_server.points import Points

POINTS = [Point("branch-1", ("branches",)), Point("branch-2", ("branches",)), Point("hq")]


@pytest.fixture
def points(database: Database) -> Points:
    return Points(database, lambda: POINTS, lambda: 0)


@pytest.fixture
def assignments(database: Database, points: Points) -> Assignments:
    return Assignments(database, points, "lab", clock=lambda: 5.0)


def wanted(assignments: Assignments, point: Point) -> list[tuple[str, int | None]]:
    desired = assignments.desired(point.name, point.groups, assignments.all())
    return [(package.package_id, package.source_version) for package in desired.packages]


def test_a_point_is_to_hold_what_is_for_it_its_groups_and_all(assignments: Assignments) -> None:
    assignments.add("group:all", "BASE", None, 2, "ann")
    assignments.add("group:branches", "LAB", 3, 1, "ann")
    assignments.add("dp:hq", "HQ", None, 2, "ann")
    assert [wanted(assignments, point) for point in POINTS] == [
        [("BASE", None), ("LAB", 3)],
        [("BASE", None), ("LAB", 3)],
        [("BASE", None), ("HQ", None)],
    ]


def test_what_is_for_the_point_itself_goes_before_what_is_for_its_groups(assignments: Assignments) -> None:
    assignments.add("dp:branch-1", "LAB", 7, 1, "ann")
    assignments.add("group:branches", "LAB", 3, 2, "ann")
    assert [wanted(assignments, point) for point in POINTS[:2]] == [[("LAB", 7)], [("LAB", 3)]]


def test_a_later_word_takes_the_place_of_an_earlier_one(assignments: Assignments) -> None:
    assignments.add("dp:hq", "LAB", 1, 2, "ann")
    assignments.add("dp:hq", "LAB", 2, 2, "bob")
    (only,) = assignments.all()
    assert (only.source_version, only.actor, only.added_at) == (2, "bob", 5.0)
    assert assignments.remove("dp:hq", "LAB") == only
    assert assignments.all() == []


def test_what_nobody_has_heard_of_is_refused(assignments: Assignments) -> None:
    with pytest.raises(SiteNotFound, match="no distribution point nowhere"):
        assignments.add("dp:nowhere", "LAB", None, 2, "ann")
    with pytest.raises(SiteNotFound, match="no group south"):
        assignments.add("group:south", "LAB", None, 2, "ann")
    with pytest.raises(SiteNotFound, match="LAB is not assigned to dp:hq"):
        assignments.remove("dp:hq", "LAB")


async def test_each_point_has_its_key_on_the_bus_and_only_what_changed_is_put(
    assignments: Assignments, link: Link, settings: Settings
) -> None:
    await ensure_layout(link, settings)
    async with (
        asyncio.timeout(60),
        at_work(assignments.keep_telling(link)),
        link.watched(Subjects("lab").desired_bucket) as entries,
    ):

        async def next_change() -> tuple[str, list[DesiredPackage]]:
            async for entry in entries:
                if entry is not None:
                    return entry.key, decode(Desired, entry.value).packages
            raise AssertionError("the watch has ended")

        assignments.add("dp:hq", "LAB", None, 2, "ann")
        assert await next_change() == ("hq", [DesiredPackage("LAB", None, 2)])
        assignments.add("group:branches", "LAB", 4, 1, "ann")
        seen = sorted([await next_change(), await next_change()], key=lambda each: each[0])
        assert seen == [(name, [DesiredPackage("LAB", 4, 1)]) for name in ("branch-1", "branch-2")]
        assignments.remove("dp:hq", "LAB")
        assert await next_change() == ("hq", [])
