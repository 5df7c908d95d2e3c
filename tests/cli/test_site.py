# SPDX-License-Identifier: Apache-2.0
"""`dpd site plan|apply|export` over a real policy, and a terminal where somebody is asked."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Dpd
from tests.cli.site_door import SiteDoor

from dpd.cli import site as site_commands
from dpd.cli.client import Client
from dpd.site.records import Computer

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAB = f'[[computer]]\nname = "PC-1"\nmacs = ["{A}"]\n\n[[collection]]\nname = "lab"\ncomputers = ["PC-1"]\n'
RISKY = LAB + '\n[[deployment]]\nname = "win"\ntarget = "all"\npurpose = "required"\n'
PATIENCE_S = 30.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(LAB)
    return path


def test_a_file_is_planned_applied_and_then_nothing_changes(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    planned = dpd("site", "plan", "-f", file)
    assert (planned.code, planned.out) == (
        0,
        f"+ computer PC-1: macs {A}\n+ collection lab: computers PC-1\n\n"
        "Plan: 2 to add, 0 to change, 0 to remove; 0 stay as they are (policy version 0).\n",
    )
    applied = dpd("site", "apply", "-f", file, "--yes")
    assert (applied.code, applied.out) == (0, planned.out + "Applied: policy is version 1 now.\n")
    again = dpd("site", "apply", "-f", file)
    assert (again.code, again.out) == (0, f"No changes: the site is what {file} says (policy version 1).\n")
    file.write_text(LAB.replace(A, B))
    assert dpd("site", "plan", "-f", file).out.splitlines()[:3] == [
        "~ computer PC-1",
        f"    macs  - {A}",
        f"    macs  + {B}",
    ]


def test_plan_says_by_its_exit_code_whether_something_would_change(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    assert dpd("site", "plan", "-f", file, "--detailed-exitcode").code == 2
    dpd("site", "apply", "-f", file, "--yes")
    assert dpd("site", "plan", "-f", file, "--detailed-exitcode").code == 0
    file.write_text("x = 1\n")
    assert dpd("site", "plan", "-f", file, "--detailed-exitcode").code == 1


def test_programs_get_json(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    planned = dpd("site", "plan", "-f", file, "--json").json
    assert (planned["added"], planned["is_applied"], planned["changes"][0]["name"]) == (2, False, "PC-1")
    applied = dpd("site", "apply", "-f", file, "--yes", "--json").json
    assert (applied["is_applied"], applied["policy_version"]) == (True, 1)
    exported = dpd("site", "export", "--json").json
    assert exported["policy_version"] == 1
    file.write_text("computer = 1\n")
    for command in (["plan"], ["apply", "--yes"]):
        ended = dpd("site", *command, "-f", file, "--json")
        assert (ended.code, ended.json["problems"][0]["line"]) == (1, 1)


def test_problems_are_all_told_with_file_line_and_key(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    file.write_text(LAB.replace(A, "zz") + 'colour = "red"\n')
    for command in (["plan"], ["apply", "--yes"]):
        ended = dpd("site", *command, "-f", file)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err == (
            f"{file}:3: computer.macs: mac 'zz': expected six bytes such as 52:54:00:12:34:56\n"
            f"{file}:8: collection.colour: unknown key; expected one of name, computers, rules, include, exclude, description\n"
            f"dpd: {file}: 2 problems; nothing was changed\n"
        )
    file.write_text("".join(f"x{number} = 1\n" for number in range(150)))
    assert dpd("site", "plan", "-f", file).err.endswith(
        ": 150 problems, the first 100 are shown; nothing was changed\n"
    )


def test_what_is_spoken_of_does_not_go(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    dpd("site", "apply", "-f", file, "--yes")
    file.write_text('owns = ["computer"]\n')
    ended = dpd("site", "apply", "-f", file, "--yes")
    assert ended.err.splitlines()[0] == (
        f"{file}: collection.computers: computer PC-1 would be removed, and is still spoken of by collection lab; "
        "declare it, or take it out there too"
    )
    assert [each["name"] for each in dpd("computer", "list", "--json").json["computers"]] == ["PC-1"]


def test_without_a_terminal_nobody_is_asked(
    site: SiteDoor, dpd: Dpd, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        ended = dpd("site", "apply", "-f", file)
    assert ended.code == 1
    assert (
        ended.err == "dpd: nothing was changed: nobody is here to be asked; `--yes` applies the plan without asking\n"
    )
    assert dpd("computer", "list", "--json").json == {"computers": []}


def test_what_reaches_all_needs_its_number_even_with_yes(site: SiteDoor, dpd: Dpd, file: Path) -> None:
    file.write_text(RISKY)
    assert dpd("site", "plan", "-f", file).out.splitlines()[-2:] == [
        "high risk: the required deployment win reaches 1 known computer",
        "`--confirm 1` says that this is meant",
    ]
    ended = dpd("site", "apply", "-f", file, "--yes")
    assert ended.code == 1
    assert "--confirm 1" in ended.err
    assert dpd("deployment", "list", "--json").json == {"deployments": []}
    assert dpd("site", "apply", "-f", file, "--yes", "--confirm", "1").code == 0


def test_an_export_is_a_file_that_changes_nothing(site: SiteDoor, dpd: Dpd, file: Path, tmp_path: Path) -> None:
    dpd("site", "apply", "-f", file, "--yes")
    copy = tmp_path / "copy.toml"
    assert dpd("site", "export", "-f", copy).out == f"{copy}: written, of policy version 1\n"
    assert copy.read_text() == dpd("site", "export").out
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    assert dpd("site", "plan", "-f", copy, "--detailed-exitcode").code == 0
    only = dpd("site", "export", "--only", "collection", "--only", "rule").out
    assert only.splitlines()[0] == 'owns = ["collection", "rule"]'
    assert dpd("site", "export", "--only", "computers").code == 1
    ended = dpd("site", "export", "-f", tmp_path / "none" / "x.toml")
    assert (ended.code, "not written: No such file or directory" in ended.err) == (1, True)


def test_a_file_that_is_not_there_is_told(dpd: Dpd, tmp_path: Path) -> None:
    ended = dpd("site", "plan", "-f", tmp_path / "none.toml")
    assert ended.code == 1
    assert "none.toml: No such file or directory; expected a declaration" in ended.err


def test_a_site_server_of_this_host_is_asked_first(
    site: SiteDoor, dpd: Dpd, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPD_SOCKET")
    monkeypatch.setenv("DPD_SITE_SOCKET", site.settings.control.socket)
    assert dpd("site", "plan", "-f", file, "--json").json["added"] == 2
    monkeypatch.setenv("DPD_SITE_SOCKET", str(tmp_path / "none.sock"))
    monkeypatch.setattr(site_commands, "DEFAULT_SOCKET", site.settings.control.socket)
    assert dpd("site", "plan", "-f", file, "--json").json["added"] == 2


@pytest.mark.parametrize(
    ("bob_at", "bob", "code", "tries"),
    [
        ([1], "maintenance", 0, 2),
        ([1, 2, 3], "maintenance", 1, 3),
        ([1], "computer", 1, 1),
    ],
    ids=["once", "each time", "what the plan is about"],
)
def test_what_was_agreed_to_is_done_while_other_changes_leave_the_plan_as_it_was(
    site: SiteDoor,
    dpd: Dpd,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    bob_at: list[int],
    bob: str,
    code: int,
    tries: int,
) -> None:
    apply_once, tried = site_commands._apply, 0

    def after_bob(client: Client, text: bytes, report: Any, confirm: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried in bob_at and bob == "maintenance":
            site.policy.store.set_maintenance(f"why {tried}", "bob")
        elif tried in bob_at:
            site.policy.store.add_computer(Computer("PC-1", (B,)), "bob")
        return apply_once(client, text, report, confirm)

    monkeypatch.setattr(site_commands, "_apply", after_bob)
    ended = dpd("site", "apply", "-f", file, "--yes")
    assert (ended.code, tried) == (code, tries)
    assert ("policy has changed since" in ended.err) == (code == 1)


# ---- somebody at a terminal


class Terminal:
    """`dpd` with a terminal for its input and output."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = os.openpty()
        command = [sys.executable, "-m", "dpd", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.shown = b""

    def wait_shown(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            readable, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert readable, self.shown
            self.shown += self._read()

    def type(self, text: bytes) -> None:
        os.write(self._ours, text)

    def end(self) -> int:
        while chunk := self._read():
            self.shown += chunk
        os.close(self._ours)
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bytes:
        try:
            return os.read(self._ours, 65536)
        except OSError:  # nobody has the other side open any more
            return b""


@pytest.mark.parametrize(
    ("text", "question", "answer", "code"),
    [
        (LAB, b"Apply? [y/N] ", b"y\n", 0),
        (LAB, b"Apply? [y/N] ", b"\n", 1),
        (LAB, b"Apply? [y/N] ", b"\x04", 1),
        (RISKY, b"Type 1 to apply: ", b"1\n", 0),
        (RISKY, b"Type 1 to apply: ", b"y\n", 1),
    ],
    ids=["yes", "enter", "end", "number", "no number"],
)
def test_somebody_at_the_terminal_is_asked(
    site: SiteDoor, file: Path, text: str, question: bytes, answer: bytes, code: int
) -> None:
    file.write_text(text)
    terminal = Terminal("site", "apply", "-f", file)
    terminal.wait_shown(question)
    assert b"\x1b[32m+ computer PC-1" in terminal.shown
    terminal.type(answer)
    assert terminal.end() == code
    assert (b"Applied: policy is version 1 now." in terminal.shown) == (code == 0)
    assert (b"nothing was changed: not confirmed" in terminal.shown) == (code == 1)
    assert site.policy.store.policy_version == (1 if code == 0 else 0)
