# SPDX-License-Identifier: Apache-2.0
"""Whether a condition holds, given what the machine is, its variables, and who looks for files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from dpd.sequence.records import (
    ArchitectureCondition,
    Condition,
    Conditions,
    Facts,
    HardwareCondition,
    HardwareFact,
    Operator,
    PathCondition,
    Several,
    VariableCondition,
)
from dpd.sequence.variables import Variables

Exists = Callable[[str, bool], bool]  # a path, and whether it is to be a folder


def holds(condition: Condition | None, facts: Facts, variables: Variables, exists: Exists) -> bool:
    """Whether what it is on is to run. Raises VariableError for a path with a variable that is not set."""
    match condition:
        case None:
            return True
        case Conditions(rule, parts):
            found = (holds(each, facts, variables, exists) for each in parts)
            return all(found) if rule is Several.ALL else any(found) is (rule is Several.ANY)
        case VariableCondition(name, operator, value):
            return compare([variables.get(name)] if name in variables else [], operator, value)
        case PathCondition(path, is_folder, wanted):
            return exists(variables.substitute(path), is_folder) is wanted
        case ArchitectureCondition(architectures):
            return facts.architecture in architectures
        case HardwareCondition(fact, operator, value):
            return compare(values_of(fact, facts), operator, value)


def values_of(fact: HardwareFact, facts: Facts) -> Sequence[str | int]:
    """What the machine answers to a hardware query; nothing where it does not know."""
    match fact:
        case HardwareFact.RAM_BYTES:
            return [facts.ram_bytes]
        case HardwareFact.DISK_BYTES:
            return [max((disk.size_bytes for disk in facts.disks), default=0)]
        case HardwareFact.DISKS:
            return [len(facts.disks)]
        case HardwareFact.CPUS:
            return [facts.cpus]
        case HardwareFact.MAC:
            return facts.macs
    text = getattr(facts, fact.value)
    return [text] if text else []


def compare(found: Sequence[str | int], operator: Operator, value: str | int | bool) -> bool:
    """Whether any of what was found compares so. Texts in any case; what is no number is neither at least nor at most one."""
    match operator:
        case Operator.EXISTS:
            return bool(found) is bool(value)
        case Operator.EQUALS:
            return any(_is_same(each, value) for each in found)
        case Operator.NOT_EQUALS:
            return not any(_is_same(each, value) for each in found)
        case Operator.LIKE:
            return any(fnmatchcase(str(each).lower(), str(value).lower()) for each in found)
    numbers = [number for each in found if (number := _number(each)) is not None]
    return any(each >= int(value) if operator is Operator.AT_LEAST else each <= int(value) for each in numbers)


def _is_same(found: str | int, value: str | int | bool) -> bool:
    """A number is the same however it is written: 08 is 8."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(found) == value
    return str(found).lower() == str(value).lower()


def _number(found: str | int) -> int | None:
    if isinstance(found, int):
        return found
    try:
        return int(found.strip()) if len(found) <= 40 else None
    except ValueError:
        return None
