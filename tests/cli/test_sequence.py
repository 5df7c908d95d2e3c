# SPDX-License-Identifier: Apache-2.0
"""`dpd sequence …` against a real daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd

TEXT = """\
# kept as it was written
name = "{name}"
description = "A sequence"
[[step]]
name = "Prepare"
continue_on_error = true
[[step.step]]
name = "Say"
do = "run_command_line"
command = "echo %OSDDomain%"
condition = {{ variable = "OSDDomain" }}
[[step]]
name = "Restart"
do = "restart"
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "sequence.toml"
    path.write_text(TEXT.format(name=tmp_path.name[:50]))
    return path


@pytest.fixture
def name(tmp_path: Path) -> str:
    """One of the test's own: the daemon is everybody's."""
    return tmp_path.name[:50]


def test_a_document_is_checked_published_listed_and_shown(asked: Dpd, document: Path, name: str) -> None:
    checked = asked("sequence", "check", document)
    assert checked.code == 0, checked.err
    assert "Variables to set  OSDDomain" in checked.out
    assert asked("sequence", "publish", document).out.startswith(f"{name}@1: published; `dpd deployment add")
    assert asked("sequence", "publish", document).out == f"{name}@1: says the same already; nothing was published\n"
    (line,) = (each for each in asked("sequence", "list").out.splitlines() if each.startswith(f"{name} "))
    assert line.split()[1:3] == ["1", "2"]
    assert line.rstrip().endswith("A sequence")
    shown = asked("sequence", "show", f"{name}@1").out.splitlines()
    rows = [each.split() for each in shown[-4:]]
    assert rows[0] == ["STEP", "NAME", "DOES", "REMARKS"]
    assert rows[1] == ["1", "Prepare", "group", "goes", "on", "after", "an", "error"]
    assert rows[2] == ["1.1", "Say", "run_command_line", "on", "condition"]
    assert rows[3] == ["2", "Restart", "restart"]
    assert asked("sequence", "show", name, "--json").json["version"]["version"] == 1


def test_an_export_is_what_was_published(asked: Dpd, document: Path, name: str, tmp_path: Path) -> None:
    asked("sequence", "publish", document, "--version", "3")
    assert asked("sequence", "export", name).out == document.read_text()
    written = tmp_path / "out.toml"
    assert asked("sequence", "export", f"{name}@3", "-f", written).out == f"{written}: written, {name}@3\n"
    assert written.read_text() == document.read_text()
    signed = json.loads(asked("sequence", "export", name, "--signed").out)
    assert signed["sequence"]["version"] == 3
    told = asked("sequence", "export", name, "-f", tmp_path / "no" / "where.toml")
    assert told.code == 1
    assert "expected a folder that may be written to" in told.err


def test_one_version_or_all_are_removed(asked: Dpd, document: Path, name: str) -> None:
    asked("sequence", "publish", document)
    asked("sequence", "publish", document, "--version", "2")
    document.write_text(document.read_text() + "# more\n")
    asked("sequence", "publish", document)
    assert asked("sequence", "remove", name).code == 2
    assert asked("sequence", "remove", f"{name}@1", "--all").code == 2
    assert asked("sequence", "remove", f"{name}@1").out == f"{name}@1: removed\n"
    assert asked("sequence", "remove", name, "--all", "--json").json["removed"][0]["name"] == name
    gone = asked("sequence", "show", name)
    assert gone.code == 1
    assert f"no task sequence {name}; `dpd sequence list` shows those there are" in gone.err


@pytest.mark.parametrize("command", [["check"], ["check", "--offline"], ["publish"]])
def test_what_is_wrong_is_told_as_editors_know_it(asked: Dpd, document: Path, command: list[str]) -> None:
    document.write_text(document.read_text().replace('"restart"', '"reboot"').replace("command =", "comand ="))
    told = asked("sequence", *command, document)
    assert told.code == 1
    lines = told.err.splitlines()
    assert lines[0].startswith(f"{document}:7: step 1.1 (Say): command is missing")
    assert lines[1].startswith(f"{document}:10: step 1.1 (Say): comand: unknown key")
    assert lines[2].startswith(f'{document}:14: step 2 (Restart): do: "reboot": expected one of')
    assert lines[3] == f"dpd: {document}: 3 problems; nothing was published"
    as_json = asked("sequence", *command, document, "--json")
    assert (as_json.code, len(as_json.json["problems"])) == (1, 3)


def test_a_missing_package_is_told_by_the_daemon_alone(asked: Dpd, document: Path) -> None:
    fetch = '[[step]]\nname = "Fetch"\ndo = "download_content"\npackage = "NONE0001"\n'
    document.write_text(
        document.read_text().replace('[[step]]\nname = "Restart"', fetch + '[[step]]\nname = "Restart"')
    )
    assert "no package NONE0001 here" in asked("sequence", "check", document).err
    offline = asked("sequence", "check", "--offline", document, "--json")
    assert (offline.code, offline.json["outline"]["packages"]) == (0, ["NONE0001"])


def test_files_and_names_that_are_none_are_told(asked: Dpd, tmp_path: Path) -> None:
    missing = asked("sequence", "check", tmp_path / "none.toml")
    assert missing.code == 1
    assert "No such file or directory; expected a task sequence's document" in missing.err
    (tmp_path / "bytes.toml").write_bytes(b'# one\nname = "\xff"')
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    for words in (("check", "--offline"), ("publish",)):
        assert "bytes.toml:2: not UTF-8 text; save" in asked("sequence", *words, tmp_path / "bytes.toml").err
        assert "large.toml: 1048577 bytes, expected at most" in asked("sequence", *words, tmp_path / "large.toml").err
    assert 'expected "NAME" or "NAME@VERSION"' in asked("sequence", "show", "a@b").err
