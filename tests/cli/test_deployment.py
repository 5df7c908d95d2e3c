# SPDX-License-Identifier: Apache-2.0
"""`dpd deployment …`."""

from __future__ import annotations

from datetime import datetime

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.site.decision import Cause

A = "52:54:00:00:00:0a"


def test_a_required_deployment_runs_once_until_it_is_cleared(site: SiteDoor, dpd: Dpd) -> None:
    assert "`dpd deployment add --computer NAME" in dpd("deployment", "list").out
    dpd("computer", "add", "PC1", "--mac", A)
    added = dpd("deployment", "add", "--computer", "pc1", "--boot-image", "LAB00005", "--required")
    assert added.out == "deployment 1: boot image LAB00005 is required for PC1 (current)\n"
    assert site.ask(A).boot_image == "LAB00005"
    site.policy.bind("192.0.2.7", A)
    site.policy.run_started("192.0.2.7")
    assert site.ask(A).cause is Cause.ALREADY_RUN
    assert dpd("deployment", "list").out.splitlines()[1].split()[-2:] == ["current", "1"]
    assert f"pc1      {A}" in dpd("deployment", "show", "1").out
    assert dpd("deployment", "clear", "1", "PC1").out == "deployment 1: 1 machine may run it once more\n"
    assert site.ask(A).cause is Cause.REQUIRED
    assert dpd("deployment", "clear", "1", "--all", "--json").json == {"cleared": 1}
    assert dpd("deployment", "remove", "1").out == "deployment 1: removed\n"
    assert dpd("deployment", "show", "1").err == "dpd: no deployment 1; `dpd deployment list` shows those there are\n"


def test_moments_may_name_their_zone(site: SiteDoor, dpd: Dpd) -> None:
    options = ("--unknown", "--from", "2026-11-21T20:00+01:00", "--until", "2026-11-21T21:00Z", "--priority", "7")
    added = dpd("deployment", "add", *options, "--json").json["deployment"]
    assert added["available_from"] == datetime.fromisoformat("2026-11-21T19:00+00:00").timestamp()
    assert added["expires_at"] - added["available_from"] == 7200
    assert (added["target"], added["purpose"], added["priority"]) == ("unknown", "available", 7)
    ended = dpd("deployment", "add", "--all", "--from", "2026-11-21T20:00", "--until", "2026-11-21T20:00")
    assert (ended.code, ended.err) == (1, "dpd: expires_at: expected a moment after available_from\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",),
        ("add", "--all", "--unknown"),
        ("add", "--all", "--from", "tomorrow"),
        ("clear", "1"),
        ("clear", "1", "PC1", "--all"),
        ("show", "x"),
    ],
)
def test_what_is_not_clear_is_asked_back(dpd: Dpd, arguments: tuple[str, ...]) -> None:
    ended = dpd("deployment", *arguments)
    assert ended.code == 2
    assert "xpected" in ended.err or "'x' is not a valid int" in ended.err
