# SPDX-License-Identifier: Apache-2.0
"""The verbs over a model: what changes what, and when the guard asks back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dpd.control.operations.model import BoundaryChange, CollectionChange, PointChange
from dpd.control.operations.site import SiteOperations
from dpd.settings import parse_settings
from dpd.site.model import SiteModel
from dpd.site.policy import BootPolicy
from dpd.site.records import (
    AffinityMode,
    Authority,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    NotConfirmed,
    Point,
    Purpose,
    SiteConflict,
    SiteError,
    SiteNotFound,
)
from dpd.site.store import SiteStore

NOW = 1000.0
PCS = (MembershipRule(MemberKind.NAME, "PC*"),)


@pytest.fixture
def site() -> SiteOperations:
    settings = parse_settings("[site]\nhigh_risk_computers = 2\n", "t")
    policy = BootPolicy(settings, store=SiteStore(clock=lambda: NOW), clock=lambda: NOW)
    site = SiteOperations(policy, clock=lambda: NOW)
    for number in range(4):
        site.add_computer(Computer(f"PC{number}", (f"52:54:00:00:00:0{number}",)), "alice")
    site.model.add_collection(Collection("few", ("PC0", "PC1")), "alice")
    site.model.add_collection(Collection("pcs", rules=PCS), "alice")
    return site


def required(target: str) -> Deployment:
    return Deployment(0, target, "", Purpose.REQUIRED)


def test_a_collection_tells_its_members_by_what_and_its_deployments(site: SiteOperations) -> None:
    id = site.add_deployment(required("collection:FEW"), "alice").deployment.id
    assert [(each.collection.name, each.members, each.deployments) for each in site.model.collections()] == [
        ("few", 2, [id]),
        ("pcs", 4, []),
    ]
    site.model.change_collection(
        "few", CollectionChange(rules=(MembershipRule(MemberKind.MAC_PREFIX, "52:54:00:00:00:01"),)), "alice"
    )
    assert [(each.computer.name, each.why) for each in site.model.members("Few")] == [
        ("PC0", "named"),
        ("PC1", "named"),
    ]
    details = site.computer("pc1")
    assert (details.collections, [each.deployment.id for each in details.deployments]) == (["few", "pcs"], [id])
    assert [each.reaches for each in site.deployments()] == [2]


def test_only_what_is_given_changes(site: SiteOperations) -> None:
    site.model.change_collection("pcs", CollectionChange(exclude=("few",), description="the others"), "alice")
    status = site.model.collection("PCS")
    assert (status.collection.rules, status.collection.exclude, status.members) == (PCS, ("few",), 2)
    site.model.add_point(Point("hq", ("north",), "http://hq"), "alice")
    assert site.model.change_point("HQ", PointChange(url=""), "alice") == Point("hq", ("north",))
    site.model.add_point(Point("branch"), "alice")
    site.model.add_boundary(Boundary("10.0.0.0/8", ("hq",), "all"), "alice")
    changed = site.model.change_boundary("10.0.0.0/8", BoundaryChange(points=("branch", "hq")), "alice")
    assert changed == Boundary("10.0.0.0/8", ("branch", "hq"), "all")
    assert site.model.look_up("10.1.1.1").points == ("branch", "hq")
    with pytest.raises(SiteError, match="network '10/8'"):
        site.model.remove_boundary("10/8", "alice")


def test_members_are_named_and_named_no_longer(site: SiteOperations) -> None:
    assert site.model.add_members("few", ("pc2", "PC0"), "alice").members == 3
    assert site.model.remove_member("few", "PC0", "alice").collection.computers == ("PC1", "PC2")
    with pytest.raises(SiteConflict, match="computer PC3: belongs to collection pcs by name PC\\*, not by name"):
        site.model.remove_member("pcs", "PC3", "alice")
    with pytest.raises(SiteNotFound, match="collection few names no computer PC3"):
        site.model.remove_member("few", "PC3", "alice")


def test_many_are_reached_only_by_who_says_how_many(site: SiteOperations) -> None:
    for target in ("collection:pcs", "all"):
        with pytest.raises(NotConfirmed, match=r"reaches 4 known computers .*--confirm 4"):
            site.add_deployment(required(target), "alice")
        with pytest.raises(NotConfirmed, match="not 3"):
            site.add_deployment(required(target), "alice", 3)
        assert site.add_deployment(required(target), "alice", 4).reaches == 4
    site.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "alice")
    site.add_deployment(required("collection:few"), "alice")
    site.add_deployment(required("unknown"), "alice")


def test_a_collection_that_grows_under_a_required_deployment_asks_back(site: SiteOperations) -> None:
    site.add_deployment(required("collection:few"), "alice")
    for change in (CollectionChange(rules=PCS), CollectionChange(include=("pcs",))):
        with pytest.raises(NotConfirmed, match="few reaches 4"):
            site.model.change_collection("few", change, "alice")
    with pytest.raises(NotConfirmed):
        site.model.add_members("few", ("PC2",), "alice")
    assert site.model.collection("few").members == 2
    assert site.model.add_members("few", ("PC2",), "alice", 3).members == 3
    site.model.change_collection("few", CollectionChange(computers=()), "alice")
    assert site.model.change_collection("few", CollectionChange(include=("pcs",)), "alice", 4).members == 4


def test_members_that_several_name_at_once_are_all_named(site: SiteOperations) -> None:
    names = [f"LAB{number}" for number in range(24)]
    for number, name in enumerate(names):
        site.add_computer(Computer(name, (f"52:54:00:00:01:{number:02x}",)), "alice")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: site.model.add_members("few", (name,), "alice"), names))
    assert set(names) < set(site.model.collection("few").collection.computers)


def test_who_looks_how_many_are_reached_and_who_changes_that_wait_for_each_other(
    site: SiteOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = site.model._store
    add, refused = store.add_deployment, threading.Event()

    def grow() -> None:
        try:
            site.model.add_members("few", ("PC2", "PC3"), "bea")
        except NotConfirmed:
            refused.set()

    growing = threading.Thread(target=grow)

    def add_late(deployment: Deployment, actor: str) -> Deployment:
        growing.start()
        growing.join(0.5)  # what could come between has come by then
        return add(deployment, actor)

    monkeypatch.setattr(store, "add_deployment", add_late)
    site.add_deployment(required("collection:few"), "alice")
    growing.join(30)
    assert refused.is_set()
    assert [each.reaches for each in site.deployments()] == [2]


def test_a_mirrored_policy_is_told_and_released(site: SiteOperations) -> None:
    store = site.model._store
    assert site.model.policy().authority is None
    store.mirror("hq", 7, SiteModel(points=(Point("p"),), affinity_mode=AffinityMode.AUTO), 500.0)
    status = site.model.policy()
    assert (status.authority, status.computers, status.points) == (Authority("hq", 7, 500.0), 0, 1)
    assert status.affinity_mode is AffinityMode.AUTO
    with pytest.raises(SiteConflict, match="site hq"):
        site.model.change_point("p", PointChange(url=""), "alice")
    with pytest.raises(SiteConflict, match="site hq"):
        site.add_deployment(required("PC0"), "alice")
    assert site.model.release("alice").authority is None
    site.model.remove_point("p", "alice")
    with pytest.raises(SiteConflict):
        site.model.release("alice")
