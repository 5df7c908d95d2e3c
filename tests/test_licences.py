# SPDX-License-Identifier: Apache-2.0
"""What is installed with dpd may be used under permissive terms alone, by what each package says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# SPDX identifiers of licences that ask for attribution at most.
PERMISSIVE = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    ]
)

# Older packages have free text or a classifier where newer ones have an SPDX expression (PEP 639).
SPDX_OF_TEXT = {
    "Apache 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}


def runtime_closure(name: str = "dpd", extras: frozenset[str] = frozenset()) -> dict[str, frozenset[str]]:
    """Every package that `pip install dpd` brings to this machine, with the extras asked of it."""
    found: dict[str, frozenset[str]] = {}
    to_visit = [(canonicalize_name(name), extras)]
    while to_visit:
        package, extras = to_visit.pop()
        known = found.get(package)
        if known is not None and extras <= known:
            continue
        found[package] = extras | (known or frozenset())
        to_visit += _requirements(package, found[package])
    return found


def _requirements(package: str, extras: frozenset[str]) -> Iterator[Any]:
    for line in distribution(package).requires or ():
        requirement = Requirement(line)
        environments = [cast("dict[str, str]", default_environment()) | {"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def licence_of(package: str) -> str:
    """An SPDX expression, or what the package says instead of one."""
    metadata = distribution(package).metadata
    expression, text = (metadata.get_all(key) for key in ("License-Expression", "License"))
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    said = expression or [line.strip() for line in text or () if line.strip()] or classifiers
    return " OR ".join(SPDX_OF_TEXT.get(line, line) for line in said) or "no licence in its metadata"


def is_permissive(expression: str) -> bool:
    """`A OR B` leaves the choice to us, `A AND B` binds to both; brackets appear in no dependency of ours."""
    return any(
        all(licence.strip() in PERMISSIVE for licence in choice.split(" AND ")) for choice in expression.split(" OR ")
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-2.0-only", False),
        ("Apache-2.0 AND MIT", True),
        ("MIT AND GPL-2.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("MPL-2.0", False),
        ("no licence in its metadata", False),
    ],
)
def test_an_expression_is_permissive_only_if_a_choice_of_it_is(expression: str, expected: bool) -> None:
    assert is_permissive(expression) is expected


def test_every_runtime_dependency_is_permissive() -> None:
    licences = {package: licence_of(package) for package in runtime_closure()}
    assert {package: said for package, said in licences.items() if not is_permissive(said)} == {}


def test_the_direct_dependencies_are_in_the_set_that_is_judged() -> None:
    assert {"dpd", "aiohttp", "cryptography", "msgspec", "typer", "yarl"} <= runtime_closure().keys()


@pytest.mark.parametrize("tool", ["scapy", "hypothesis", "pytest"])
def test_tools_of_the_tests_do_not_come_with_dpd(tool: str) -> None:
    assert tool not in runtime_closure()


def test_a_package_that_is_not_installed_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(PackageNotFoundError):
        runtime_closure("no-such-package-of-dpd")
