# SPDX-License-Identifier: Apache-2.0
"""`dpd computer variable …` and `dpd collection variable …`, and deployments of a task sequence."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

A = "52:54:00:00:00:0a"


@pytest.fixture
def lab(site: SiteDoor, dpd: Dpd) -> Dpd:
    dpd("computer", "add", "PC-1", "--mac", A)
    dpd("collection", "add", "lab", "--computer", "PC-1")
    return dpd


def test_variables_are_set_listed_with_whose_they_are_and_removed(lab: Dpd, site: SiteDoor) -> None:
    assert lab("collection", "variable", "set", "ALL", "Zone", "UTC").out == "Zone for all: UTC\n"
    assert lab("collection", "variable", "set", "LAB", "Zone", "Europe/Berlin").out == "Zone for collection:lab: Europe/Berlin\n"  # fmt: skip
    assert lab("computer", "variable", "set", "pc-1", "Pass", "hunter2", "--secret").out == "Pass for PC-1: ••••\n"
    listed = lab("computer", "variable", "list", "PC-1").out
    assert [line.split() for line in listed.splitlines()] == [
        ["NAME", "VALUE", "FROM"],
        ["Pass", "••••", "PC-1"],
        ["Zone", "Europe/Berlin", "collection:lab"],
    ]
    assert "UTC" in lab("collection", "variable", "list", "all").out
    assert "No variables for unknown." in lab("collection", "variable", "list", "unknown").out
    assert "no collection lib; `dpd collection list`" in lab("collection", "variable", "list", "lib").err
    assert lab("collection", "variable", "remove", "lab", "ZONE").out == "Zone for collection:lab: removed\n"
    told = json.loads(lab("computer", "variable", "list", "PC-1", "--json").out)["variables"]
    assert [(each["name"], each["value"], each["secret"]) for each in told] == [
        ("Pass", "", True),
        ("Zone", "UTC", False),
    ]
    assert site.policy.store.variables.map.find("PC-1", "Pass").value == "hunter2"
    assert lab("computer", "variable", "remove", "PC-1", "Pass").out == "Pass for PC-1: removed\n"


def test_a_value_comes_from_standard_input_where_no_command_line_shows_it(
    lab: Dpd, site: SiteDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hunter2 \n"))
    lab("computer", "variable", "set", "PC-1", "Pass", "--secret")
    assert site.policy.store.variables.map.find("PC-1", "Pass").value == "hunter2 "


def test_an_import_of_computers_brings_their_variables(lab: Dpd, site: SiteDoor, tmp_path: Path) -> None:
    file = tmp_path / "room.csv"
    file.write_text("name,mac,variable:Zone\nPC-2,52:54:00:00:00:0b,Rome\n")
    assert "1 new, 0 changed, 0 as they were, variables set: 1" in lab("computer", "import", str(file)).out
    assert site.policy.store.variables.map.find("PC-2", "Zone").value == "Rome"


def test_what_cannot_be_is_told_with_the_next_step(lab: Dpd) -> None:
    assert "no computer PC-9; `dpd computer list`" in lab("computer", "variable", "set", "PC-9", "Zone", "x").err
    assert "begin with _ are read-only" in lab("computer", "variable", "set", "PC-1", "_x", "x").err
    assert "no variable Zone for PC-1" in lab("computer", "variable", "remove", "PC-1", "Zone").err


def test_a_deployment_tells_its_sequence(lab: Dpd, site: SiteDoor) -> None:
    site.policy.store.sequences.publish('name = "debian"\n[[step]]\nname = "Restart"\ndo = "restart"\n', "me", None, 3)
    added = lab("deployment", "add", "--computer", "PC-1", "--sequence", "debian@3", "--required").out
    assert "with task sequence debian@3, is required for PC-1" in added
    assert "debian@3" in lab("deployment", "list").out
    assert "Sequence    debian@3" in lab("deployment", "show", "1").out
