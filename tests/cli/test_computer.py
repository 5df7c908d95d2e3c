# SPDX-License-Identifier: Apache-2.0
"""`dpd computer …`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def test_a_computer_is_added_listed_shown_and_removed(site: SiteDoor, dpd: Dpd) -> None:
    assert "`dpd computer add NAME --mac MAC`" in dpd("computer", "list").out
    added = dpd("computer", "add", "PC1", "--mac", "52-54-00-00-00-0A", "--mac", B)
    assert added.out == "PC1: known; `dpd deployment add --computer PC1` deploys to it\n"
    assert dpd("computer", "list").out.splitlines()[1].split() == ["PC1", A, B]
    assert dpd("computer", "list", "--json").json["computers"][0]["macs"] == [A, B]
    shown = dpd("computer", "show", "pc1").out
    assert A in shown
    assert "`dpd deployment add --computer PC1`" in shown
    assert dpd("computer", "remove", "PC1").out == "PC1: removed; it is an unknown computer from now on\n"
    ended = dpd("computer", "show", "PC1")
    assert (ended.code, ended.err) == (1, "dpd: no computer PC1; `dpd computer list` shows those there are\n")


def test_a_computer_shows_what_it_ran(site: SiteDoor, dpd: Dpd) -> None:
    dpd("computer", "add", "PC1", "--mac", A)
    dpd("deployment", "add", "--computer", "PC1", "--required")
    assert site.ask(A).computer == "PC1"
    (line,) = dpd("computer", "show", "PC1").out.splitlines()[-1:]
    assert line.split()[:5] == ["1", "PC1", "required", "default", "current"]
    assert line.split()[5] != "-"


def test_what_somebody_else_has_is_told(site: SiteDoor, dpd: Dpd) -> None:
    dpd("computer", "add", "PC1", "--mac", A)
    ended = dpd("computer", "add", "PC2", "--mac", A)
    assert (ended.code, ended.err) == (1, f"dpd: computer PC2: {A} is PC1's already\n")


def test_a_file_is_shown_as_a_difference_and_then_imported(site: SiteDoor, dpd: Dpd, tmp_path: Path) -> None:
    file = tmp_path / "room.csv"
    file.write_text(f"name,mac\nPC1,{A}\n")
    assert dpd("computer", "import", file).out == f"+ PC1 {A}\n1 new, 0 changed, 0 as they were\n"
    file.write_text(f"name,mac\nPC1,{B}\nPC2,{A}\n")
    dry = dpd("computer", "import", file, "--dry-run")
    assert dry.out == (
        f"+ PC2 {A}\n- PC1 {A}\n+ PC1 {B}\n"
        "1 new, 1 changed, 0 as they were; nothing was done, since this is a dry run\n"
    )  # fmt: skip
    assert [c["name"] for c in dpd("computer", "list", "--json").json["computers"]] == ["PC1"]
    assert dpd("computer", "import", file, "--json").json["done"] is True


def test_wrong_lines_are_told_and_nothing_is_imported(site: SiteDoor, dpd: Dpd, tmp_path: Path) -> None:
    file = tmp_path / "room.csv"
    file.write_text(f"name,mac\nPC1,{A}\nPC2,nonsense\n")
    ended = dpd("computer", "import", file)
    assert ended.out == "line 3: mac 'nonsense': expected six bytes such as 52:54:00:12:34:56\n"
    assert (ended.code, ended.err) == (1, f"dpd: {file}: 1 line is wrong; nothing was imported\n")
    assert dpd("computer", "list", "--json").json == {"computers": []}


def test_a_file_that_is_not_there_is_told(dpd: Dpd, tmp_path: Path) -> None:
    ended = dpd("computer", "import", tmp_path / "none.csv")
    assert ended.code == 1
    assert "none.csv: No such file or directory; expected a CSV file" in ended.err


def test_files_of_other_systems_are_imported(site: SiteDoor, dpd: Dpd, tmp_path: Path) -> None:
    fog, configmgr = tmp_path / "fog.csv", tmp_path / "cm.csv"
    fog.write_text(f"{A}|{B},PC-Lab-01,Front,,4\n")
    assert dpd("computer", "import", fog, "--format", "fog").out.startswith(f"+ PC-Lab-01 {A} {B}\n1 new")
    configmgr.write_text("NEWCOMP1,55555555-5555-5555-5555-555555555555,\n")
    assert (
        dpd("computer", "import", configmgr, "--format", "configmgr", "--json").json["added"][0]["name"] == "NEWCOMP1"
    )
    assert "expected a first line with name" in dpd("computer", "import", fog).out
