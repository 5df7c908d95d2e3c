# SPDX-License-Identifier: Apache-2.0
"""Verdicts about unknown machines, and rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.site.approvals import is_inside
from dpd.site.decision import BootRequest
from dpd.site.records import ApprovalRule, RuleKind, SiteConflict, SiteNotFound, Verdict
from dpd.site.store import SiteStore

MAC = "52:54:00:00:00:0a"


def test_a_verdict_holds_until_its_end_and_over_restarts(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "site.db", clock=lambda: 100.0)
    store.approvals.give(MAC, Verdict.ALLOWED, 200.0, "alice")
    assert store.approvals.verdict(MAC, 199.0) is Verdict.ALLOWED
    assert store.approvals.verdict(MAC, 200.0) is None
    store.approvals.give(MAC, Verdict.DENIED, 0.0, "alice")
    store.close()
    later = SiteStore(tmp_path / "site.db", clock=lambda: 1e9)
    assert later.approvals.verdict(MAC, 1e9) is Verdict.DENIED
    later.approvals.take_back(MAC, "alice")
    later.approvals.take_back(MAC, "alice")
    assert later.approvals.verdict(MAC, 1e9) is None
    assert [entry.action for entry in later.audit(9)] == ["machine allowed", "machine denied", "verdict taken back"]
    later.close()


def test_verdicts_that_have_ended_are_forgotten_at_a_start(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "site.db", clock=lambda: 100.0)
    store.approvals.give(MAC, Verdict.ALLOWED, 200.0, "alice")
    store.close()
    later = SiteStore(tmp_path / "site.db", clock=lambda: 201.0)
    assert later.approvals.verdicts == {}
    later.close()


def test_rules_are_there_once_and_go_by_their_number(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "site.db", clock=lambda: 5.0)
    rule = store.approvals.add_rule(RuleKind.MAC_PREFIX, "52-54-00", "alice")
    assert rule == ApprovalRule(1, RuleKind.MAC_PREFIX, "52:54:00", 5.0)
    with pytest.raises(SiteConflict, match="there is such a rule"):
        store.approvals.add_rule(RuleKind.MAC_PREFIX, "52:54:00", "alice")
    store.close()
    again = SiteStore(tmp_path / "site.db")
    assert again.approvals.rules == (rule,)
    assert again.approvals.remove_rule(1, "alice") == rule
    with pytest.raises(SiteNotFound, match="no approval rule 1"):
        again.approvals.remove_rule(1, "alice")
    again.close()


def test_a_rule_for_a_network_looks_at_the_relay_before_our_own_address() -> None:
    approvals = SiteStore().approvals
    rule = approvals.add_rule(RuleKind.NETWORK, "10.1.0.0/16", "alice")
    behind = BootRequest(MAC, "", "bios", "PXEClient", "192.0.2.1", relay="10.1.3.1")
    beside = BootRequest(MAC, "", "bios", "PXEClient", "10.1.0.9", relay="10.2.0.1")
    assert approvals.rule_for(behind) == rule
    assert approvals.rule_for(beside) is None


def test_a_rule_may_name_one_machine() -> None:
    approvals = SiteStore().approvals
    approvals.add_rule(RuleKind.MAC_PREFIX, MAC, "alice")
    assert approvals.rule_for(BootRequest(MAC, "", "bios", "PXEClient", "192.0.2.1")) is not None
    assert approvals.rule_for(BootRequest(MAC[:-1] + "b", "", "bios", "PXEClient", "192.0.2.1")) is None


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("fe80::1%eth0", "fe80::/10", True),
        ("10.0.0.1", "fe80::/10", False),
        ("", "10.0.0.0/8", False),
        ("nonsense", "10.0.0.0/8", False),
    ],
)
def test_an_address_lies_in_a_network_of_its_own_family(address: str, network: str, inside: bool) -> None:
    assert is_inside(address, network) is inside
