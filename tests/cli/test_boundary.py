# SPDX-License-Identifier: Apache-2.0
"""`dpd boundary …`."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.site.records import Point


def test_a_boundary_is_made_looked_up_changed_and_removed(site: SiteDoor, dpd: Dpd) -> None:
    assert "`dpd boundary add NETWORK --point NAME`" in dpd("boundary", "list").out
    for name in ("hq", "branch"):
        site.policy.store.add_point(Point(name), "test")
    dpd("boundary", "add", "10.0.0.0/8", "--point", "hq", "--description", "everywhere")
    made = dpd("boundary", "add", "10.1.0.0/16", "--point", "branch", "--point", "hq")
    assert made.out == "boundary 10.1.0.0/16: branch, hq\n"
    listed = dpd("boundary", "list").out.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["10.0.0.0/8", "hq", "everywhere"],
        ["10.1.0.0/16", "branch,", "hq"],
    ]
    looked_up = dpd("boundary", "lookup", "10.1.2.3").out.splitlines()
    assert [line.split() for line in looked_up[1:3]] == [["1", "branch"], ["2", "hq"]]
    assert looked_up[3] == "10.1.0.0/16 is the narrowest boundary that holds 10.1.2.3: branch, hq"
    assert dpd("boundary", "lookup", "192.0.2.1").out == (
        "No point.\nno boundary holds 192.0.2.1; `dpd boundary list` shows those there are\n"
    )
    assert dpd("boundary", "change", "10.1.0.0/16", "--point", "hq", "--json").json["points"] == ["hq"]
    assert dpd("boundary", "remove", "10.1.0.0/16").out == "boundary 10.1.0.0/16: removed\n"
    assert dpd("boundary", "remove", "10.1.0.0/16").err.startswith("dpd: no boundary 10.1.0.0/16; `dpd boundary list`")


@pytest.mark.parametrize("arguments", [("add", "10.0.0.0/8"), ("change", "10.0.0.0/8"), ("lookup",)])
def test_what_is_not_clear_is_asked_back(dpd: Dpd, arguments: tuple[str, ...]) -> None:
    ended = dpd("boundary", *arguments)
    assert ended.code == 2
    assert "xpected" in ended.err or "Missing argument" in ended.err
