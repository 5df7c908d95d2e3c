# SPDX-License-Identifier: Apache-2.0
"""The site store: what is said stays said, also when the process is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.records import (
    AffinityMode,
    Authority,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    RuleKind,
    Run,
    SiteConflict,
    SiteError,
    SiteNotFound,
    Verdict,
)
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog

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


# ---- collections


def test_computers_that_come_and_go_come_and_go_in_collections(store: SiteStore) -> None:
    store.add_computer(Computer("LAB-1", (A,)), "alice")
    store.add_collection(Collection("lab", ("lab-1",), (MembershipRule(MemberKind.NAME, "LAB-*"),)), "alice")
    id = store.add_deployment(Deployment(0, "collection:LAB", "", Purpose.REQUIRED), "alice").id
    store.add_computer(Computer("lab-2", (B,)), "alice")
    assert [each.name for each in store.membership.members("lab")] == ["LAB-1", "lab-2"]
    assert [each.id for each in store.aims.of_computer("lab-2")] == [id]
    store.remove_computer("LAB-1", "alice")
    assert store.membership.find("lab").computers == ()
    assert store.aims.of_computer("lab-1") == ()


def test_a_collection_that_something_speaks_of_is_not_removed(store: SiteStore) -> None:
    store.add_collection(Collection("lab"), "alice")
    store.add_collection(Collection("not-lab", exclude=("LAB",)), "alice")
    with pytest.raises(
        SiteConflict, match="collection not-lab includes or excludes it; `dpd collection change not-lab`"
    ):
        store.remove_collection("lab", "alice")
    store.change_collection(Collection("Not-Lab"), "alice")
    id = store.add_deployment(Deployment(0, "collection:lab", "", Purpose.AVAILABLE), "alice").id
    with pytest.raises(SiteConflict, match=f"collection lab: deployment {id} is for it"):
        store.remove_collection("lab", "alice")
    store.remove_deployment(id, "alice")
    assert store.remove_collection("LAB", "alice").name == "lab"
    assert list(store.membership.collections) == ["not-lab"]


def test_collections_that_cannot_be_change_nothing(store: SiteStore) -> None:
    store.add_collection(Collection("one"), "alice")
    store.add_collection(Collection("two", include=("one",)), "alice")
    version = store.policy_version
    with pytest.raises(SiteConflict, match="circle"):
        store.change_collection(Collection("one", include=("two",)), "alice")
    with pytest.raises(SiteConflict, match="is there already; `dpd collection show ONE`"):
        store.add_collection(Collection("ONE"), "alice")
    with pytest.raises(SiteNotFound, match="no collection three"):
        store.change_collection(Collection("three"), "alice")
    with pytest.raises(SiteNotFound, match="collection new: no computer PC1"):
        store.add_collection(Collection("new", ("PC1",)), "alice")
    assert store.policy_version == version


def test_a_deployments_name_is_its_own(store: SiteStore) -> None:
    store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE, name="win"), "alice")
    with pytest.raises(SiteConflict, match="deployment WIN: is there already"):
        store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE, name="WIN"), "alice")


# ---- the whole model, and whose it is

MODEL = normal_model(
    SiteModel(
        (Computer("PC1", (A,), "", "", 5.0), Computer("PC2", (B,), "", "", 5.0)),
        (Collection("lab", ("PC1",), added_at=5.0),),
        (Deployment(7, "collection:lab", "IMG1", Purpose.REQUIRED, added_at=5.0, name="win"),),
        (Boundary("10.0.0.0/8", ("hq",)),),
        (Point("hq"),),
        maintenance="moving",
        affinity_mode=AffinityMode.PENDING,
    )
)
RUN = Run(7, "pc1", A, 10.0)


def test_a_model_is_replaced_only_as_long_as_policy_is_what_the_plan_was_made_at(store: SiteStore) -> None:
    version = store.policy_version
    store.replace_model(MODEL, "alice", version=version, detail="site.toml")
    assert (store.model(), store.maintenance, store.audit(1)[0].detail) == (MODEL, "moving", "site.toml")
    with pytest.raises(SiteConflict, match="policy has changed since: it is version 1 now and was 0"):
        store.replace_model(SiteModel(), "bob", version=version)
    with pytest.raises(SiteNotFound, match="no computer PC9"):
        store.replace_model(SiteModel(deployments=(Deployment(0, "PC9", "", Purpose.REQUIRED),)), "bob")
    assert store.model() == MODEL


def test_what_keeps_its_id_keeps_its_runs_and_what_has_none_gets_one(store: SiteStore) -> None:
    store.replace_model(MODEL, "alice")
    store.runs.start(RUN)
    kept = replace(MODEL.deployments[0], boot_image="IMG2", name="Win11")
    new = replace(kept, id=0, name="win")  # the name moves from one to the other
    store.replace_model(replace(MODEL, deployments=(kept, new)), "alice")
    assert [(each.id, each.name, each.boot_image) for each in store.deployments.values()] == [
        (7, "Win11", "IMG2"),
        (8, "win", "IMG2"),
    ]
    assert store.runs.all() == [RUN]
    store.replace_model(replace(MODEL, deployments=()), "alice")
    assert store.runs.all() == []


def test_a_mirrored_policy_is_changed_by_its_site_alone(store: SiteStore, tmp_path: Path) -> None:
    own = store.add_deployment(Deployment(0, "unknown", "IMG9", Purpose.REQUIRED), "alice").id
    store.runs.start(Run(own, B, B, 9.0))
    assert store.mirror("hq", 41, MODEL, 77.0)
    assert (store.model(), store.authority) == (MODEL, Authority("hq", 41, 77.0))
    assert store.runs.all() == []  # of a deployment that is no more, whatever its number was
    refused: list[Callable[[], object]] = [
        lambda: store.add_computer(Computer("PC3", ("52:54:00:00:00:0c",)), "bob"),
        lambda: store.remove_computer("PC2", "bob"),
        lambda: store.carry_out([Computer("PC1", (A,), "", "IMG3")], "bob"),
        lambda: store.add_collection(Collection("new"), "bob"),
        lambda: store.change_collection(Collection("lab"), "bob"),
        lambda: store.remove_collection("lab", "bob"),
        lambda: store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "bob"),
        lambda: store.remove_deployment(7, "bob"),
        lambda: store.add_point(Point("new"), "bob"),
        lambda: store.change_point(Point("hq"), "bob"),
        lambda: store.remove_point("hq", "bob"),
        lambda: store.add_boundary(Boundary("10.1.0.0/16", ("hq",)), "bob"),
        lambda: store.change_boundary(Boundary("10.0.0.0/8", ("hq",)), "bob"),
        lambda: store.remove_boundary("10.0.0.0/8", "bob"),
        lambda: store.approvals.add_rule(RuleKind.MAC_PREFIX, "52:54", "bob"),
        lambda: store.set_affinity_mode(AffinityMode.AUTO, "bob"),
        lambda: store.replace_model(SiteModel(), "bob"),
    ]
    for change in refused:
        with pytest.raises(SiteConflict, match="policy of this point comes from site hq; change it there"):
            change()
    assert store.model() == MODEL
    store.approvals.give(B, Verdict.ALLOWED, 0.0, "bob")
    store.approvals.take_back(B, "bob")
    store.runs.start(RUN)
    assert store.runs.clear(7, "pc1", "bob") == 1
    again = reopened(store, tmp_path)
    assert (again.model(), again.authority) == (MODEL, Authority("hq", 41, 77.0))
    assert [each.actor for each in again.audit(10)][:2] == ["alice", "site hq"]
    again.close()


def test_an_older_word_of_the_same_site_is_not_heard(store: SiteStore) -> None:
    store.mirror("hq", 41, MODEL, 77.0)
    version = store.policy_version
    assert not store.mirror("hq", 40, SiteModel(), 78.0)
    assert store.mirror("hq", 41, MODEL, 79.0)
    assert (store.model(), store.policy_version) == (MODEL, version)
    store.runs.start(RUN)
    assert store.mirror("hq", 42, replace(MODEL, maintenance=""), 80.0)
    assert (store.runs.all(), store.authority) == ([RUN], Authority("hq", 42, 80.0))
    assert store.mirror("other", 1, MODEL, 81.0)
    assert store.runs.all() == []  # the other site's deployment 7 is not this one's


def test_a_word_that_cannot_be_leaves_what_was_heard_before(store: SiteStore) -> None:
    store.mirror("hq", 41, MODEL, 77.0)
    with pytest.raises(SiteError):
        store.mirror("hq", 42, replace(MODEL, computers=()), 78.0)
    assert (store.model(), store.authority) == (MODEL, Authority("hq", 41, 77.0))


def test_a_point_has_its_own_maintenance_beside_its_sites(store: SiteStore) -> None:
    store.mirror("hq", 1, replace(MODEL, maintenance=""), 77.0)
    store.set_maintenance("new switch", "bob")
    assert (store.maintenance, store.model().maintenance) == ("new switch", "")
    store.mirror("hq", 2, MODEL, 78.0)
    store.set_maintenance("", "bob")
    assert store.maintenance == "moving"
    with pytest.raises(SiteConflict, match=r"site hq is in maintenance \(moving\); it ends there"):
        store.set_maintenance("", "bob")


def test_a_released_policy_stays_as_it_is_and_may_be_changed(store: SiteStore, tmp_path: Path) -> None:
    store.mirror("hq", 41, MODEL, 77.0)
    store.runs.start(RUN)
    assert store.release("bob") == Authority("hq", 41, 77.0)
    with pytest.raises(SiteConflict, match="own already"):
        store.release("bob")
    assert (store.model(), store.runs.all()) == (MODEL, [RUN])
    store.add_collection(Collection("new"), "bob")
    again = reopened(store, tmp_path)
    assert (again.authority, again.maintenance) == (None, "moving")
    again.close()


def test_whoever_watches_hears_of_each_change_behind_it(store: SiteStore) -> None:
    heard: list[int] = []
    store.watch(lambda: heard.append(store.policy_version))
    store.add_computer(Computer("PC1", (A,)), "alice")
    store.add_point(Point("hq"), "alice")
    with pytest.raises(SiteConflict):
        store.add_point(Point("hq"), "alice")
    assert heard == [1, 2]


REPLACING = """
import sys
from dataclasses import replace
from pathlib import Path
from dpd.site.model import SiteModel
from dpd.site.records import *
from dpd.site.store import SiteStore
store = SiteStore(Path(sys.argv[1]))
def model(n):
    computers = tuple(Computer(f"PC{i}", (f"52:54:00:00:{n:02x}:{i:02x}",), "", f"IMG{n}", 1.0) for i in range(40))
    collections = (Collection(f"c{n}", tuple(each.name for each in computers)),)
    return SiteModel(computers, collections, (Deployment(7, f"collection:c{n}", f"IMG{n}", Purpose.REQUIRED),), points=(Point(f"p{n}"),))
print("begun", flush=True)
for n in range(1, 200):
    store.mirror("hq", n, model(n), 1.0) if sys.argv[2] == "mirror" else store.replace_model(model(n), "alice")
"""


@pytest.mark.parametrize("how", ["mirror", "replace"])
@pytest.mark.parametrize("after_ms", [1, 20, 60])
def test_a_model_is_whole_whenever_the_process_is_killed(tmp_path: Path, how: str, after_ms: int) -> None:
    path = tmp_path / "site.db"
    with subprocess.Popen([sys.executable, "-c", REPLACING, str(path), how], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(after_ms / 1000)
        process.kill()
    store = SiteStore(path)
    model, version = store.model(), store.policy_version
    if version:
        images = {each.boot_image for each in model.computers} | {each.boot_image for each in model.deployments}
        assert images == {f"IMG{version}"}
        assert ([each.name for each in model.collections], [each.name for each in model.points]) == (
            [f"c{version}"],
            [f"p{version}"],
        )
        assert len(store.membership.keys_in(f"c{version}")) == 40
        assert store.audit(1)[0].policy_version == version
    else:
        assert model == SiteModel()
    assert store.authority == (Authority("hq", version, 1.0) if version and how == "mirror" else None)
    store.close()


def test_each_change_is_a_status_message_with_actor_and_version(store: SiteStore) -> None:
    events = EventLog()
    store.tell_changes(events)
    store.add_computer(Computer("PC1", (A,)), "alice")
    with pytest.raises(SiteConflict):
        store.add_computer(Computer("PC1", (A,)), "alice")
    (told,) = events.after(0)
    (audited,) = store.audit(10)
    assert (told.event, told.fields) == (
        "policy.changed",
        {"actor": "alice", "action": audited.action, "detail": audited.detail, "policy_version": 1},
    )
    assert (audited.actor, audited.policy_version) == ("alice", 1)


def test_numbers_that_were_given_elsewhere_are_not_given_again(store: SiteStore) -> None:
    assert store.last_deployment == 0
    store.skip_deployments(7)
    assert store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "ann").id == 8
    store.skip_deployments(3)
    store.remove_deployment(8, "ann")
    assert store.last_deployment == 8
    assert store.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "ann").id == 9
