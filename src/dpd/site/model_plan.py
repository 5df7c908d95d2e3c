# SPDX-License-Identifier: Apache-2.0
"""What carrying out a declaration would change of a site, thing by thing and field by field, and what stands against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dpd.site.declaration import Declaration, Kind, Record, key_of, label_of, model_of, records_of
from dpd.site.declaration_tables import MAX_PROBLEMS, DeclarationProblem
from dpd.site.model import SiteModel
from dpd.site.model_changes import OF_THE_STORE, SITE, Action, Change, compare_models, numbered
from dpd.site.model_checks import examine
from dpd.site.records import (
    ALL_COMPUTERS,
    COLLECTION_TARGET,
    UNKNOWN_COMPUTERS,
    Computer,
    Deployment,
    SiteNotFound,
    Variable,
)
from dpd.site.sequence_plan import merge_sequences, missing_sequences
from dpd.toml_lines import Path

NAMED_REFERRERS = 10

Place: TypeAlias = tuple[Kind, str]  # a thing: its kind, and what it is known by


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """The site as it would be and the way there; not to be gone while there are problems."""

    model: SiteModel
    changes: tuple[Change, ...]
    unchanged: int
    problems: tuple[DeclarationProblem, ...]


def plan_model(
    old: SiteModel,
    declaration: Declaration,
    has_image: Callable[[str], bool],
) -> ModelPlan:
    """What the declaration makes of a site. `has_image` tells whether there is a boot image; only where one is newly named it has to
    be there."""
    problems = list(declaration.problems)
    merged = _merge(old, declaration, problems)
    problems += _dangling(old, merged, declaration)
    new, others = examine(merged)
    for each in others:
        if not problems or not isinstance(each.error, SiteNotFound):
            key = key_of(records_of(merged, Kind(each.kind))[each.place])
            problems.append(declaration.problem(Kind(each.kind), key, (), each.message))
    problems += _missing_images(old, merged, declaration, has_image)
    problems += missing_sequences(old, merged, declaration)
    changes = compare_models(old, new)
    touched = sum(each.kind != SITE and each.action is not Action.REMOVED for each in changes)
    unchanged = sum(len(records_of(new, kind)) for kind in Kind) - touched
    ordered = sorted(problems, key=lambda each: (each.line == 0, each.line))
    return ModelPlan(new, changes, unchanged, tuple(ordered[:MAX_PROBLEMS]))


# ---- the site as it would be


def _merge(old: SiteModel, declaration: Declaration, problems: list[DeclarationProblem]) -> SiteModel:
    merged: dict[Kind, list[Record]] = {
        kind: _merge_kind(kind, records_of(old, kind), declaration) for kind in Kind if kind is not Kind.SEQUENCE
    }
    merged[Kind.SEQUENCE] = [*merge_sequences(old, declaration, problems)]
    merged[Kind.VARIABLE] = list(_with_targets(merged, declaration))
    return replace(
        model_of(merged),
        maintenance=old.maintenance if declaration.maintenance is None else declaration.maintenance,
        affinity_mode=old.affinity_mode,  # of the settings
        sequence_numbers=old.sequence_numbers,
    )


def _merge_kind(kind: Kind, old: Sequence[Record], declaration: Declaration) -> list[Record]:
    """What is known keeps its number and its moment. What a table with problems names does not go."""
    if kind not in declaration.said:
        return list(old)
    known = dict(numbered(old))
    found = []
    for key, record in numbered(declaration.said[kind]):
        before = known.pop(key, None)
        found.append(record if before is None else _in_place_of(before, record))
    stays = [
        record
        for (key, _), record in known.items()
        if kind not in declaration.owned or (kind, key) in declaration.unread
    ]
    # A MAC that two have is told of the later one, a circle of the earlier one: each time it is to be the file's.
    return [*found, *stays] if kind is Kind.COLLECTION else [*stays, *found]


def _with_targets(merged: Mapping[Kind, Sequence[Record]], declaration: Declaration) -> Iterator[Record]:
    """The variables without those that the file does not speak of and whose target goes: they go with it."""
    there = {(kind, key_of(each)) for kind in (Kind.COMPUTER, Kind.COLLECTION) for each in merged[kind]}
    for each in merged[Kind.VARIABLE]:
        place = _target_place(each.target) if isinstance(each, Variable) else None
        is_said = (Kind.VARIABLE, key_of(each)) in declaration.paths
        if is_said or place is None or place in there | declaration.unread:
            yield each


def _target_place(target: str) -> Place | None:
    """The thing that a target names; None where it is a word for many."""
    key = target.lower()
    if key in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
        return None
    is_collection = key.startswith(COLLECTION_TARGET)
    return (Kind.COLLECTION, key[len(COLLECTION_TARGET) :]) if is_collection else (Kind.COMPUTER, key)


def _in_place_of(before: Record, record: Record) -> Record:
    if isinstance(record, Variable) and isinstance(before, Variable) and record.secret and not record.value:
        return replace(record, value=before.value)
    kept: dict[str, Any] = {each: getattr(before, each) for each in OF_THE_STORE if hasattr(before, each)}
    return replace(record, **kept)


# ---- what stands against it


@dataclass(frozen=True, slots=True)
class _Reference:
    """Where one thing speaks of another."""

    record: Record
    place: Place
    inside: Path
    kind: Kind
    name: str


def _references(model: SiteModel) -> Iterator[_Reference]:
    for collection in model.collections:
        place = Kind.COLLECTION, key_of(collection)
        for field, kind in (("computers", Kind.COMPUTER), ("include", Kind.COLLECTION), ("exclude", Kind.COLLECTION)):
            for at, name in enumerate(getattr(collection, field)):
                yield _Reference(collection, place, (field, at), kind, name)
    for deployment in model.deployments:
        yield from _target_reference(deployment, (Kind.DEPLOYMENT, key_of(deployment)), deployment.target)
    for variable in model.variables:
        yield from _target_reference(variable, (Kind.VARIABLE, key_of(variable)), variable.target)
    for boundary in model.boundaries:
        for at, name in enumerate(boundary.points):
            yield _Reference(boundary, (Kind.BOUNDARY, boundary.network), ("points", at), Kind.POINT, name)


def _target_reference(record: Record, place: Place, target: str) -> Iterator[_Reference]:
    if (named := _target_place(target)) is not None:
        name = target[len(COLLECTION_TARGET) :] if named[0] is Kind.COLLECTION else target
        yield _Reference(record, place, ("target",), named[0], name)


def _dangling(old: SiteModel, new: SiteModel, declaration: Declaration) -> Iterator[DeclarationProblem]:
    """References to what is not there, or would be no more; the latter by what would go."""
    there = {(kind, key_of(each)) for kind in Kind for each in records_of(new, kind)} | declaration.unread
    before = {(kind, key_of(each)): each for kind in Kind for each in records_of(old, kind)}
    goes: dict[Place, list[_Reference]] = {}
    for each in _references(new):
        referred = each.kind, each.name.lower()
        if referred in there:
            continue
        if referred in before:
            goes.setdefault(referred, []).append(each)
        else:
            message = f"no {each.kind} {each.name}; expected one that this file declares, or that is there already"
            yield declaration.problem(*each.place, each.inside, message)
    for (kind, key), references in goes.items():
        names = list(dict.fromkeys(f"{each.place[0]} {label_of(each.record)}" for each in references))
        shown = ", ".join(names[:NAMED_REFERRERS]) + (f" and {len(names) - NAMED_REFERRERS} more" * (len(names) > NAMED_REFERRERS))  # fmt: skip
        message = f"{kind} {label_of(before[kind, key])} would be removed, and is still spoken of by {shown}; declare it, or take it out there too"
        first = next((each for each in references if each.place in declaration.paths), references[0])
        yield declaration.problem(*first.place, first.inside, message)


def _missing_images(
    old: SiteModel, new: SiteModel, declaration: Declaration, has_image: Callable[[str], bool]
) -> Iterator[DeclarationProblem]:
    for kind in (Kind.COMPUTER, Kind.DEPLOYMENT):
        before = {key: _image(record) for (key, _), record in numbered(records_of(old, kind))}
        for record in records_of(new, kind):
            key, image = key_of(record), _image(record)
            if before.get(key, "") != image and not has_image(image):
                message = f"no boot image {image}; `dpd boot-image list` shows those there are"
                yield declaration.problem(kind, key, ("boot_image",), message)


def _image(record: Record) -> str:
    return record.boot_image.strip() if isinstance(record, Computer | Deployment) else ""
