# SPDX-License-Identifier: Apache-2.0
"""Approval at the site: the machine becomes a computer of the site's model. With machines that ask, see tests/interop/test_site_netns.py."""

from __future__ import annotations

import msgspec
import pytest
from tests.site_process import LoopbackSite

from dpd.cli.client import RefusedByDaemon
from dpd.control.access.callers import Caller, Role
from dpd.control.api.messages.site import ApproveRequest
from dpd.errors import BusError
from dpd.site.waiting_room import PendingMachine
from dpd.site_server.approval import _find, names_computer
from dpd.site_server.asker import WholeAnswer


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


class Told:
    """A point whose list of waiting machines is this text."""

    def __init__(self, text: str) -> None:
        self.asker = self
        self.text = text

    async def whole(self, *asked: object) -> WholeAnswer:
        return WholeAnswer(200, "application/json", self.text)


async def test_a_point_of_a_later_release_may_tell_more_of_who_waits() -> None:
    known = PendingMachine("ABCDEF", "52:54:00:00:00:09", "", "", "", "", 1.0, 1.0)
    text = msgspec.json.encode(
        {"pending": [{**msgspec.to_builtins(known), "new": 1}], "verdicts": [], "more": 2}
    ).decode()
    assert await _find(Told(text), "b1", "abcdef", Caller("anna", Role.OPERATOR, "unix")) == known  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ['{"pending": [{"code": 7}]}', "[]", "nonsense"])
async def test_a_list_of_who_waits_that_is_none_is_told_as_that(text: str) -> None:
    with pytest.raises(BusError, match=r"who waits there|answer of the point"):
        await _find(Told(text), "b1", "ABCDEF", Caller("anna", Role.OPERATOR, "unix"))  # type: ignore[arg-type]
