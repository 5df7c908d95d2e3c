# SPDX-License-Identifier: Apache-2.0
"""Approval at the site: the machine becomes a computer of the site's model. With machines that ask, see tests/interop/test_site_netns.py."""

from __future__ import annotations

import pytest
from tests.site_process import LoopbackSite

from dpd.cli.client import RefusedByDaemon
from dpd.control.site_messages import ApproveRequest
from dpd.site_server.approval import names_computer


@pytest.mark.parametrize(
    ("holds", "computer", "expected"), [(True, "PC-1", True), (True, "", False), (False, "PC-1", False)]
)
def test_only_a_name_at_a_point_with_the_sites_policy_is_the_sites_matter(
    holds: bool, computer: str, expected: bool
) -> None:
    assert names_computer(holds, ApproveRequest(computer)) is expected


def test_a_machine_that_waits_nowhere_adds_no_computer(site: LoopbackSite) -> None:
    site.client.post("computers", body={"name": "PC-APPROVAL", "macs": ["52:54:00:aa:00:01"]})
    site.wait_followed()
    with pytest.raises(RefusedByDaemon, match="no machine AAAAAA waits for approval at hq") as caught:
        site.at("hq").post("pxe", "pending", "AAAAAA", "approve", body={"computer": "PC-OTHER"})
    assert caught.value.code == "site_not_found"
    with pytest.raises(RefusedByDaemon):
        site.client.get("computers", "PC-OTHER")
    site.client.delete("computers", "PC-APPROVAL")
