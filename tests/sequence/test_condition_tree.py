# SPDX-License-Identifier: Apache-2.0
"""Conditions as documents write them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from dpd.sequence.condition_tree import read_condition, write_condition
from dpd.sequence.document import tell
from dpd.sequence.records import (
    Architecture,
    ArchitectureCondition,
    Condition,
    Conditions,
    HardwareCondition,
    HardwareFact,
    Operator,
    PathCondition,
    Several,
    VariableCondition,
)
from dpd.sequence.tables import Problems, Table


def read(tree: Any) -> tuple[Condition | None, list[str]]:
    problems = Problems(lambda path: 1)
    found = read_condition(Table(problems, (), tree, "step 1"))
    return found, [tell(each) for each in problems.found]


def of(text: str) -> tuple[Condition | None, list[str]]:
    return read(tomllib.loads(f"x = {text}")["x"])


CONDITIONS = [
    ('{ variable = "A" }', VariableCondition("A", Operator.EXISTS, True)),
    ('{ variable = "_DPDMac", exists = false }', VariableCondition("_DPDMac", Operator.EXISTS, False)),
    ('{ variable = "A", equals = 5 }', VariableCondition("A", Operator.EQUALS, 5)),
    ('{ variable = "A", like = "PC-*" }', VariableCondition("A", Operator.LIKE, "PC-*")),
    ('{ variable = "A", at_least = "1KiB" }', VariableCondition("A", Operator.AT_LEAST, 1024)),
    ('{ file = "/etc/x" }', PathCondition("/etc/x", False)),
    ('{ folder = "%Root%/x", exists = false }', PathCondition("%Root%/x", True, False)),
    ('{ architecture = "x64" }', ArchitectureCondition((Architecture.X64,))),
    ('{ architecture = ["arm64", "x64"] }', ArchitectureCondition((Architecture.ARM64, Architecture.X64))),
    (
        '{ hardware = "ram_bytes", at_most = 4096 }',
        HardwareCondition(HardwareFact.RAM_BYTES, Operator.AT_MOST, 4096),
    ),
    (
        '{ hardware = "firmware", equals = "uefi" }',
        HardwareCondition(HardwareFact.FIRMWARE, Operator.EQUALS, "uefi"),
    ),
    ('{ hardware = "serial" }', HardwareCondition(HardwareFact.SERIAL, Operator.EXISTS, True)),
    (
        '{ none = [{ all = [{ file = "/a" }] }, { variable = "B" }] }',
        Conditions(
            Several.NONE,
            (
                Conditions(Several.ALL, (PathCondition("/a", False),)),
                VariableCondition("B", Operator.EXISTS, True),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("text", "condition"), CONDITIONS)
def test_a_condition_is_read_and_written(text: str, condition: Condition) -> None:
    assert of(text) == (condition, [])
    assert read(write_condition(condition)) == (condition, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "no condition: expected exactly one of all, any, none, variable"),
        ('{ file = "/a", variable = "b" }', "variable and file: expected exactly one"),
        ('{ file = "/a", equals = 1 }', "equals: unknown key"),
        ('{ file = "" }', "file: empty"),
        ('{ variable = "9" }', "beginning with a letter"),
        ('{ variable = "A", equals = "1", like = "2" }', "equals and like: expected exactly one"),
        ('{ variable = "A", equals = true }', "true: expected a text in quotes, or a whole number"),
        ('{ variable = "A", like = 5 }', "5: expected a text in quotes"),
        ('{ variable = "A", at_least = "five" }', '"five": expected a whole number, or a size'),
        ('{ variable = "A", exists = "no" }', '"no": expected true or false'),
        ('{ architecture = "mips" }', '"mips": expected "x64" or "arm64"'),
        ("{ architecture = [] }", "[]: expected"),
        ('{ hardware = "colour", equals = "red" }', '"colour": expected one of "ram_bytes"'),
        ('{ hardware = "ram_bytes" }', "no comparison: expected exactly one of equals, not_equals, at_least, at_most"),
        ('{ hardware = "ram_bytes", like = "4*" }', "like: expected exactly one of equals"),
        ('{ hardware = "model", at_least = 5 }', "at_least: expected exactly one of exists"),
        ('{ hardware = "firmware", equals = "efi" }', '"efi": expected "uefi" or "bios"'),
        ("{ any = [] }", "expected 1 to 64 conditions"),
        ('{ any = { file = "/a" } }', "for each, or a list of tables"),
        ("{ any = [5] }", "5: expected a table"),
        ('{ any = [{ fil = "/a" }] }', "step 1: any 1: no condition"),
        ("{ any = [" * 9 + '{ file = "/a" }' + "] }" * 9, "at most 8 inside each other"),
    ],
)
def test_what_is_none(text: str, told: str) -> None:
    _, problems = of(text)
    assert any(told in each for each in problems), problems
