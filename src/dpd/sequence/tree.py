# SPDX-License-Identifier: Apache-2.0
"""A task sequence as the tables of a document, TOML's and JSON's alike, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from dpd.sequence.catalogue import CATALOGUE, Key, KeyType, defaults_of
from dpd.sequence.condition_tree import read_condition, write_condition
from dpd.sequence.records import (
    MAX_DEPTH,
    MAX_DESCRIPTION,
    MAX_NAME,
    MAX_STEPS,
    RETRY_DELAY_S,
    RUN_TIME_LIMIT_S,
    Architecture,
    Condition,
    Firmware,
    Group,
    SequenceError,
    SequenceProblem,
    Step,
    StepKind,
    TaskSequence,
    Value,
)
from dpd.sequence.reference import check_sequence_name
from dpd.sequence.tables import LineOf, Problems, Table, shown
from dpd.sequence.variables import MAX_VARIABLES, checked

MAX_TIME_S = 7 * 86400
MAX_RETRIES = 100

NAME: Final = Key("name", KeyType.TEXT, "what people call it", most_characters=MAX_NAME)
DESCRIPTION: Final = Key("description", KeyType.TEXT, "what it is for", "", most_characters=MAX_DESCRIPTION)
HEAD: Final = (
    Key("name", KeyType.TEXT, "what deployments call it"),
    DESCRIPTION,
    Key("time_limit_s", KeyType.WHOLE, "how long a run may take", RUN_TIME_LIMIT_S, low=1, high=MAX_TIME_S),
    Key("architectures", KeyType.TEXTS, "machines that it is for; without it, any", (), tuple(Architecture)),
    Key("firmware", KeyType.TEXTS, "how these are started; without it, in any way", (), tuple(Firmware)),
)
FOR_BOTH: Final = (
    NAME,
    DESCRIPTION,
    Key("enabled", KeyType.FLAG, "whether it runs at all", True),
    Key("continue_on_error", KeyType.FLAG, "whether what is behind it runs after it failed", False),
)
FOR_STEPS: Final = (
    Key("do", KeyType.CHOICE, "the kind of step", choices=tuple(StepKind)),
    Key("retries", KeyType.WHOLE, "how often it is tried again after it failed", 0, high=MAX_RETRIES),
    Key("retry_delay_s", KeyType.WHOLE, "how long to wait before each of these", RETRY_DELAY_S, high=86400),
    Key("time_limit_s", KeyType.WHOLE, "how long one try may take; 0 is as long as the run may", 0, high=MAX_TIME_S),
)
_DO: Final = FOR_STEPS[0]


def read_tree(tree: Any, line_of: LineOf) -> tuple[TaskSequence | None, tuple[SequenceProblem, ...]]:
    """The sequence that these tables are, or everything that is wrong with them in the order of their lines."""
    problems = Problems(line_of)
    top = Table(problems, (), tree, "")
    head = {key.name: top.value(key) for key in HEAD}
    try:
        check_sequence_name(str(head["name"]) or "x")
    except SequenceError as error:
        top.wrong(("name",), str(error))
    variables = _read_variables(top.table("variables"))
    members = _Steps().read(top, "", 1)
    top.finish()
    if problems.found:
        return None, tuple(sorted(problems.found, key=lambda each: each.line))
    return _sequence(head, variables, members), ()


def _sequence(
    head: Mapping[str, Value], variables: tuple[tuple[str, str], ...], members: tuple[Group | Step, ...]
) -> TaskSequence:
    limit, architectures, firmware = head["time_limit_s"], head["architectures"], head["firmware"]
    assert isinstance(limit, int)
    assert isinstance(architectures, tuple)
    assert isinstance(firmware, tuple)
    return TaskSequence(
        str(head["name"]),
        members,
        str(head["description"]),
        time_limit_s=limit,
        architectures=tuple(Architecture(str(each)) for each in architectures),
        firmware=tuple(Firmware(str(each)) for each in firmware),
        variables=variables,
    )


def _read_variables(table: Table | None) -> tuple[tuple[str, str], ...]:
    found: dict[str, tuple[str, str]] = {}
    for name in () if table is None else table.content:
        value = table.ask(name) if table is not None else None
        try:
            if not isinstance(value, str):
                raise SequenceError(f"{shown(value)}: expected a text in quotes")
            if name.lower() in found:
                raise SequenceError(f"variable {name[:60]!r} is there already in another case; expected once")
            checked(name, value)
        except SequenceError as error:
            if table is not None:
                table.wrong((name,), str(error))
        else:
            found[name.lower()] = name, value
    if table is not None and len(found) > MAX_VARIABLES:
        table.wrong((), f"{len(found)} variables, expected at most {MAX_VARIABLES}")
    return tuple(found.values())


class _Steps:
    """Reads groups and steps, and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, around: Table, place: str, depth: int) -> tuple[Group | Step, ...]:
        """The [[step]] tables of a table, none of them missing."""
        prefix = f"{place}." if place else ""
        found = around.tables("step", f"step {prefix}")
        if not around.content.get("step"):
            around.wrong((), "no step: expected [[step]] for each, or a group's [[step.step]]")
        self._count += len(found)
        if self._count > MAX_STEPS:
            around.wrong(("step",), f"more than {MAX_STEPS} steps and groups; expected several sequences")
            return ()
        return tuple(self._member(each, f"{prefix}{at}", depth) for at, each in enumerate(found, 1))

    def _member(self, table: Table, place: str, depth: int) -> Group | Step:
        if isinstance(name := table.content.get("name"), str) and name:
            table.place += f" ({name[:MAX_NAME]})"
        is_group = table.has("step") and not table.has("do")
        both = {key.name: table.value(key) for key in FOR_BOTH}
        inside = table.table("condition")
        condition = read_condition(inside) if inside is not None and inside.is_table else None
        member = self._group(table, place, depth, both, condition) if is_group else _step(table, place, both, condition)
        table.finish()
        return member

    def _group(
        self, table: Table, place: str, depth: int, both: Mapping[str, Value], condition: Condition | None
    ) -> Group:
        if depth >= MAX_DEPTH:
            table.wrong((), f"expected groups at most {MAX_DEPTH} inside each other")
            table.ask("step")
            members: tuple[Group | Step, ...] = ()
        else:
            members = self.read(table, place, depth + 1)
        return Group(
            place,
            str(both["name"]),
            members,
            str(both["description"]),
            condition,
            both["enabled"] is True,
            both["continue_on_error"] is True,
            line=table.line,
            lines=table.lines(),
        )


def _step(table: Table, place: str, both: Mapping[str, Value], condition: Condition | None) -> Step:
    if table.has("step"):
        table.ask("step")
        table.wrong(("step",), "a step with steps of its own: expected either do, or [[step.step]] for a group")
    kind = _kind(table)
    own = {key.name: table.whole(key) for key in FOR_STEPS[1:]}
    keys: dict[str, Value] = {}
    if kind is None:
        for name in table.content:  # no second complaint about what may be right
            table.ask(name)
    else:
        keys = {key.name: table.value(key) for key in CATALOGUE[kind].keys}
    return Step(
        place,
        str(both["name"]),
        kind or StepKind.RESTART,
        MappingProxyType(keys),
        str(both["description"]),
        condition,
        both["enabled"] is True,
        both["continue_on_error"] is True,
        own["retries"],
        own["retry_delay_s"],
        own["time_limit_s"],
        line=table.line,
        lines=table.lines(),
    )


def _kind(table: Table) -> StepKind | None:
    if not table.has("do"):
        table.ask("do")
        table.wrong((), f"do is missing: expected one of {', '.join(StepKind)}, or [[step.step]] for a group")
        return None
    found = table.text(_DO)
    return StepKind(found) if found in list(StepKind) else None


# ---- writing


def write_tree(sequence: TaskSequence) -> dict[str, Any]:
    """The tables of which `read_tree` makes the same sequence; what is as its default says is left out."""
    head: dict[str, Value] = {
        "name": sequence.name,
        "description": sequence.description,
        "time_limit_s": sequence.time_limit_s,
        "architectures": tuple(each.value for each in sequence.architectures),
        "firmware": tuple(each.value for each in sequence.firmware),
    }
    tree = _without_defaults(HEAD, head)
    if sequence.variables:
        tree["variables"] = dict(sequence.variables)
    tree["step"] = [_write_member(each) for each in sequence.members]
    return tree


def _write_member(member: Group | Step) -> dict[str, Any]:
    both: dict[str, Value] = {
        "name": member.name,
        "description": member.description,
        "enabled": member.is_enabled,
        "continue_on_error": member.continue_on_error,
    }
    tree = _without_defaults(FOR_BOTH, both)
    if member.condition is not None:
        tree["condition"] = write_condition(member.condition)
    if isinstance(member, Group):
        return tree | {"step": [_write_member(each) for each in member.members]}
    own: dict[str, Value] = {
        "do": member.kind.value,
        "retries": member.retries,
        "retry_delay_s": member.retry_delay_s,
        "time_limit_s": member.time_limit_s,
    }
    kind = CATALOGUE[member.kind]
    return tree | _without_defaults(FOR_STEPS, own) | _without_defaults(kind.keys, member.keys)


def _without_defaults(keys: tuple[Key, ...], values: Mapping[str, Value]) -> dict[str, Any]:
    defaults = defaults_of(keys)
    return {
        key.name: _written(key, values[key.name])
        for key in keys
        if key.is_required or values[key.name] != defaults[key.name]
    }


def _written(key: Key, value: Value) -> Any:
    if key.type is KeyType.TABLES:
        assert isinstance(value, tuple)
        return [_without_defaults(key.keys, each) for each in value if isinstance(each, Mapping)]
    return list(value) if isinstance(value, tuple) else value
