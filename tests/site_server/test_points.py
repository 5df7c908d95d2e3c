# SPDX-License-Identifier: Apache-2.0
"""The registry of distribution points: who is declared, who was heard, who is behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.bus.messages import Hello
from dpd.database import Database
from dpd.site.records import Point, SiteNotFound
from dpd.site_server.database import SiteServerError, open_database
from dpd.site_server.points import AWAY_AFTER_S, TWICE_S, PointAway, Points, Presence

DECLARED = (Point("branch-1", ("branches", "north")), Point("branch-2", ("branches",)), Point("hq"))


class Site:
    """A registry with a clock and a published version to set."""

    def __init__(self, database: Database) -> None:
        self.now, self.published = 1000.0, 7
        self.declared = list(DECLARED)
        self.points = Points(database, lambda: self.declared, lambda: self.published, clock=lambda: self.now)

    def hear(self, point: str, *, version: int = 7, state: str = "ready", **counts: int) -> None:
        self.points.hear(
            Hello(point, "lab", "0.1.0", state, 900.0, version, 1.0, f"of {point}", 3, "http://p:8080", counts)
        )


@pytest.fixture
def site(database: Database) -> Site:
    return Site(database)


def test_a_declared_point_is_listed_before_it_is_heard(site: Site) -> None:
    assert [(each.name, each.state) for each in site.points.all()] == [
        ("branch-1", Presence.NEVER),
        ("branch-2", Presence.NEVER),
        ("hq", Presence.NEVER),
    ]


def test_a_point_that_is_heard_is_there_with_what_it_said(site: Site) -> None:
    site.hear("branch-1", version=5, pending=2, sessions=1)
    status = site.points.one("branch-1")
    assert (status.state, status.policy_version, status.policy_lag, status.last_seen_at) == (
        Presence.PRESENT,
        5,
        2,
        1000.0,
    )
    assert (status.pending, status.sessions, status.machines, status.groups) == (2, 1, 0, ("branches", "north"))
    assert (status.declared, status.url, status.backlog) == (True, "http://p:8080", 3)


def test_one_that_nobody_declared_is_listed_too(site: Site) -> None:
    site.hear("surprise")
    assert [each.name for each in site.points.all() if not each.declared] == ["surprise"]


def test_a_point_is_away_when_three_of_its_words_did_not_come(site: Site) -> None:
    site.hear("hq")
    site.now += AWAY_AFTER_S - 1
    site.points.require_present("hq")
    site.now += 1
    with pytest.raises(PointAway, match="last heard 35 s ago"):
        site.points.require_present("hq")
    with pytest.raises(PointAway, match="has not been heard yet"):
        site.points.require_present("branch-2")
    with pytest.raises(SiteNotFound, match="no distribution point nowhere"):
        site.points.require_present("nowhere")


def test_one_that_says_goodbye_is_away_at_once(site: Site) -> None:
    site.hear("hq")
    site.hear("hq", state="gone")
    assert site.points.one("hq").state is Presence.AWAY


def test_comings_and_goings_are_told_once(site: Site) -> None:
    site.hear("hq")
    assert site.points.changes() == [("hq", Presence.PRESENT)]
    site.hear("hq")
    assert site.points.changes() == []
    site.now += AWAY_AFTER_S
    assert site.points.changes() == [("hq", Presence.AWAY)]
    assert site.points.changes() == []


def test_a_group_is_those_that_are_declared_in_it_and_all_is_everyone(site: Site) -> None:
    site.hear("surprise")
    assert site.points.names("branches") == ["branch-1", "branch-2"]
    assert site.points.names("all") == ["branch-1", "branch-2", "hq", "surprise"]
    with pytest.raises(SiteNotFound, match="no group south; there are branches, north, all"):
        site.points.names("south")


async def test_what_was_heard_is_known_after_a_restart(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    before = Site(database)
    before.hear("hq", version=4, jobs=9)
    before.points.write()
    database.close()
    database = open_database(tmp_path)
    after = Site(database)
    assert after.points.one("hq") == before.points.one("hq")
    await after.points.forget("hq")
    assert after.points.one("hq").state is Presence.NEVER
    database.close()


def test_figures_count_by_state_and_name_declared_points_alone(site: Site) -> None:
    site.hear("hq", version=4)
    site.hear("surprise", version=7)
    site.now += 5
    stats = site.points.read_stats()
    assert stats.points == {"present": 2.0, "away": 0.0, "never": 2.0}
    assert (stats.behind, stats.most_behind, stats.backlog, stats.hellos) == (1, 3, 6, 2)
    assert stats.last_seen_age_seconds == {"hq": 5.0}


def test_what_was_written_by_another_release_keeps_no_site_server_from_starting(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO heard VALUES ('old', 1.0, '{\"point\": \"old\"}')")
    assert Site(database).points.names() == ["branch-1", "branch-2", "hq"]


def test_a_word_under_no_points_name_is_let_go(site: Site) -> None:
    """No key of a bucket could be named so: what all points are to hold would be told no more."""
    for name in ("", "p!1", "a.b", "x" * 64, "_site"):
        site.hear(name)
    assert site.points.names() == ["branch-1", "branch-2", "hq"]


def test_what_the_disk_did_not_take_is_written_the_next_time(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    site = Site(database)
    site.hear("hq", version=3)
    with database.transaction() as connection:
        connection.execute("ALTER TABLE heard RENAME TO gone")
    with pytest.raises(SiteServerError):
        site.points.write()
    with database.transaction() as connection:
        connection.execute("ALTER TABLE gone RENAME TO heard")
    site.points.write()
    assert Site(database).points.one("hq").policy_version == 3
    database.close()


def test_two_hosts_under_one_name_are_told_once_and_asked_nothing(site: Site) -> None:
    """Each would do what is asked, such as to start a session."""

    def word(epoch: str, started_at: float) -> Hello:
        return Hello("hq", "lab", "0.1.0", "ready", started_at, 7, 1.0, epoch, 3, "", {})

    told = []
    for _ in range(4):
        told += [site.points.hear(each).is_named_twice for each in (word("aa", 900.0), word("bb", 950.0))]
        site.now += 10
    assert told.count(True) == 1
    with pytest.raises(PointAway, match=r"two hosts.*bus\.point"):
        site.points.require_present("hq")
    for _ in range(7):  # one of them was given another name
        site.points.hear(word("bb", 950.0))
        site.now += 10
    site.points.require_present("hq")


def test_a_point_that_was_restarted_or_got_a_new_disk_is_one_host(site: Site) -> None:
    for epoch, started_at in (("aa", 900.0), ("aa", 950.0), ("bb", 20.0), ("bb", 30.0)):
        told = site.points.hear(Hello("hq", "lab", "0.1.0", "ready", started_at, 7, 1.0, epoch, 3, "", {}))
        assert not told.is_named_twice
        site.points.require_present("hq")


# ---- a host and its copy


def greet(site: Site, point: str, epoch: str) -> str:
    """The other point of that series, where it is news."""
    site.now += 5
    return site.points.hear(Hello(point, "lab", "0", "ready", site.now, 0, 0.0, epoch, 0, "", {})).copy_of


def test_two_points_with_one_series_are_told_once_and_shown_as_long_as_they_are(site: Site) -> None:
    assert [greet(site, point, "aa") for point in ("hq", "branch-1", "hq", "branch-1", "hq")] == [
        "",
        "",
        "branch-1",
        "",
        "",
    ]
    for name in ("hq", "branch-1"):
        trouble = site.points.one(name).trouble
        assert trouble.startswith("branch-1 and hq number their status messages alike")
        assert "take messages.db out of its state_dir" in trouble
    site.points.require_present("hq")
    site.now += TWICE_S
    assert site.points.one("hq").trouble == ""
    greet(site, "branch-1", "of its own")
    greet(site, "hq", "aa")
    assert {each.trouble for each in site.points.all()} == {""}


def test_three_copies_are_noticed_too(site: Site) -> None:
    told = [greet(site, point, "aa") for _ in range(2) for point in ("hq", "branch-1", "branch-2")]
    assert told[:3] == ["", "", ""]
    assert all(site.points.one(name).trouble for name in ("hq", "branch-1", "branch-2"))


def test_a_point_that_was_given_another_name_is_no_copy(site: Site) -> None:
    assert [greet(site, point, "aa") for point in ("hq", "hq", "branch-1", "branch-1")] == [""] * 4
    site.now += AWAY_AFTER_S
    assert greet(site, "hq", "aa") == ""  # and back again
    assert greet(site, "hq", "") == ""


def test_points_that_do_not_know_their_series_yet_are_no_copies(site: Site) -> None:
    assert [greet(site, point, "") for point in ("hq", "branch-1", "hq", "branch-1")] == [""] * 4


def test_two_hosts_of_one_name_show_in_what_there_is_of_it(site: Site) -> None:
    for started_at in (1.0, 2.0, 1.0):
        site.points.hear(Hello("hq", "lab", "0", "ready", started_at, 0, 0.0, f"of {started_at}", 0, "", {}))
    assert "two hosts say that they are hq" in site.points.one("hq").trouble
