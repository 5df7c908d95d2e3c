# SPDX-License-Identifier: Apache-2.0
"""Packages that a step cannot take."""

from __future__ import annotations

import pytest

from dpd.sequence.document import read_document
from dpd.sequence.package_checks import KnownPackage, check_package
from dpd.sequence.records import Architecture

PACKAGES = {
    ("WIM", 0): KnownPackage(True, ("x64", "")),
    ("WIM", 2): KnownPackage(True, ("arm64",)),
    ("TREE", 0): KnownPackage(False),
}


def problems_of(kind: str, keys: str, *architectures: Architecture) -> list[str]:
    document = read_document(f'name = "x"\n[[step]]\nname = "y"\ndo = "{kind}"\n{keys}\n')
    assert document.sequence is not None, document.problems
    look = check_package(document.sequence.steps()[0], architectures, lambda *asked: PACKAGES.get(asked))
    return [f"{key}: {message}" for key, message in look]


def applied(package: str, more: str = "") -> str:
    return f'package = "{package}"\nvolume = "root"\n{more}'


@pytest.mark.parametrize(
    ("kind", "keys", "told"),
    [
        ("download_content", 'package = "NONE"', "package: no package NONE here; `dpd content publish`"),
        ("download_content", 'package = "WIM"\nversion = 3', "no package WIM of version 3 here"),
        ("run_script", 'package = "NONE"\nfile = "x"', "no package NONE here"),
        ("apply_os_image", applied("TREE"), "package: TREE is no WIM in one file"),
        ("apply_data_image", applied("TREE"), "package: TREE is no WIM in one file"),
        ("apply_os_image", applied("WIM", "index = 3"), "index: 3, and WIM has 2 images; `dpd content images WIM`"),
        ("apply_os_image", applied("WIM", "index = 2\nversion = 2"), "index: 2, and WIM has 1 image;"),
        ("apply_os_image", applied("WIM", "version = 2"), "index: 1 of WIM is for arm64, and the sequence for x64"),
    ],
)
def test_what_is_refused(kind: str, keys: str, told: str) -> None:
    problems = problems_of(kind, keys, Architecture.X64)
    assert len(problems) == 1, problems
    assert told in problems[0]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("download_content", 'package = "TREE"'),
        ("download_content", 'package = "%Image%"\nversion = 9'),
        ("apply_os_image", applied("WIM")),
        ("apply_os_image", applied("WIM", "index = 2")),
        ("apply_data_image", applied("WIM", "version = 2")),
        ("apply_driver_package", applied("TREE")),
        ("run_script", 'script = "true"'),
        ("restart", ""),
    ],
)
def test_what_is_taken(kind: str, keys: str) -> None:
    assert problems_of(kind, keys, Architecture.X64) == []


def test_a_sequence_for_any_machine_takes_an_image_for_any() -> None:
    assert problems_of("apply_os_image", applied("WIM", "version = 2")) == []
    assert problems_of("apply_os_image", applied("WIM", "version = 2"), Architecture.ARM64, Architecture.X64) == []
