# SPDX-License-Identifier: Apache-2.0
"""The receiver as one file: it needs Python's standard library alone, and it receives."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from tests.target.point import Receiving, opened_point

from dpd.sequence.records import StepKind
from dpd.target.bundle import main, modules
from dpd.target.steps import module_of

ALONE = (sys.executable, "-I", "-S")  # no site-packages, no environment
# Runs the bundle as Python would, then tells which modules it has loaded, and from where.
WATCH = """
import json, runpy, sys
code = 0
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    code = error.code
print(json.dumps({"event": "modules", "from": {n: str(getattr(m, "__file__", "")) for n, m in sys.modules.items()}}))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bundle"))


def build(folder: Path) -> Path:
    output = folder / "dpd-receive.pyz"
    assert main([str(output)]) == 0
    return output


def test_it_holds_what_the_receiver_imports_and_nothing_of_the_daemon(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
    assert {
        "__main__.py",
        "dpd/target/receiving/receive.py",
        "dpd/target/steps/partition_disk.py",
        "dpd/service/receiving/receiver.py",
        "dpd/content/signatures/ed25519.py",
    } <= names
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms == {"boot", "content", "protocol", "sequence", "service", "target"}
    assert (
        not {"dpd/service/multicast/service.py", "dpd/content/library.py", "dpd/settings.py", "dpd/target/bundle.py"}
        & names
    )
    sources = {name for name in names if name.endswith(".py")}
    assert len(sources) == len(modules()) + 1
    assert names - sources == {f"{name}c" for name in sources}


def test_it_is_one_small_executable_file(bundle: Path) -> None:
    assert bundle.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert bundle.stat().st_mode & 0o111 == 0o111
    assert bundle.stat().st_size < 1_000_000
    assert b"/dpd/" not in bundle.read_bytes()[:200]


def test_equal_sources_give_equal_bytes(bundle: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == bundle.read_bytes()


def test_it_starts_without_any_installed_package(bundle: Path) -> None:
    run = subprocess.run([*ALONE, str(bundle), "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "dpd receive http://dp:8080 LAB00001 -o install.wim" in run.stdout


async def test_it_receives_an_image_with_the_standard_library_alone(bundle: Path, tmp_path: Path) -> None:
    watch = tmp_path / "watch.py"
    watch.write_text(WATCH)
    output = tmp_path / "image.wim"
    async with opened_point(tmp_path, size_bytes=1_000_000) as point:
        key = point.library.public_key().hex()
        program = (*ALONE, str(watch), str(bundle))
        with Receiving(point.url, output, "--public-key", key, program=program) as receiving:
            assert await receiving.end() == 0, receiving.events
        assert sha256(output.read_bytes()).digest() == sha256(point.image.read_bytes()).digest()
    (loaded,) = receiving.named("modules")
    standard = sys.stdlib_module_names | set(sys.builtin_module_names)
    foreign = {n: f for n, f in loaded["from"].items() if n.partition(".")[0] not in standard | {"__main__", "dpd"}}
    assert foreign == {}
    assert all(str(bundle) in file for n, file in loaded["from"].items() if n.partition(".")[0] == "dpd")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nope" / "x.pyz")]) == 1
    assert "nope/x.pyz: cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_wrong_usage_shows_the_right_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: python -m dpd.target.bundle" in capsys.readouterr().err


def test_events_are_readable_by_whoever_started_it(bundle: Path, tmp_path: Path) -> None:
    """4: the distribution point is out of reach, which it finds out far behind its imports."""
    command = [*ALONE, str(bundle), "http://127.0.0.1:1", "LAB00001", "-o", str(tmp_path / "x"), "--patience", "0.2"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 4, run.stderr
    assert [json.loads(line)["event"] for line in run.stdout.splitlines()] == ["waiting", "failed"]


def test_it_deploys_with_the_standard_library_alone(bundle: Path, tmp_path: Path) -> None:
    """3: nothing booted this machine, which it finds out when all of its imports are done."""
    watch = tmp_path / "watch.py"
    watch.write_text(WATCH)
    (tmp_path / "cmdline").write_text("quiet\n")
    command = [
        *ALONE,
        str(watch),
        str(bundle),
        "deploy",
        "--work",
        str(tmp_path),
        "--command-line",
        str(tmp_path / "cmdline"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 3, run.stderr
    told, loaded = run.stdout.splitlines()
    assert told.startswith("dpd: the kernel's command line has no dpd.server=URL")
    standard = sys.stdlib_module_names | set(sys.builtin_module_names) | {"__main__", "dpd"}
    foreign = {name for name in json.loads(loaded)["from"] if name.partition(".")[0] not in standard}
    assert foreign == set()


def test_it_tests_the_network_too(bundle: Path) -> None:
    command = [*ALONE, str(bundle), "mc-test", "http://127.0.0.1:1", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 4, run.stderr
    assert json.loads(run.stdout)["event"] == "failed"


def test_every_step_is_in_it(bundle: Path) -> None:
    """They are imported by name, when they begin."""
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
    assert {module_of(kind).replace(".", "/") + ".py" for kind in StepKind} <= names
