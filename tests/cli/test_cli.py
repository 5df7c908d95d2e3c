# SPDX-License-Identifier: Apache-2.0
"""The command as a whole: help, version, exit codes, one line for an error."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.cli.conftest import Dpd

from dpd import __version__
from dpd.cli import app


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each command below this one by its full name."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child_name, child in children.items():
        if not getattr(child, "hidden", False):  # the name of an earlier version
            yield from commands(child, f"{name} {child_name}".strip())


ROOT = Path(__file__).parents[2]
COMMANDS = dict(commands(typer.main.get_command(app)))
for its_own in ("receive", "mc-test"):  # the target's own parsers, tested with them
    del COMMANDS[its_own]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_says_what_it_does_and_shows_an_example_that_parses(
    name: str, dpd: Dpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "install.wim").touch()
    ended = dpd(*name.split(), "--help")
    assert ended.code == 0
    assert (COMMANDS[name].help or "").strip().endswith(".")
    example = (COMMANDS[name].epilog or "").removeprefix("Example: ")
    assert example.startswith(f"dpd {name}")
    assert "Example: dpd" in ended.out
    words = example.split()[1 + len(name.split()) :]
    with COMMANDS[name].make_context(name, words, resilient_parsing=False) as context:
        assert context.params


def test_every_command_that_is_named_in_a_sentence_is_one_that_there_is() -> None:
    """What to try next is worth nothing where it is no command: in messages, alerts and the manual."""
    named = [
        (place.name, told)
        for place in (
            *ROOT.glob("src/**/*.py"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("config/**/*.*"),
            ROOT / "README.md",
        )
        for told in re.findall(r"`dpd ([^`\n]*)`", place.read_text("utf-8"))
    ]
    assert len(named) > 100
    assert [each for each in named if not is_command(each[1].split())] == []


def is_command(words: list[str]) -> bool:
    """Whether these name a command, as far as they say which: `dpd content status --json`, `dpd {kind} list`, `dpd site a|b`."""
    command = typer.main.get_command(app)
    while words and (children := getattr(command, "commands", None)):
        word, *words = words
        if word in ("--dp", "--group"):
            words = words[1:]
        elif not word.startswith("-"):
            if "{" in word or "…" in word:
                return True
            if any(each not in children for each in word.split("|")):
                return False
            command = children[word.split("|")[0]]
    return True


def test_the_version_is_told_and_agrees_with_the_package(dpd: Dpd) -> None:
    assert dpd("--version").out == f"dpd {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]


@pytest.mark.parametrize("arguments", [["nothing"], ["content", "add"], ["status", "--nothing"]])
def test_wrong_usage_is_2(dpd: Dpd, arguments: list[str]) -> None:
    ended = dpd(*arguments)
    assert ended.code == 2
    assert "Usage: dpd" in ended.err


def test_a_daemon_that_does_not_run_is_told_with_its_socket_and_how_to_start_it(dpd: Dpd, tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    ended = dpd("status", "--socket", path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"dpd: dpd does not run: no socket {path}; `systemctl start dpd` starts it, --socket or DPD_SOCKET names another socket\n"
    )


def test_python_m_dpd_is_the_same_command_and_help_imports_nothing_slow() -> None:
    script = (
        "import sys, runpy; sys.argv = ['dpd', '--help']\n"
        "try: runpy.run_module('dpd', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "slow = {'aiohttp', 'msgspec', 'rich', 'uvloop', 'cryptography', 'prometheus_client', 'asyncio', 'numpy'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("Usage: dpd ")
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_makes_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m dpd check-config --json | true"
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
