# SPDX-License-Identifier: Apache-2.0
"""The line between a site and its points is cut for a day, on a clock that is put forward hour by hour: points boot machines by
the last policy, through kills of a point and of the leaf node; afterwards all comes together, each thing once.

The clock of dpd's processes is the virtual one; the NATS servers go by the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.interop.branch_site import BRANCH, HQ, BranchSite, branch_site
from tests.nats_server import needs_nats
from tests.virtual_clock import HOUR_S, VirtualClock

from dpd.cli.client import RefusedByDaemon

HOURS = 24
POINT_DIES, SITE_CHANGES, LEAF_DIES = 6, 12, 18  # at these hours
PLACES = (HQ, BRANCH)

pytestmark = needs_nats


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock(tmp_path / "clock")
    monkeypatch.setenv("PYTHONPATH", clock.python_path)
    return clock


@pytest.fixture
def site(clock: VirtualClock, tmp_path: Path) -> Iterator[BranchSite]:
    with branch_site(tmp_path, quiet=True) as site:
        yield site


def name(point: str, number: int) -> str:
    return f"{point}-PC-{number}"


def mac(point: str, number: int) -> str:
    return f"52:54:00:00:{PLACES.index(point) + 1:02x}:{number:02x}"


def add_computer(site: BranchSite, point: str, number: int) -> None:
    site.client.post("computers", body={"name": name(point, number), "macs": [mac(point, number)]})


def is_told_away(site: BranchSite, point: str) -> bool:
    try:
        site.at(point).get("status")
    except RefusedByDaemon as error:
        return error.code == "unavailable" and f"{point} is away" in str(error)
    return False


def is_behind(site: BranchSite, version: int) -> bool:
    return bool(site.client.get("status")["policy_version"] > version)


def is_young(site: BranchSite, point: str) -> bool:
    return bool(site.directly(point).get("bus")["policy_age_s"] < HOUR_S)


def an_hour(site: BranchSite, hour: int) -> None:
    """What happens at each point in it: a machine of its own boots, that of the hour before is not imaged twice, and something
    is to be told to the site."""
    for point in PLACES:
        decided = site.boots(point, mac(point, hour))
        assert (decided["computer"], decided["cause"]) == (name(point, hour), "required")
        if hour > 1:
            decided, _ = site.asks(point, mac(point, hour - 1))
            assert decided["cause"] != "required"
        site.directly(point).patch("maintenance", body={"reason": f"hour {hour}"})


def restart(site: BranchSite, point: str) -> None:
    """kill -9, and up again."""
    daemon = site.points[point]
    daemon.__exit__()
    daemon.__enter__()
    daemon.wait_told("READY=1")


def test_a_line_that_is_cut_for_a_day_costs_no_boot_and_all_comes_together_once(site: BranchSite, clock: VirtualClock) -> None:  # fmt: skip
    for point in PLACES:
        for number in range(HOURS + 2):
            add_computer(site, point, number)
    body = {"target": "all", "purpose": "required", "confirm": len(PLACES) * (HOURS + 2)}
    deployment = site.client.post("deployments", body=body)["deployment"]["id"]
    site.wait_followed()
    site.wait_archived_once()
    began_at = time.time()

    site.line.cut()
    site.hq_line.cut()
    for hour in range(1, HOURS + 1):
        clock.advance(HOUR_S)
        if hour == POINT_DIES:
            restart(site, HQ)
        if hour == SITE_CHANGES:
            site.client.post("computers", body={"name": "PC-NEW", "macs": ["52:54:00:00:09:09"]})
        if hour == LEAF_DIES:
            site.leaf.kill()
            site.leaf.start()
        an_hour(site, hour)
    for point in PLACES:
        site.until("the site tells who is away", partial(is_told_away, site, point))
        held = site.directly(point).get("bus")
        assert held["policy_age_s"] >= HOURS * HOUR_S
        site.until("the site goes on", partial(is_behind, site, held["policy_version"]))
    assert site.directly(HQ).get("bus")["status_backlog"] >= 2 * HOURS
    reported = site.client.get("points")["points"]
    assert {each["name"]: each["state"] for each in reported} == {HQ: "away", BRANCH: "away"}

    site.line.mend()
    site.hq_line.mend()
    site.until("the points are there", lambda: not any(is_told_away(site, point) for point in PLACES))
    site.wait_followed()
    booted = {name(point, hour).lower() for point in PLACES for hour in range(1, HOURS + 1)}
    for ask in (site.client, *map(site.directly, PLACES)):
        site.until("each run is known", partial(site.knows_runs, ask, deployment, booted))
    for point in PLACES:
        site.until("its policy is young", partial(is_young, site, point))
        assert site.boots(point, "52:54:00:00:09:09")["computer"] == "PC-NEW"
        other = PLACES[1 - PLACES.index(point)]
        decided, _ = site.asks(point, mac(other, HOURS - 1))
        assert decided["cause"] != "required"  # it was imaged there meanwhile

    archived = site.wait_archived_once()
    for point in PLACES:
        reasons = {
            each["fields"]["reason"]: each["at"] for each in archived[point] if each["event"] == "maintenance.on"
        }
        hours = {reason: int((at - began_at) // HOUR_S) for reason, at in reasons.items()}
        assert hours == {f"hour {hour}": hour for hour in range(1, HOURS + 1)}
