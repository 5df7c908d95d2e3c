# SPDX-License-Identifier: Apache-2.0
"""`dpd policy …`."""

from __future__ import annotations

from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.site.model import SiteModel
from dpd.site.records import AffinityMode, Computer


def test_a_points_own_policy_and_a_sites_are_told_apart(site: SiteDoor, dpd: Dpd) -> None:
    assert "Policy         version 0, its own" in dpd("policy", "show").out
    computer = Computer("PC1", ("52:54:00:00:00:0a",))
    site.policy.store.mirror("hq", 41, SiteModel((computer,), affinity_mode=AffinityMode.PENDING), 1_800_000_000.0)
    shown = dpd("policy", "show").out
    assert "of site hq: its version 41, 2027-" in shown
    assert "Affinity mode  pending" in shown
    assert "Computers      1" in shown
    refused = dpd("computer", "remove", "PC1")
    assert refused.err == (
        "dpd: policy of this point comes from site hq; change it there, or make it this point's own: `dpd policy release`\n"
    )
    assert dpd("policy", "release").out == "policy is this point's own now: 1 computers, 0 deployments\n"
    assert dpd("policy", "show", "--json").json["authority"] is None
    assert dpd("computer", "remove", "PC1").code == 0
    assert dpd("policy", "release").err == "dpd: policy is this point's own already\n"
