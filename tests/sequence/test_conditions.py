# SPDX-License-Identifier: Apache-2.0
"""What holds on which machine."""

from __future__ import annotations

import pytest

from dpd.sequence.conditions import compare, holds
from dpd.sequence.records import (
    Architecture,
    ArchitectureCondition,
    Condition,
    Conditions,
    Disk,
    Facts,
    HardwareCondition,
    HardwareFact,
    Operator,
    PathCondition,
    Several,
    VariableCondition,
)
from dpd.sequence.variables import Variable, VariableError, Variables

FACTS = Facts(
    "x64",
    "uefi",
    4 << 30,
    cpus=2,
    vendor="QEMU",
    model="Standard PC (Q35 + ICH9, 2009)",
    macs=("52:54:00:00:00:01", "52:54:00:00:00:02"),
    disks=(Disk("/dev/sda", 10 << 30), Disk("/dev/vda", 40 << 30)),
)
VARIABLES = Variables([Variable("Site", "Berlin"), Variable("Count", "08"), Variable("Root", "/target")])
THERE = {("/target/etc/fstab", False), ("/target/etc", True)}


def on_this_machine(condition: Condition | None) -> bool:
    return holds(condition, FACTS, VARIABLES, lambda path, is_folder: (path, is_folder) in THERE)


YES = ArchitectureCondition((Architecture.X64,))
NO = ArchitectureCondition((Architecture.ARM64,))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, True),
        (YES, True),
        (NO, False),
        (ArchitectureCondition((Architecture.ARM64, Architecture.X64)), True),
        (Conditions(Several.ALL, (YES, YES)), True),
        (Conditions(Several.ALL, (YES, NO)), False),
        (Conditions(Several.ANY, (NO, YES)), True),
        (Conditions(Several.ANY, (NO, NO)), False),
        (Conditions(Several.NONE, (NO, NO)), True),
        (Conditions(Several.NONE, (NO, YES)), False),
        (Conditions(Several.ALL, (Conditions(Several.NONE, (NO,)), YES)), True),
        (VariableCondition("site", Operator.EQUALS, "BERLIN"), True),
        (VariableCondition("Site", Operator.NOT_EQUALS, "Berlin"), False),
        (VariableCondition("Other", Operator.NOT_EQUALS, "Berlin"), True),
        (VariableCondition("Other", Operator.EQUALS, ""), False),
        (VariableCondition("Other", Operator.EXISTS, True), False),
        (VariableCondition("Other", Operator.EXISTS, False), True),
        (VariableCondition("Site", Operator.EXISTS, True), True),
        (VariableCondition("Site", Operator.LIKE, "b*n"), True),
        (VariableCondition("Site", Operator.AT_LEAST, 0), False),
        (VariableCondition("Count", Operator.AT_LEAST, 8), True),
        (VariableCondition("Count", Operator.AT_MOST, 7), False),
        (VariableCondition("Count", Operator.EQUALS, 8), True),
        (VariableCondition("Count", Operator.EQUALS, "8"), False),
        (PathCondition("%root%/etc/fstab", is_folder=False), True),
        (PathCondition("%root%/etc/fstab", is_folder=True), False),
        (PathCondition("%root%/etc", is_folder=True), True),
        (PathCondition("%root%/var", is_folder=True, exists=False), True),
        (HardwareCondition(HardwareFact.RAM_BYTES, Operator.AT_LEAST, 4 << 30), True),
        (HardwareCondition(HardwareFact.RAM_BYTES, Operator.AT_LEAST, (4 << 30) + 1), False),
        (HardwareCondition(HardwareFact.DISK_BYTES, Operator.AT_LEAST, 40 << 30), True),
        (HardwareCondition(HardwareFact.DISKS, Operator.EQUALS, 2), True),
        (HardwareCondition(HardwareFact.CPUS, Operator.AT_MOST, 2), True),
        (HardwareCondition(HardwareFact.FIRMWARE, Operator.EQUALS, "UEFI"), True),
        (HardwareCondition(HardwareFact.MODEL, Operator.LIKE, "*q35*"), True),
        (HardwareCondition(HardwareFact.VENDOR, Operator.EQUALS, "Dell"), False),
        (HardwareCondition(HardwareFact.SERIAL, Operator.EXISTS, True), False),
        (HardwareCondition(HardwareFact.MAC, Operator.EQUALS, "52:54:00:00:00:02"), True),
        (HardwareCondition(HardwareFact.MAC, Operator.NOT_EQUALS, "52:54:00:00:00:02"), False),
        (HardwareCondition(HardwareFact.GUID, Operator.LIKE, "*"), False),
    ],
)
def test_a_condition(condition: Condition | None, expected: bool) -> None:
    assert on_this_machine(condition) is expected


def test_a_path_with_a_variable_that_is_not_set_is_no_guess() -> None:
    with pytest.raises(VariableError, match="%Nowhere%"):
        on_this_machine(PathCondition("%Nowhere%/x", is_folder=False))


def test_a_machine_without_disks_has_none_of_any_size() -> None:
    bare = Facts("x64", "bios", 1)
    assert not holds(
        HardwareCondition(HardwareFact.DISK_BYTES, Operator.AT_LEAST, 1), bare, Variables(), lambda *_: True
    )


def test_a_number_too_long_to_be_one_is_none() -> None:
    assert not compare(["9" * 5000], Operator.AT_LEAST, 1)
