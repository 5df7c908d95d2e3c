# SPDX-License-Identifier: Apache-2.0
"""The way from one model of a site to another: what comes, what goes, and what is another than before, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias

from dpd.sequence.variables import HIDDEN
from dpd.site.declaration import Kind, Record, key_of, label_of, records_of
from dpd.site.model import SiteModel
from dpd.site.records import MembershipRule, Variable
from dpd.site.sequences import SequenceVersion, sequence_order

SITE = "site"  # the kind of what there is one of
OF_THE_STORE = ("id", "added_at")
_KEYS = {Kind.BOUNDARY: ("network",), Kind.RULE: ("kind", "value"), Kind.VARIABLE: ("target", "name")}
_UNORDERED = ("computers", "rules", "include", "exclude", "groups")

Value: TypeAlias = str | int | float | tuple[str, ...] | None


class Action(StrEnum):
    """What becomes of a thing."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field's values; None where the thing is not there before or after."""

    field: str
    old: Value
    new: Value


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that becomes another. `kind` is a kind's name, or "site" for what there is one of."""

    kind: str
    name: str
    action: Action
    fields: tuple[FieldChange, ...]


def compare_models(old: SiteModel, new: SiteModel) -> tuple[Change, ...]:
    """What is another thing in the new one, by kind and name. Where an order says nothing, another one is no change."""
    return (*_site_changes(old, new), *(each for kind in Kind for each in _kind_changes(kind, old, new)))


def _site_changes(old: SiteModel, new: SiteModel) -> Iterator[Change]:
    if old.maintenance != new.maintenance:
        field = "maintenance"
        yield Change(SITE, field, Action.CHANGED, (FieldChange(field, old.maintenance, new.maintenance),))


def _kind_changes(kind: Kind, old: SiteModel, new: SiteModel) -> Iterator[Change]:
    if kind is Kind.SEQUENCE:
        yield from _sequence_changes(old, new)
        return
    before = dict(numbered(records_of(old, kind)))
    for key, record in numbered(records_of(new, kind)):
        known = before.pop(key, None)
        if known is None:
            yield Change(kind, label_of(record), Action.ADDED, tuple(_said(kind, record)))
        elif differences := tuple(_differences(known, record)):
            yield Change(kind, label_of(known), Action.CHANGED, differences)
    for record in before.values():
        gone = (FieldChange(each.field, each.new, None) for each in _said(kind, record))
        yield Change(kind, label_of(record), Action.REMOVED, tuple(gone))


def _said(kind: Kind, record: Record) -> Iterator[FieldChange]:
    """What a thing says beyond its name and what goes without saying."""
    for each in fields(record):
        value = _shown(record, each.name)
        if value and value != each.default and each.name not in (*OF_THE_STORE, *_KEYS.get(kind, ("name",))):
            yield FieldChange(each.name, None, value)


def _differences(old: Record, new: Record) -> Iterator[FieldChange]:
    for each in fields(old):
        before, after = _value(getattr(old, each.name)), _value(getattr(new, each.name))
        if each.name in OF_THE_STORE or before == after:
            continue
        if each.name in _UNORDERED and set(getattr(old, each.name)) == set(getattr(new, each.name)):
            continue
        yield FieldChange(each.name, _shown(old, each.name), _shown(new, each.name))


def _shown(record: Record, field: str) -> Value:
    """A field's value as people may see it."""
    is_hidden = isinstance(record, Variable) and record.secret and field == "value"
    return HIDDEN if is_hidden else _value(getattr(record, field))


def _value(value: Any) -> Value:
    if isinstance(value, tuple):
        return tuple(f"{each.kind} {each.value}" if isinstance(each, MembershipRule) else each for each in value)
    return str(value) if isinstance(value, StrEnum) else value


def _sequence_changes(old: SiteModel, new: SiteModel) -> Iterator[Change]:
    """By name, the oldest version first. Of a text it is told how much of it is another than the version before has."""
    there, before = set(old.sequences), {sequence_order(each): each for each in old.sequences}
    for place, each in enumerate(new.sequences):
        if each in there:
            del before[sequence_order(each)]
            continue
        known = before.pop(sequence_order(each), None)
        previous = new.sequences[place - 1] if place else None
        if previous is not None and previous.name.lower() != each.name.lower():
            previous = None
        fields = (
            FieldChange("steps", None if known is None else known.steps, each.steps),
            FieldChange("text", None, _lines(previous, each)),
        )
        yield Change(Kind.SEQUENCE, each.reference, Action.ADDED if known is None else Action.CHANGED, fields)
    for each in before.values():
        yield Change(Kind.SEQUENCE, each.reference, Action.REMOVED, (FieldChange("steps", each.steps, None),))


def _lines(old: SequenceVersion | None, new: SequenceVersion) -> str:
    lines = Counter(new.text.splitlines())
    if old is None:
        return f"{lines.total()} lines"
    before = Counter(old.text.splitlines())
    return f"{(lines - before).total()} lines come and {(before - lines).total()} go since {old.reference}"


def numbered(records: Sequence[Record]) -> Iterator[tuple[tuple[str, int], Record]]:
    """Each by what it is known by, and the how manieth of these it is: deployments without a name may be alike."""
    seen: Counter[str] = Counter()
    for record in records:
        key = key_of(record)
        yield (key, seen[key]), record
        seen[key] += 1
