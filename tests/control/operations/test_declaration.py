# SPDX-License-Identifier: Apache-2.0
"""Declarations over a real policy: planned, carried out whole or not at all, told in the audit, written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.declared_sites import declare

from dpd.control.operations.declaration import DeclarationOperations, Risk
from dpd.settings import Settings, SiteSettings
from dpd.site.declaration import Kind
from dpd.site.model import SiteModel
from dpd.site.policy import BootPolicy
from dpd.site.records import Computer, Deployment, NotConfirmed, Purpose, Run, SiteConflict, SiteError
from dpd.site.store import SiteStore

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAB = f"""
[[computer]]
name = "PC-1"
macs = ["{A}"]
[[computer]]
name = "PC-2"
macs = ["{B}"]
[[collection]]
name = "lab"
computers = ["PC-1", "PC-2"]
[[deployment]]
name = "win"
target = "collection:lab"
boot_image = "LAB5"
purpose = "required"
"""


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[BootPolicy]:
    store = SiteStore(tmp_path / "site.db")
    archs = {"LAB5": frozenset({"uefi-x64"})}
    settings = Settings(site=SiteSettings(high_risk_computers=1))
    yield BootPolicy(settings, store=store, archs_of=lambda image: archs.get(image, frozenset()))
    store.close()


@pytest.fixture
def operations(policy: BootPolicy) -> DeclarationOperations:
    return DeclarationOperations(policy)


def test_a_plan_is_told_and_changes_nothing(operations: DeclarationOperations, policy: BootPolicy) -> None:
    before = policy.store.policy_version
    report = operations.plan(LAB)
    assert (report.policy_version, report.is_applied, report.problems) == (before, False, [])
    assert (report.added, report.changed, report.removed, report.unchanged) == (4, 0, 0, 0)
    assert [f"{each.action} {each.kind} {each.name}" for each in report.changes][-1] == "added deployment win"
    assert (policy.store.policy_version, policy.store.model().computers) == (before, ())


def test_what_was_planned_is_applied_and_signed(operations: DeclarationOperations, policy: BootPolicy) -> None:
    version = operations.plan(LAB).policy_version
    done = operations.apply(LAB, version, 2, "alice")
    assert (done.is_applied, done.policy_version, done.added) == (True, version + 1, 4)
    (entry,) = policy.store.audit(1)
    assert (entry.actor, entry.policy_version) == ("alice", version + 1)
    assert entry.detail == (
        "declaration: 4 added, 0 changed, 0 removed: added computer PC-1, added computer PC-2, added collection lab, added deployment win"
    )
    assert operations.plan(LAB).changes == []


def test_a_file_that_says_what_is_there_makes_no_new_version(operations: DeclarationOperations) -> None:
    done = operations.apply(LAB, operations.plan(LAB).policy_version, 2, "alice")
    again = operations.apply(LAB, done.policy_version, None, "alice")
    assert (again.is_applied, again.policy_version, again.unchanged) == (True, done.policy_version, 4)


def test_a_change_since_the_plan_is_not_overwritten(operations: DeclarationOperations, policy: BootPolicy) -> None:
    version = operations.plan(LAB).policy_version
    policy.store.add_computer(Computer("PC-9", ("52:54:00:00:00:99",)), "bob")
    with pytest.raises(
        SiteConflict, match=f"policy has changed since: it is version {version + 1} now and was {version}"
    ):
        operations.apply(LAB, version, 2, "alice")
    assert list(policy.store.computers.by_name) == ["pc-9"]


def test_problems_are_all_told_and_nothing_is_applied(operations: DeclarationOperations, policy: BootPolicy) -> None:
    text = LAB.replace(B, "zz").replace("LAB5", "LAB6")
    report = operations.plan(text)
    assert [(each.line, each.key) for each in report.problems] == [(7, "computer.macs"), (14, "deployment.boot_image")]
    assert (report.added, report.changes, report.confirm) == (0, [], 0)
    with pytest.raises(SiteError) as caught:
        operations.apply(text, report.policy_version, 2, "alice")
    assert str(caught.value) == (
        "nothing was applied: line 7: computer.macs: mac 'zz': expected six bytes such as 52:54:00:12:34:56; "
        "line 14: deployment.boot_image: no boot image LAB6; `dpd boot-image list` shows those there are"
    )
    assert policy.store.model() == SiteModel()


def test_many_problems_are_cut_short_in_a_refusal(operations: DeclarationOperations) -> None:
    with pytest.raises(SiteError, match=r"; and 30 more$"):
        operations.apply("".join(f"x{number} = 1\n" for number in range(50)), 0, None, "alice")


def test_what_reaches_many_must_be_confirmed(operations: DeclarationOperations, policy: BootPolicy) -> None:
    report = operations.plan(LAB)
    assert (report.risks, report.confirm) == ([Risk("win", 2)], 2)
    for confirm in (None, 1, 3):
        with pytest.raises(NotConfirmed, match="reaches 2 known computers"):
            operations.apply(LAB, report.policy_version, confirm, "alice")
    assert policy.store.model() == SiteModel()
    assert operations.apply(LAB, report.policy_version, 2, "alice").is_applied


def test_a_deployment_that_only_says_something_else_keeps_what_was_run(
    operations: DeclarationOperations, policy: BootPolicy
) -> None:
    operations.apply(LAB, operations.plan(LAB).policy_version, 2, "alice")
    (deployment,) = policy.store.deployments.values()
    policy.store.runs.start(Run(deployment.id, "pc-1", A, 5.0))
    changed = LAB.replace('"required"', '"required"\npriority = 3')
    report = operations.plan(changed)
    assert report.risks == []
    operations.apply(changed, report.policy_version, None, "alice")
    run = policy.store.runs.find(deployment.id, "pc-1")
    assert run is not None
    assert policy.store.deployment(deployment.id).priority == 3


def test_names_change_their_case_and_addresses_and_names_their_owners(
    operations: DeclarationOperations, policy: BootPolicy
) -> None:
    both = LAB + '[[deployment]]\nname = "mac"\ntarget = "PC-1"\npurpose = "available"\n'
    both += '[[point]]\nname = "hq"\n[[boundary]]\nnetwork = "::/0"\npoints = ["HQ"]\n'
    operations.apply(both, operations.plan(both).policy_version, 2, "alice")
    ids = {each.name: each.id for each in policy.store.deployments.values()}
    swapped = (
        both.replace(A, "x")
        .replace(B, A)
        .replace("x", B)
        .replace("win", "w")
        .replace('mac"', 'win"')
        .replace('"w"', '"MAC"')
    )
    swapped = swapped.replace("PC-", "pc-").replace('"lab"', '"Lab"').replace(":lab", ":LAB").replace('"hq"', '"Hq"')
    report = operations.plan(swapped)
    assert (report.problems, report.added, report.removed) == ([], 0, 0)
    operations.apply(swapped, report.policy_version, report.confirm, "alice")
    assert operations.plan(swapped).changes == []
    assert policy.store.computers.identify(A, "") == policy.store.computers.find("pc-2")
    assert [each.name for each in policy.store.computers.by_name.values()] == ["pc-1", "pc-2"]
    named = {each.name: each for each in policy.store.deployments.values()}
    assert (named["win"].id, named["MAC"].id) == (ids["win"], ids["mac"])
    assert (named["win"].target, named["MAC"].target) == ("pc-1", "collection:Lab")
    assert policy.store.points_for("fd00::1") == ("Hq",)


def test_what_the_file_does_not_speak_of_stays(operations: DeclarationOperations, policy: BootPolicy) -> None:
    policy.store.add_deployment(Deployment(0, "unknown", "", Purpose.AVAILABLE), "bob")
    policy.store.set_maintenance("move", "bob")
    text = f'[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n'
    operations.apply(text, operations.plan(text).policy_version, None, "alice")
    assert [each.target for each in policy.store.deployments.values()] == ["unknown"]
    assert policy.store.maintenance == "move"


def test_an_export_of_one_site_makes_another_the_same(operations: DeclarationOperations, tmp_path: Path) -> None:
    done = operations.apply(LAB, operations.plan(LAB).policy_version, 2, "alice")
    export = operations.export()
    assert export.policy_version == done.policy_version
    store = SiteStore(tmp_path / "other.db")
    other = DeclarationOperations(BootPolicy(Settings(), store=store))
    other.apply(export.declaration, other.plan(export.declaration).policy_version, None, "bob")
    assert other.export().declaration == export.declaration
    assert operations.export([Kind.COMPUTER]).declaration.startswith('owns = ["computer"]\n\n[[computer]]\n')
    store.close()


def test_where_policy_is_a_sites_a_declaration_is_refused(
    operations: DeclarationOperations, policy: BootPolicy
) -> None:
    policy.store.mirror("north", 7, SiteModel(), 1.0)
    with pytest.raises(SiteConflict, match="policy of this point comes from site north"):
        operations.apply(LAB, operations.plan(LAB).policy_version, 2, "alice")


def test_four_thousand_computers_are_planned_applied_and_exported(
    operations: DeclarationOperations, policy: BootPolicy
) -> None:
    text = declare("a", 4000, 200)
    report = operations.plan(text)
    assert (report.added, report.problems) == (4400, [])
    assert operations.apply(text, report.policy_version, None, "alice").is_applied
    assert len(policy.store.membership.keys_in("a-room-007")) == 20
    assert operations.plan(operations.export().declaration).changes == []
    changed = text.replace('"a-00001"\nmacs', '"a-00001"\nboot_image = "LAB5"\nmacs')
    report = operations.plan(changed)
    assert [(each.name, each.action) for each in report.changes] == [("a-00001", "changed")]
    assert report.unchanged == 4399
