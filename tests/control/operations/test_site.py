# SPDX-License-Identifier: Apache-2.0
"""The verbs over a policy."""

from __future__ import annotations

import pytest

from dpd.control.operations.site import DeploymentState, SiteOperations
from dpd.settings import parse_settings
from dpd.site.decision import BootRequest
from dpd.site.policy import BootPolicy
from dpd.site.records import Computer, Deployment, Purpose, RuleKind, SiteNotFound, Verdict
from dpd.site.store import SiteStore

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
NOW = 1000.0


@pytest.fixture
def policy() -> BootPolicy:
    settings = parse_settings('[pxe]\nunknown_computers = "pending"\n', "t")
    images = {"IMG1": {"uefi-x64"}}
    return BootPolicy(
        settings, store=SiteStore(clock=lambda: NOW), archs_of=lambda id: images.get(id, set()), clock=lambda: NOW
    )


@pytest.fixture
def site(policy: BootPolicy) -> SiteOperations:
    return SiteOperations(policy, clock=lambda: NOW)


def ask(policy: BootPolicy, mac: str) -> str:
    """A machine asks and is answered; its code."""
    request = BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", at=NOW)
    decision = policy.decide(request)
    policy.issue(request, decision)
    return decision.code


def test_a_computer_is_shown_with_what_is_deployed_to_it_and_what_it_ran(
    policy: BootPolicy, site: SiteOperations
) -> None:
    site.add_computer(Computer("PC1", (A,)), "alice")
    site.add_computer(Computer("PC2", (B,)), "alice")
    own = site.add_deployment(Deployment(0, "PC1", "IMG1", Purpose.REQUIRED), "alice").deployment
    everyone = site.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE, 0, NOW + 1), "alice")
    site.add_deployment(Deployment(0, "PC2", "", Purpose.AVAILABLE, 0, 0.0, NOW), "alice")
    ask(policy, A)
    details = site.computer("pc1")
    assert [each.deployment.id for each in details.deployments] == [own.id, everyone.deployment.id]
    assert [run.deployment for run in details.runs] == [own.id]
    states = [each.state for each in site.deployments()]
    assert states == [DeploymentState.CURRENT, DeploymentState.WAITING, DeploymentState.ENDED]
    assert [each.runs for each in site.deployments()] == [1, 0, 0]
    assert [run.mac for run in site.deployment(own.id).runs] == [A]
    assert site.clear_runs(own.id, "PC1", "alice") == 1


def test_a_boot_image_that_is_not_there_is_refused_wherever_it_is_named(
    policy: BootPolicy, site: SiteOperations
) -> None:
    with pytest.raises(SiteNotFound, match="no boot image IMG9; `dpd boot-image list`"):
        site.add_computer(Computer("PC1", (A,), "", "IMG9"), "alice")
    with pytest.raises(SiteNotFound, match="IMG9"):
        site.add_deployment(Deployment(0, "all", "IMG9", Purpose.REQUIRED), "alice")
    code = ask(policy, A)
    with pytest.raises(SiteNotFound, match="IMG9"):
        site.approve(code, "alice", "PC1", "IMG9")
    assert site.audit(10) == []


def test_an_import_shows_first_and_does_after(site: SiteOperations) -> None:
    site.add_computer(Computer("PC1", (A,)), "alice")
    text = f"name,mac,boot_image\nPC1,{B},IMG1\nPC2,{A},\n"
    shown = site.import_computers(text, "alice", dry_run=True)
    assert (shown.done, [each.name for each in shown.added]) == (False, ["PC2"])
    assert [(each.old.macs, each.new.macs) for each in shown.changed] == [((A,), (B,))]
    assert [each.name for each in site.computers()] == ["PC1"]
    done = site.import_computers(text, "alice", dry_run=False)
    assert done.done
    assert [each.name for each in site.computers()] == ["PC1", "PC2"]
    again = site.import_computers(text, "alice", dry_run=False)
    assert (again.added, again.changed, again.unchanged) == ([], [], 2)


def test_an_import_with_one_wrong_line_does_nothing_and_names_the_line(site: SiteOperations) -> None:
    site.add_computer(Computer("PC1", (A,)), "alice")
    for text, line in (
        (f"name,mac\nPC2,{B}\nPC3,nonsense\n", 3),
        (f"name,mac\nPC2,{B}\nPC3,{A}\n", 3),
        (f"name,mac,boot_image\nPC2,{B},IMG9\n", 2),
    ):
        report = site.import_computers(text, "alice", dry_run=False)
        assert (report.done, [each.line for each in report.problems]) == (False, [line])
    assert [each.name for each in site.computers()] == ["PC1"]


def test_who_waits_is_approved_or_denied_and_a_denial_is_taken_back(policy: BootPolicy, site: SiteOperations) -> None:
    code = ask(policy, A)
    assert [machine.code for machine in site.unknown().pending] == [code]
    assert site.approve(code, "alice").mac == A
    ask(policy, B)
    assert site.deny(B, "bob").verdict is Verdict.DENIED
    assert [(each.mac, each.actor) for each in site.unknown().verdicts] == [(A, "alice"), (B, "bob")]
    assert site.take_back(B, "bob").mac == B
    with pytest.raises(SiteNotFound, match="nothing was said"):
        site.take_back(B, "bob")
    assert [each.action for each in site.audit(10)] == ["machine allowed", "machine denied", "verdict taken back"]


def test_rules_and_maintenance(site: SiteOperations) -> None:
    rule = site.add_rule(RuleKind.NETWORK, "10.0.0.0/8", "alice")
    assert site.rules() == [rule]
    assert site.remove_rule(rule.id, "alice") == rule
    assert site.set_maintenance("switch", "alice") == site.maintenance() == "switch"
    assert site.set_maintenance("", "alice") == ""
