# SPDX-License-Identifier: Apache-2.0
"""`dpd collection …`, and deployments to one."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.site.decision import Cause

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"


def test_a_collection_is_made_listed_deployed_to_and_removed(site: SiteDoor, dpd: Dpd) -> None:
    assert "`dpd collection add NAME --name-pattern PATTERN`" in dpd("collection", "list").out
    for name, mac in (("LAB-1", A), ("LAB-2", B), ("PC1", C)):
        dpd("computer", "add", name, "--mac", mac)
    dpd("collection", "add", "old", "--computer", "lab-2")
    made = dpd("collection", "add", "lab", "--name-pattern", "LAB-*", "--exclude", "old", "--description", "room 12")
    assert made.out == "collection lab: 1 member\n"
    listed = dpd("collection", "list").out.splitlines()
    assert listed[1].split() == ["lab", "1", "name", "LAB-*,", "-", "old", "-", "room", "12"]
    shown = dpd("collection", "show", "LAB").out
    assert "Rules        name LAB-*" in shown
    assert "Excludes     old" in shown
    assert [line.split() for line in dpd("collection", "members", "lab").out.splitlines()[1:]] == [
        ["LAB-1", A, "name", "LAB-*"]
    ]
    added = dpd(
        "deployment",
        "add",
        "--collection",
        "lab",
        "--boot-image",
        "LAB00005",
        "--required",
        "--name",
        "win11",
        "--rerun",
        "always",
    )
    assert added.out == "deployment 1: boot image LAB00005 is required for collection lab (current)\n"
    assert (site.ask(A).cause, site.ask(B).cause) == (Cause.REQUIRED, Cause.NOTHING_DEPLOYED)
    row = dpd("deployment", "list").out.splitlines()[1].split()
    assert row[:5] == ["1", "win11", "collection:lab", "1", "LAB00005"]
    assert "Rerun       always" in dpd("deployment", "show", "1").out
    assert "Collections  lab" in dpd("computer", "show", "LAB-1").out
    assert "deployment 1 is for it" in dpd("collection", "remove", "lab").err
    dpd("deployment", "remove", "1")
    assert dpd("collection", "remove", "lab").out == "collection lab: removed\n"
    assert dpd("collection", "show", "lab").err.startswith("dpd: no collection lab; `dpd collection list`")


def test_a_collection_is_changed_in_parts(site: SiteDoor, dpd: Dpd) -> None:
    for name, mac in (("PC1", A), ("PC2", B), ("PC3", C)):
        dpd("computer", "add", name, "--mac", mac)
    dpd("collection", "add", "lab", "--computer", "PC1", "--mac-prefix", "52:54:00:00:00:0c")
    assert dpd("collection", "change", "lab", "--add", "pc2", "--remove", "pc1").out == "collection lab: 2 members\n"
    changed = dpd("collection", "change", "lab", "--no-rules", "--description", "x", "--json").json
    assert (changed["members"], changed["collection"]["computers"], changed["collection"]["rules"]) == (1, ["PC2"], [])
    dpd("collection", "add", "other", "--computer", "PC3")
    assert dpd("collection", "change", "lab", "--include", "other").out == "collection lab: 2 members\n"
    dpd("collection", "add", "other2", "--include", "other")
    assert dpd("collection", "change", "lab", "--no-links", "--json").json["collection"]["include"] == []
    missing = dpd("collection", "change", "lab", "--remove", "PC1")
    assert (missing.code, missing.err) == (1, "dpd: collection lab names no computer PC1\n")
    assert "by collection other, not by name" in dpd("collection", "change", "other2", "--remove", "PC3").err


def test_many_are_reached_only_by_who_says_how_many(site: SiteDoor, dpd: Dpd) -> None:
    dpd("computer", "add", "PC1", "--mac", A)
    refused = dpd("deployment", "add", "--all", "--required")
    assert refused.code == 1
    assert refused.err.startswith(
        "dpd: high risk: the required deployment of the default boot image for all reaches 1 known"
    )
    assert refused.err.endswith("confirm that number: --confirm 1\n")
    assert dpd("deployment", "add", "--all", "--required", "--confirm", "1").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("change", "lab"),
        ("change", "lab", "--no-rules", "--mac-prefix", "52:54"),
        ("change", "lab", "--no-links", "--include", "x"),
        ("add",),
    ],
)
def test_what_is_not_clear_is_asked_back(dpd: Dpd, arguments: tuple[str, ...]) -> None:
    ended = dpd("collection", *arguments)
    assert ended.code == 2
    assert "xpected" in ended.err or "Missing argument" in ended.err
