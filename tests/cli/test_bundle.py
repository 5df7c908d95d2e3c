# SPDX-License-Identifier: Apache-2.0
"""`dpd bundle …` against a real daemon, through files and pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.daemon_process import DaemonProcess

from dpd.content import repository


@pytest.fixture
def stocked(asked: Dpd, image: Path) -> Iterator[Dpd]:
    """A daemon with one package."""
    assert asked("content", "publish", image, "--package", "BUNDLE01").code == 0
    yield asked
    asked("content", "remove", "BUNDLE01")


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """Another daemon, with another key."""
    with DaemonProcess(tmp_path_factory.mktemp("branch")).ready() as daemon:
        yield daemon


def test_a_bundle_goes_to_another_daemon(stocked: Dpd, branch: DaemonProcess, tmp_path: Path) -> None:
    bundle, at_branch = tmp_path / "site.dpd", ("--socket", branch.control_socket)
    ended = stocked("bundle", "export", "BUNDLE01", "--output", bundle)
    assert (ended.code, ended.out) == (0, f"{bundle}: 1.0 MiB\n")
    key = stocked("status", "--json").json["public_key"]
    listed = stocked("bundle", "list", bundle, "--check", "--json").json
    assert (listed["public_key"], listed["is_checked"]) == (key, True)
    assert listed["packages"] == [{"package_id": "BUNDLE01", "source_version": 1}]
    refused = stocked("bundle", "import", bundle, *at_branch)
    assert (refused.code, f"import with --key {key}" in refused.err) == (1, True)
    taken = stocked("bundle", "import", bundle, "--key", key, *at_branch)
    assert taken.out.startswith("BUNDLE01 version 1: imported, 1.0 MiB\n")
    again = stocked("bundle", "import", bundle, "--key", key, "--json", *at_branch).json
    assert (again["contents"], again["received_bytes"]) == ([], 0)
    assert stocked("content", "verify", "BUNDLE01", *at_branch).code == 0
    have = tmp_path / "have.json"
    assert stocked("bundle", "holdings", "--output", have, *at_branch).code == 0
    assert stocked("bundle", "export", "BUNDLE01", "--since", have, "--output", bundle).code == 0
    assert "No package: who asked for it has everything." in stocked("bundle", "list", bundle).out


def run(*arguments: object, socket: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own, with pipes."""
    command = [sys.executable, "-m", "dpd", *map(str, arguments)]
    environment = os.environ | {"DPD_SOCKET": socket}
    return subprocess.run(command, input=given, capture_output=True, env=environment, timeout=60, check=False)


def test_a_bundle_goes_through_a_pipe(stocked: Dpd, daemon: DaemonProcess) -> None:
    exported = run("bundle", "export", "--all", "--output", "-", socket=daemon.control_socket)
    assert (exported.returncode, exported.stderr) == (0, b"")
    listed = run("bundle", "list", "-", "--json", socket="/nowhere", given=exported.stdout)
    assert json.loads(listed.stdout)["packages"][0]["package_id"] == "BUNDLE01"
    stocked("content", "remove", "BUNDLE01")
    taken = run("bundle", "import", "-", socket=daemon.control_socket, given=exported.stdout)
    assert (taken.returncode, taken.stdout.startswith(b"BUNDLE01 version 1: imported")) == (0, True), taken.stderr
    cut = run("bundle", "import", "-", socket=daemon.control_socket, given=exported.stdout[:700_000])
    assert (cut.returncode, b"bundle: ends at byte 700000 in " in cut.stderr) == (1, True), cut.stderr


def test_a_folder_for_a_web_server(stocked: Dpd, tmp_path: Path) -> None:
    ended = stocked("bundle", "export", "BUNDLE01", "--repository", tmp_path / "web")
    assert (ended.code, "6 files written" in ended.out) == (0, True), ended.err
    assert (tmp_path / "web" / repository.description("BUNDLE01", 1)).is_file()


def test_the_daemon_opens_files_itself(stocked: Dpd, tmp_path: Path) -> None:
    bundle = tmp_path / "site.dpd"
    assert stocked("bundle", "export", "BUNDLE01", "--output", bundle, "--in-place").code == 0
    stocked("content", "remove", "BUNDLE01")
    ended = stocked("bundle", "import", bundle, "--in-place")
    assert (ended.code, "BUNDLE01 version 1 imported" in ended.out) == (0, True), ended.err
    assert stocked("content", "verify", "BUNDLE01").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export", "--output", "x"], 2, "expected packages, or --all"),
        (["export", "A", "--all", "--output", "x"], 2, "expected packages, or --all"),
        (["export", "A"], 2, "expected one of --output and --repository"),
        (["export", "GONE", "--output", "{tmp}/x"], 1, "'GONE' is not in the library"),
        (["export", "BUNDLE01", "--output", "/nowhere/x"], 1, "/nowhere/x: No such file or directory; name a file"),
        (["export", "BUNDLE01", "--output", "{tmp}/x", "--since", "/nowhere"], 1, "`dpd bundle holdings` printed"),
        (["import", "/nowhere"], 1, "expected a bundle that `dpd bundle export` wrote"),
        (["import", "/etc/passwd"], 1, "bundle: "),
        (["import", "/etc/passwd", "--key", "xyz"], 1, "64 lower-case hexadecimal digits"),
        (["list", "/etc/passwd"], 1, "bundle: "),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    stocked: Dpd, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    ended = stocked("bundle", *(each.format(tmp=tmp_path) for each in arguments))
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert list(tmp_path.glob("*x*")) == []
