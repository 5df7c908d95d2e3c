# SPDX-License-Identifier: Apache-2.0
"""Conditions as documents write them: `{ variable = "Site", equals = "Berlin" }`, `{ any = [ … ] }`, `{ hardware = "ram_bytes",
at_least = "4GiB" }`, `{ file = "/etc/x", exists = false }`, `{ architecture = "x64" }`.
"""

from __future__ import annotations

from typing import Any, Final

from dpd.sequence.catalogue import Key, KeyType
from dpd.sequence.records import (
    Architecture,
    ArchitectureCondition,
    Condition,
    Conditions,
    Firmware,
    HardwareCondition,
    HardwareFact,
    Operator,
    PathCondition,
    SequenceError,
    Several,
    VariableCondition,
)
from dpd.sequence.sizes import parse_bytes
from dpd.sequence.tables import Table, shown
from dpd.sequence.variables import check_name

MAX_DEPTH = 8
MAX_PARTS = 64
MAX_TEXT = 4000

_SUBJECTS: Final = (*Several, "variable", "file", "folder", "architecture", "hardware")
_NUMBERS: Final = frozenset({HardwareFact.RAM_BYTES, HardwareFact.DISK_BYTES, HardwareFact.DISKS, HardwareFact.CPUS})
_TEXT_OPERATORS: Final = (Operator.EXISTS, Operator.EQUALS, Operator.NOT_EQUALS, Operator.LIKE)
_NUMBER_OPERATORS: Final = (Operator.EQUALS, Operator.NOT_EQUALS, Operator.AT_LEAST, Operator.AT_MOST)
_PATHS: Final = {name: Key(name, KeyType.TEXT, "a path") for name in ("file", "folder")}
_EXISTS: Final = Key("exists", KeyType.FLAG, "whether it is to be there", True)
_VARIABLE: Final = Key("variable", KeyType.TEXT, "the name of a variable")
_HARDWARE: Final = Key("hardware", KeyType.CHOICE, "what is asked", choices=tuple(HardwareFact))


def read_condition(table: Table, depth: int = 1) -> Condition | None:
    """What a table says, all of it asked for; None where it says nothing that can be."""
    subjects = [name for name in _SUBJECTS if table.has(name)]
    if len(subjects) != 1:
        table.wrong((), f"{' and '.join(subjects) or 'no condition'}: expected exactly one of {', '.join(_SUBJECTS)}")
        return None
    condition = _read(table, str(subjects[0]), depth)
    table.finish()
    return condition


def _read(table: Table, subject: str, depth: int) -> Condition | None:
    if subject in list(Several):
        return _read_several(table, Several(subject), depth)
    if subject in _PATHS:
        return PathCondition(table.text(_PATHS[subject]), subject == "folder", table.flag(_EXISTS))
    if subject == "architecture":
        return _read_architecture(table)
    return _read_hardware(table) if subject == "hardware" else _read_variable(table)


def _read_several(table: Table, rule: Several, depth: int) -> Condition | None:
    parts = table.tables(rule, f"{table.place}: {rule} ")
    if not 1 <= len(parts) <= MAX_PARTS or depth > MAX_DEPTH:
        table.wrong((rule,), f"expected 1 to {MAX_PARTS} conditions in brackets, at most {MAX_DEPTH} inside each other")
        return None
    found = tuple(read_condition(each, depth + 1) for each in parts)
    return Conditions(rule, tuple(each for each in found if each is not None))


def _read_architecture(table: Table) -> Condition:
    found = table.ask("architecture")
    names = found if isinstance(found, list) else [found]
    wrong = [each for each in names if each not in list(Architecture)]
    if wrong or not names:
        table.wrong(
            ("architecture",), f"{shown(found)}: expected {' or '.join(map(shown, Architecture))}, or a list of them"
        )
    return ArchitectureCondition(tuple(Architecture(each) for each in names if each not in wrong))


def _read_variable(table: Table) -> Condition:
    name = table.text(_VARIABLE)
    try:
        check_name(name, may_be_built_in=True)
    except SequenceError as error:
        table.wrong(("variable",), str(error))
    operator, value = _read_operator(table, tuple(Operator), is_number=False)
    return VariableCondition(name, operator, value)


def _read_hardware(table: Table) -> Condition | None:
    name = table.text(_HARDWARE)
    if name not in list(HardwareFact):
        for each in Operator:  # no second complaint about what may be right
            table.ask(each)
        return None
    fact = HardwareFact(name)
    is_number = fact in _NUMBERS
    operator, value = _read_operator(table, _NUMBER_OPERATORS if is_number else _TEXT_OPERATORS, is_number=is_number)
    if (
        fact is HardwareFact.FIRMWARE
        and operator in (Operator.EQUALS, Operator.NOT_EQUALS)
        and value not in list(Firmware)
    ):
        table.wrong((operator,), f"{shown(value)}: expected {' or '.join(map(shown, Firmware))}")
    return HardwareCondition(fact, operator, value)


def _read_operator(
    table: Table, allowed: tuple[Operator, ...], *, is_number: bool
) -> tuple[Operator, str | int | bool]:
    """The comparison and what with; without one it is whether there is something."""
    there = [each for each in Operator if table.has(each)]
    for each in Operator:
        table.ask(each)
    if not there and Operator.EXISTS in allowed:
        return Operator.EXISTS, True
    if len(there) != 1 or there[0] not in allowed:
        table.wrong((), f"{' and '.join(there) or 'no comparison'}: expected exactly one of {', '.join(allowed)}")
        return Operator.EXISTS, True
    operator = there[0]
    return operator, _read_operand(table, operator, table.content[operator], is_number=is_number)


def _read_operand(table: Table, operator: Operator, found: Any, *, is_number: bool) -> str | int | bool:
    is_whole = type(found) is int and 0 <= found < 2**63
    is_text = isinstance(found, str) and len(found) <= MAX_TEXT and found.isprintable()
    if operator is Operator.EXISTS:
        is_right, expected = isinstance(found, bool), "true or false"
    elif is_number or operator in (Operator.AT_LEAST, Operator.AT_MOST):
        found = _as_bytes(found) if is_text else found
        is_right, expected = type(found) is int and 0 <= found < 2**63, 'a whole number, or a size such as "4GiB"'
    elif operator is Operator.LIKE:
        is_right, expected = is_text, "a text in quotes"
    else:
        is_right, expected = is_text or is_whole, "a text in quotes, or a whole number"
    if is_right:
        return found  # type: ignore[no-any-return]
    table.wrong((operator,), f"{shown(found)}: expected {expected}")
    return ""


def _as_bytes(text: str) -> int | str:
    try:
        return parse_bytes(text)
    except SequenceError:
        return text


def write_condition(condition: Condition) -> dict[str, Any]:
    """The same as a table, of which `read_condition` makes it again."""
    match condition:
        case Conditions(rule, parts):
            return {rule.value: [write_condition(each) for each in parts]}
        case VariableCondition(name, operator, value):
            return {"variable": name, operator.value: value}
        case PathCondition(path, is_folder, exists):
            return {"folder" if is_folder else "file": path, "exists": exists}
        case ArchitectureCondition(architectures):
            return {"architecture": [each.value for each in architectures]}
        case HardwareCondition(fact, operator, value):
            return {"hardware": fact.value, operator.value: value}
