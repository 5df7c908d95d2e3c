# SPDX-License-Identifier: Apache-2.0
"""What a site server says of itself, and its policy on the way to points."""

from __future__ import annotations

from tests.site_process import LoopbackSite


def test_the_status_tells_bus_policy_and_points(site: LoopbackSite) -> None:
    status = site.client.get("status")
    assert (status["role"], status["state"], status["bus"]["connected"]) == ("site", "ready", True)
    assert status["bus"]["server"] == f"{site.nats.host}:{site.nats.port}"
    assert status["points"] == {"present": 2, "away": 0, "never": 0}


def test_a_change_holds_at_every_point_and_is_the_sites_there(site: LoopbackSite) -> None:
    site.client.post("computers", body={"name": "PC-OPS", "macs": ["52:54:00:bb:00:01"]})
    site.wait_followed()
    for point in site.points:
        assert site.directly(point).get("computers", "PC-OPS")["computer"]["macs"] == ["52:54:00:bb:00:01"]
    assert [entry["action"] for entry in site.client.get("audit", limit=1)["entries"]] == ["computer added"]
    site.client.delete("computers", "PC-OPS")
    site.wait_followed()
    assert all("PC-OPS" not in str(site.directly(point).get("computers")) for point in site.points)


def test_a_declaration_is_planned_and_applied_at_the_site(site: LoopbackSite) -> None:
    text = b'adds_to = ["computer"]\n[[computer]]\nname = "PC-DECL"\nmacs = ["52:54:00:bb:00:02"]\n'
    plan = site.client.post_text("site", "plan", text=text, content_type="application/toml")
    assert (plan["added"], plan["problems"]) == (1, [])
    query = {"policy_version": plan["policy_version"]}
    site.client.post_text("site", "apply", text=text, content_type="application/toml", **query)
    site.wait_followed()
    assert site.directly("b1").get("computers", "PC-DECL")["computer"]["name"] == "PC-DECL"
    site.client.delete("computers", "PC-DECL")


def test_a_point_that_is_removed_is_heard_again_while_it_talks(site: LoopbackSite) -> None:
    site.client.post("points", body={"name": "b1", "groups": ["branches"]})
    assert site.client.delete("points", "b1")["name"] == "b1"
    site.wait_present("hq", "b1")
    assert site.client.get("points", "b1")["declared"] is False
