# SPDX-License-Identifier: Apache-2.0
"""Variables of the site store: kept, changed, gone with what they are for, and never in the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.site.model import SiteModel, decode_model, encode_model
from dpd.site.records import Collection, Computer, Deployment, Purpose, SiteConflict, SiteNotFound, Variable
from dpd.site.store import SiteStore
from dpd.site.variables import MAX_VARIABLES

ZONE, PASS = Variable("PC-1", "Zone", "Berlin"), Variable("collection:lab", "Pass", "hunter2", secret=True)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site.db")
    store.add_computer(Computer("PC-1", ("52:54:00:00:00:0a",)), "alice")
    store.add_collection(Collection("lab", ("PC-1",)), "alice")
    store.set_variable(ZONE, "alice")
    store.set_variable(PASS, "alice")
    return store


def reopened(store: SiteStore, tmp_path: Path) -> SiteStore:
    store.close()
    return SiteStore(tmp_path / "site.db")


def test_variables_and_sequences_are_there_after_a_restart(store: SiteStore, tmp_path: Path) -> None:
    store.add_deployment(Deployment(0, "all", "", Purpose.REQUIRED, sequence="debian@3"), "alice")
    again = reopened(store, tmp_path)
    assert again.variables.all() == (PASS, ZONE)
    assert again.variables_for("PC-1") == (PASS, ZONE)
    assert again.variables_for("") == ()
    assert [each.sequence for each in again.deployments.values()] == ["debian@3"]


def test_one_of_the_same_name_takes_the_place_of_the_other(store: SiteStore) -> None:
    store.set_variable(Variable("pc-1", "ZONE", "Rome"), "alice")
    assert store.variables_for("PC-1") == (PASS, Variable("PC-1", "ZONE", "Rome"))
    store.variables.remove("PC-1", "zone", "alice")
    assert store.variables_for("PC-1") == (PASS,)
    with pytest.raises(SiteNotFound, match="no variable zone for PC-1"):
        store.variables.remove("PC-1", "zone", "alice")


def test_the_audit_tells_who_and_what_and_no_value(store: SiteStore) -> None:
    store.variables.remove("collection:lab", "Pass", "bob")
    told = [(each.actor, each.action, each.detail) for each in store.audit(2)]
    assert told == [
        ("alice", "variable set", "Pass for collection:lab"),
        ("bob", "variable removed", "Pass for collection:lab"),
    ]


def test_variables_go_with_what_they_are_for(store: SiteStore, tmp_path: Path) -> None:
    store.remove_computer("PC-1", "alice")
    assert store.variables.all() == (PASS,)
    store.remove_collection("LAB", "alice")
    assert store.variables.all() == ()
    assert reopened(store, tmp_path).variables.all() == ()


def test_no_target_has_more_than_the_limit(store: SiteStore) -> None:
    computers = store.model().computers
    many = tuple(Variable("all", f"A{number}", "") for number in range(MAX_VARIABLES))
    store.replace_model(SiteModel(computers, variables=many), "alice")
    store.set_variable(Variable("all", "a0", "another"), "alice")
    with pytest.raises(SiteConflict, match="all: has 1000 variables"):
        store.set_variable(ZONE.__class__("all", "B", ""), "alice")


def test_an_import_sets_variables_with_the_computers_or_nothing(store: SiteStore, tmp_path: Path) -> None:
    pc2 = Computer("PC-2", ("52:54:00:00:00:0b",))
    store.carry_out([pc2], "alice", variables=[Variable("pc-2", "Zone", "Rome"), ZONE])
    assert store.audit(1)[0].detail == "1 added, 0 changed: PC-2; variables set: 1"
    version = store.policy_version
    store.carry_out([pc2], "alice", variables=[Variable("PC-2", "Zone", "Rome")])
    assert store.policy_version == version
    with pytest.raises(SiteNotFound, match="no computer PC-9"):
        store.carry_out([Computer("PC-3", ("52:54:00:00:00:0c",))], "alice", variables=[Variable("PC-9", "Zone", "x")])
    again = reopened(store, tmp_path)
    assert [each.name for each in again.model().computers] == ["PC-1", "PC-2"]
    assert again.variables_for("PC-2") == (Variable("PC-2", "Zone", "Rome"),)


def test_a_point_mirrors_what_is_secret_too_and_changes_nothing_of_it(store: SiteStore, tmp_path: Path) -> None:
    point = SiteStore(tmp_path / "point.db")
    assert point.mirror("hq", 7, decode_model(encode_model(store.model())), 1.0)
    assert point.variables_for("PC-1") == (PASS, ZONE)
    with pytest.raises(SiteConflict, match="comes from site hq"):
        point.set_variable(ZONE, "alice")
    with pytest.raises(SiteConflict, match="comes from site hq"):
        point.variables.remove("PC-1", "Zone", "alice")
