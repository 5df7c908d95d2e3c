# SPDX-License-Identifier: Apache-2.0
"""A model as rows: whatever a store holds, any other model can be written over it, and what stays keeps its runs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.records import (
    AffinityMode,
    ApprovalRule,
    Audience,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    Rerun,
    RuleKind,
    Run,
)
from dpd.site.store import SiteStore

MACS = [f"52:54:00:00:00:0{number}" for number in range(6)]
NAMES, LABS, POINTS = ["PC1", "PC2", "PC3"], ["lab", "old", "new"], ["hq", "branch"]
GUIDS = ["", "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"]


@st.composite
def models(draw: st.DrawFn) -> SiteModel:
    """Any model of a few names: names in both cases, MACs and GUIDs that move from one computer to another."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    macs, guids = draw(st.permutations(MACS)), draw(st.permutations(GUIDS))
    computers = [
        Computer(draw(st.sampled_from([name, name.lower()])), (macs[2 * n], macs[2 * n + 1]), guids[n], "", 1.0 + n)
        for n, name in enumerate(names)
    ]
    collections: list[Collection] = []
    for key in draw(st.lists(st.sampled_from(LABS), unique=True)):
        others = draw(st.permutations([each.name for each in collections]))
        named = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        rules = draw(st.lists(st.sampled_from([MembershipRule(MemberKind.NAME, "PC*"), MembershipRule(MemberKind.MAC_PREFIX, "52")]), unique=True))  # fmt: skip
        collections.append(Collection(key, tuple(named), tuple(rules), tuple(others[:1]), tuple(others[1:]), "", 2.0))
    targets = ["all", "unknown", *names, *(f"collection:{each.name}" for each in collections)]
    ids = draw(st.lists(st.integers(1, 6), unique=True, max_size=4))
    deployments = [
        Deployment(
            id,
            draw(st.sampled_from(targets)),
            "IMG",
            draw(st.sampled_from(Purpose)),
            n,
            0.0,
            0.0,
            3.0,
            draw(st.sampled_from(["", f"d{n}"])),
            draw(st.sampled_from(Audience)),
            draw(st.sampled_from(Rerun)),
        )
        for n, id in enumerate(ids)
    ]
    points = draw(st.lists(st.sampled_from(POINTS), unique=True))
    networks = draw(st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]), unique=True)) if points else []
    approved = draw(st.lists(st.sampled_from([(1, "52:54"), (2, "52:55"), (3, "52:56")]), unique=True))
    return normal_model(
        SiteModel(
            tuple(computers),
            tuple(collections),
            tuple(deployments),
            tuple(Boundary(each, tuple(draw(st.permutations(points))), "there") for each in networks),
            tuple(Point(each, ("north", "a"), "http://hq:80", "x") for each in points),
            tuple(ApprovalRule(id, RuleKind.MAC_PREFIX, value, 4.0) for id, value in approved),
            draw(st.sampled_from(["", "move"])),
            draw(st.sampled_from(AffinityMode)),
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(models(), min_size=1, max_size=4), st.booleans())
def test_one_model_after_the_other_is_held_and_found_again(given: list[SiteModel], mirrored: bool) -> None:
    store = SiteStore(clock=lambda: 9.0)
    for number, model in enumerate(given, 1):
        kept = {each.id for each in model.deployments} & store.deployments.keys()
        expected = {run for run in store.runs.all() if run.deployment in kept and run.machine in (*(c.name.lower() for c in model.computers), "other")}  # fmt: skip
        if mirrored:
            assert store.mirror("hq", number, model, 8.0)
        else:
            store.replace_model(model, "alice", version=store.policy_version)
        assert store.model() == model
        assert set(store.runs.all()) == expected
        for deployment in model.deployments:
            for machine in ("other", *(each.name.lower() for each in model.computers)):
                store.runs.start(Run(deployment.id, machine, MACS[0], 5.0))
    store.close()


def test_it_is_found_again_by_the_next_process(tmp_path: Path) -> None:
    model = normal_model(
        SiteModel(
            (Computer("PC1", (MACS[1], MACS[0]), GUIDS[1], "IMG", 1.0),),
            (Collection("lab", ("PC1",), (MembershipRule(MemberKind.NAME, "L-*"),), (), (), "room 12", 2.0),),
            (Deployment(5, "collection:lab", "IMG", Purpose.REQUIRED, 7, 1.0, 9.0, 3.0, "win", Audience.HIDDEN, Rerun.ALWAYS),),
            (Boundary("10.0.0.0/8", ("hq", "branch"), "north"),),
            (Point("branch"), Point("hq", ("b", "a"), "http://hq:8080")),
            (ApprovalRule(4, RuleKind.NETWORK, "10.0.0.0/8", 4.0),),
            "move",
            AffinityMode.AUTO,
        )
    )  # fmt: skip
    store = SiteStore(tmp_path / "site.db")
    store.replace_model(model, "alice")
    store.close()
    again = SiteStore(tmp_path / "site.db")
    assert again.model() == model
    assert again.add_deployment(Deployment(0, "all", "", Purpose.AVAILABLE), "alice").id == 6
    again.close()
