# SPDX-License-Identifier: Apache-2.0
"""The house as a test: imports point down, tests mirror sources, names and licence lines are in order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "dpd").rglob("*.py"))
ALL_PYTHON = SOURCES + sorted(
    path for part in ("src/dpd_probe", "tests", "bench") for path in (ROOT / part).rglob("*.py")
)
SPDX_LINE = "# SPDX-License-Identifier: Apache-2.0"

# Modules whose behaviour a neighbour's test holds: the module, the test file, and why it has none of its own.
TESTED_ELSEWHERE = {
    "protocol/machine.py": (
        "service/test_driver.py",
        "the shape of a machine and no behaviour; the driver relies on it",
    ),
    "protocol/multicast/sender_events.py": (
        "protocol/multicast/test_sender.py",
        "names of what a sender says and counts; each is seen where it is said",
    ),
    "content/records.py": ("content/storage/test_catalogue.py", "what rows say, as values; they come and go there"),
    "content/storage/schema.py": (
        "content/storage/test_catalogue.py",
        "the tables; each step to the newest is taken there",
    ),
    "distribution/pulling/source.py": (
        "distribution/pulling/test_http_source.py",
        "shapes of what a source is, and no behaviour; each outcome is seen where it comes from",
    ),
    "service/http/doors.py": ("service/http/test_routes.py", "shapes of what the routes ask, and no behaviour"),
    "target/images/applying.py": (
        "target/steps/test_apply_os_image.py",
        "what both steps that apply an image share; real images on real volumes there",
    ),
    "target/disks/block_device.py": (
        "target/steps/test_partition_disk.py",
        "ioctls on a disk; each is seen where a disk gets its partitions",
    ),
    "target/disks/formatting.py": (
        "target/steps/test_partition_disk.py",
        "calls of mkfs; each file system is read back there",
    ),
    "target/run/run.py": ("target/test_deploy.py", "a run put together; whole runs there"),
    "target/work/step_failure.py": ("target/work/test_volumes.py", "nothing but a name"),
    "setting_rules.py": ("test_settings.py", "the rules show in what a settings file is refused for"),
    "errors.py": ("test_settings.py", "nothing but names; each is raised in the test of who raises it"),
}

# Words that name nothing, as any part of a name; and names that say nothing when they stand alone (RFC 1350's Data is
# a packet, so that class may).
NOT_A_NAME = ("manager", "helper", "helpers", "util", "utils", "common", "misc", "handler2")
NOT_ALONE = ("base", "Base", "data", "info", "Info", "process")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def _venv_program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_imports_hold_the_contracts() -> None:
    run = subprocess.run(
        [_venv_program("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    assert "0 broken" in run.stdout


def test_every_module_has_its_test() -> None:
    assert {
        str(module): f"expected tests/{test}"
        for module, test in _mirror().items()
        if not (ROOT / "tests" / test).is_file()
    } == {}


def _mirror() -> dict[Path, str]:
    """Each module with code in it, and the test file that holds it, below src/dpd and tests."""
    modules = [
        path.relative_to(ROOT / "src" / "dpd") for path in SOURCES if path.name != "__init__.py" or _has_code(path)
    ]
    own = {module: str(module.parent / f"test_{_stem(module)}.py") for module in modules}
    return own | {Path(name): test for name, (test, _) in TESTED_ELSEWHERE.items() if Path(name) in own}


def _has_code(path: Path) -> bool:
    return bool(re.search(r"^(def|class|async def) ", path.read_text(encoding="utf-8"), re.MULTILINE))


def _stem(module: Path) -> str:
    return module.parent.name if module.name == "__init__.py" else module.stem.strip("_")


def test_the_exceptions_of_the_mirror_are_still_needed() -> None:
    gone = [name for name in TESTED_ELSEWHERE if not (ROOT / "src" / "dpd" / name).is_file()]
    grown_up = [
        name for name in TESTED_ELSEWHERE if (ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}").is_file()
    ]
    assert gone + grown_up == []


@pytest.mark.parametrize("path", ALL_PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_says_its_licence_and_names_things(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(SPDX_LINE + "\n"), f"{path}: the first line is to be {SPDX_LINE!r}"
    names = [path.stem, *re.findall(r"^\s*(?:async def|def|class) (\w+)", text, re.MULTILINE)]
    assert [name for name in names if _says_nothing(name)] == []


FIELD_TERMS = re.compile("boot_manager|common_name")  # of Windows, of X.509


def _says_nothing(name: str) -> bool:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    words = FIELD_TERMS.sub("", snake).split("_")
    return name.strip("_") in NOT_ALONE or any(word in NOT_A_NAME for word in words)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_unfinished(path: Path) -> None:
    assert UNFINISHED.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["ContentManager", "path_utils", "Helper", "data", "_info", "misc", "Base"])
def test_a_name_that_says_nothing_is_seen(name: str) -> None:
    assert _says_nothing(name)


@pytest.mark.parametrize(
    "name",
    [
        "database",
        "process_id",
        "boot_data",
        "EventSource",
        "baseline",
        "Data",
        "info_line",
        "BootManager",
        "common_name",
    ],
)
def test_a_name_that_only_contains_such_letters_is_left_alone(name: str) -> None:
    assert not _says_nothing(name)


def test_scapy_cannot_enter_the_sources(tmp_path: Path) -> None:
    """Scapy is GPL-2.0-only; ruff refuses it below src and so does this look at the imports."""
    banned = "import scapy.all\n"
    command = [
        _venv_program("ruff"),
        "check",
        "--quiet",
        "--select",
        "TID251",
        "--stdin-filename",
        "src/dpd/service/new.py",
        "-",
    ]
    run = subprocess.run(command, cwd=ROOT, input=banned, capture_output=True, text=True, check=False)
    assert "GPL-2.0-only" in run.stdout
    assert [
        p for p in SOURCES if re.search(r"^\s*(import|from) scapy", p.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_a_skipped_interop_test_fails_in_ci_alone(ci: str, status: int) -> None:
    """PATH is empty, so that the programs are missing."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/interop/test_http_clients.py"]
    command += ["-k", "wget or busybox"]
    environment = {"PATH": "", "CI": ci}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stdout
    assert "missing: wget" in run.stdout
    assert ("2 failed" if ci else "2 skipped") in run.stdout
