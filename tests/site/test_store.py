# SPDX-License-Identifier: Apache-2.0
"""The site store: what is said stays said, also when the process is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd.site.records import Computer, Deployment, Purpose, SiteConflict, SiteError, SiteNotFound
from dpd.site.store import SiteStore

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
REQUIRED = Deployment(0, "all", "IMG1", Purpose.REQUIRED)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SiteStore]:
    store = SiteStore(tmp_path / "site.db", clock=lambda: 1000.0)
    yield store
    store.close()


def reopened(store: SiteStore, tmp_path: Path) -> SiteStore:
    store.close()
    return SiteStore(tmp_path / "site.db", clock=lambda: 1001.0)


def test_computers_and_deployments_are_there_after_a_restart(store: SiteStore, tmp_path: Path) -> None:
    one = store.add_computer(Computer("PC1", ("52-54-00-00-00-0B", A), "{" + GUID.upper() + "}", "IMG9"), "alice")
    deployment = store.add_deployment(Deployment(0, "pc1", "", Purpose.AVAILABLE, 5, 10.5, 20.5), "alice")
    assert (one.macs, one.guid, one.added_at) == ((B, A), GUID, 1000.0)
    assert (deployment.id, deployment.target) == (1, "PC1")
    key, version = store.code_key, store.policy_version
    again = reopened(store, tmp_path)
    assert again.computers.find("PC1") == one
    assert dict(again.deployments) == {1: deployment}
    assert again.aimed_at("pc1") == (deployment,)
    assert (again.code_key, again.policy_version) == (key, version)
    again.close()


def test_what_one_computer_has_no_other_gets(store: SiteStore) -> None:
    store.add_computer(Computer("PC1", (A,), GUID), "alice")
    with pytest.raises(SiteConflict, match="computer pc1: is there already; `dpd computer show pc1`"):
        store.add_computer(Computer("pc1", (B,)), "alice")
    with pytest.raises(SiteConflict, match=f"{A} is PC1's already"):
        store.add_computer(Computer("PC2", (A,)), "alice")
    with pytest.raises(SiteConflict, match=f"{GUID} is PC1's already"):
        store.add_computer(Computer("PC2", (B,), GUID), "alice")
    assert list(store.computers.by_name) == ["pc1"]


def test_a_list_of_computers_is_taken_whole_or_not_at_all(store: SiteStore) -> None:
    store.add_computer(Computer("PC1", (A,), GUID), "alice")
    with pytest.raises(SiteConflict):
        store.carry_out([Computer("PC2", (B,)), Computer("PC3", (A,))], "alice")
    assert list(store.computers.by_name) == ["pc1"]
    plan = store.carry_out([Computer("PC1", (B,)), Computer("PC2", (A,), GUID)], "alice")
    assert ([each.name for each in plan.added], [new.macs for _, new in plan.changed]) == (["PC2"], [(B,)])
    assert store.computers.identify(A, "") == store.computers.find("PC2")
    assert store.computers.find("PC1").guid == ""


def test_a_list_that_changes_nothing_is_no_change_of_policy(store: SiteStore) -> None:
    store.add_computer(Computer("PC1", (A,)), "alice")
    version = store.policy_version
    assert len(store.carry_out([Computer("PC1", (A,))], "alice").unchanged) == 1
    assert store.policy_version == version


def test_a_computer_with_a_deployment_of_its_own_is_not_removed(store: SiteStore) -> None:
    store.add_computer(Computer("PC1", (A,)), "alice")
    id = store.add_deployment(Deployment(0, "PC1", "", Purpose.REQUIRED), "alice").id
    with pytest.raises(SiteConflict, match=f"deployment {id} is for it"):
        store.remove_computer("PC1", "alice")
    store.remove_deployment(id, "alice")
    assert store.remove_computer("pc1", "alice").name == "PC1"
    with pytest.raises(SiteNotFound):
        store.remove_computer("PC1", "alice")


def test_a_deployment_needs_a_target_that_is_there_and_an_end_after_its_beginning(store: SiteStore) -> None:
    with pytest.raises(SiteNotFound, match="no computer PC1"):
        store.add_deployment(Deployment(0, "PC1", "", Purpose.REQUIRED), "alice")
    with pytest.raises(SiteError, match="expires_at"):
        store.add_deployment(Deployment(0, "all", "", Purpose.REQUIRED, 0, 20.0, 20.0), "alice")
    with pytest.raises(SiteNotFound, match="no deployment 7"):
        store.remove_deployment(7, "alice")


def test_an_id_is_never_given_twice(store: SiteStore) -> None:
    first = store.add_deployment(REQUIRED, "alice").id
    store.remove_deployment(first, "alice")
    assert store.add_deployment(REQUIRED, "alice").id > first


def test_maintenance_lasts_over_a_restart(store: SiteStore, tmp_path: Path) -> None:
    store.set_maintenance("new switch", "alice")
    again = reopened(store, tmp_path)
    assert again.maintenance == "new switch"
    again.close()


def test_every_change_names_who_made_it(store: SiteStore) -> None:
    store.add_computer(Computer("PC1", (A,)), "alice")
    store.set_maintenance("x", "bob")
    assert [(e.actor, e.action, e.detail, e.policy_version) for e in store.audit(10)] == [
        ("alice", "computer added", "1 added, 0 changed: PC1", 1),
        ("bob", "maintenance on", "x", 2),
    ]
    assert len(store.audit(1)) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from dpd.site.records import *
from dpd.site.store import SiteStore
store = SiteStore(Path(sys.argv[1]))
store.add_computer(Computer("PC1", ("52:54:00:00:00:0a",)), "alice")
id = store.add_deployment(Deployment(0, "all", "IMG1", Purpose.REQUIRED), "alice").id
store.runs.start(Run(id, "pc1", "52:54:00:00:00:0a", 1000.0))
store.approvals.give("52:54:00:00:00:0b", Verdict.DENIED, 0.0, "alice")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_that_was_said_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "site.db")], check=False, timeout=60)
    assert ended.returncode == -9
    store = SiteStore(tmp_path / "site.db")
    assert store.computers.find("PC1").macs == (A,)
    assert store.runs.find(1, "pc1") is not None
    assert list(store.approvals.verdicts) == [B]
    assert store.policy_version == 3
    store.close()
