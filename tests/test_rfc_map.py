# SPDX-License-Identifier: Apache-2.0
"""From each rule of a specification to the tests that hold dpd to it: what stands in tests/data/rfc-map.toml is there."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
RULES: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/data/rfc-map.toml").read_text(encoding="utf-8"))["rule"]
# What network boot rests on; a specification without a rule in the map was forgotten.
SPECIFICATIONS = {
    *("RFC 1123", "RFC 1350", "RFC 1542", "RFC 2090", "RFC 2131", "RFC 2132", "RFC 2347", "RFC 2348", "RFC 2349"),
    *("RFC 3004", "RFC 3046", "RFC 3396", "RFC 3527", "RFC 4390", "RFC 4578", "RFC 5107", "RFC 5970", "RFC 6939"),
    *("RFC 7440", "RFC 8357", "RFC 8415", "PXE 2.1"),
}


@cache
def functions_of(path: str) -> frozenset[str]:
    """The test functions of a file; none where there is no such file."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['source']} {rule['section']}")
def test_a_rule_names_tests_that_exist(rule: dict[str, Any]) -> None:
    assert set(rule) == {"source", "section", "rule", "tests"}
    assert rule["tests"]
    named = [test.split("::") for test in rule["tests"]]
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_each_specification_has_its_rules() -> None:
    assert {rule["source"] for rule in RULES} == SPECIFICATIONS


def test_no_rule_stands_twice() -> None:
    told = [(rule["source"], rule["rule"]) for rule in RULES]
    assert len(told) == len(set(told))


def test_a_test_that_is_not_there_is_missed() -> None:
    assert "test_option_82_goes_last" in functions_of("tests/protocol/dhcp/test_message.py")
    assert "test_of_nothing" not in functions_of("tests/protocol/dhcp/test_message.py")
    assert not functions_of("tests/no_such_file.py")
