# SPDX-License-Identifier: Apache-2.0
"""What a declaration makes of a site's task sequences: versions come and go, none is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dpd.sequence.records import SequenceConflict
from dpd.sequence.reference import parse_reference
from dpd.site.declaration import Declaration, Kind, key_of
from dpd.site.declaration_tables import DeclarationProblem
from dpd.site.model import SiteModel
from dpd.site.sequences import SequenceVersion, number_for, sequence_order

_Versions = Mapping[str, Sequence[SequenceVersion]]  # by name in lower case, the newest first


def merge_sequences(
    old: SiteModel, declaration: Declaration, problems: list[DeclarationProblem]
) -> Iterator[SequenceVersion]:
    """The versions that there would be; each that is new with its number. What stands against one is added to `problems`."""
    if Kind.SEQUENCE not in declaration.said:
        yield from old.sequences
        return
    there, numbers = _by_name(old), {each.name.lower(): each.last_version for each in old.sequence_numbers}
    found: dict[tuple[str, int], SequenceVersion] = {}
    stays = set[str]()
    for record in declaration.said[Kind.SEQUENCE]:
        assert isinstance(record, SequenceVersion)
        name = record.name.lower()
        if not record.version:
            stays.add(name)
        try:
            number = number_for(record.name, record.text, record.version, there.get(name, ()), numbers.get(name, 0))
        except SequenceConflict as error:
            problems.append(declaration.problem(Kind.SEQUENCE, key_of(record), ("text",), str(error)))
            number = record.version
        known = next((each for each in there.get(name, ()) if each.version == number), None)
        record = known or replace(record, version=number)
        if found.setdefault((name, number), record).text != record.text:
            message = f"{record.reference} is declared twice, by its number and as the newest; expected once"
            problems.append(declaration.problem(Kind.SEQUENCE, key_of(record), ("text",), message))
    is_added_to = Kind.SEQUENCE not in declaration.owned or _has_unread(declaration)
    for each in old.sequences:
        if is_added_to or each.name.lower() in stays:
            found.setdefault(sequence_order(each), each)
    yield from found.values()


def missing_sequences(old: SiteModel, new: SiteModel, declaration: Declaration) -> Iterator[DeclarationProblem]:
    """Deployments of what is not there: newly named, or there until now."""
    before, after = _by_name(old), _by_name(new)
    named = {each.sequence.lower() for each in old.deployments}
    for each in new.deployments:
        if not each.sequence or _has(after, each.sequence):
            continue
        if _has(before, each.sequence):
            message = f"task sequence {each.sequence} would be removed, and is still deployed by this; declare it, or another one here"
        elif each.sequence.lower() not in named:
            message = f"no task sequence {each.sequence}; expected one that this file declares, or that `dpd sequence list` shows"
        else:
            continue
        if not _has_unread(declaration):
            yield declaration.problem(Kind.DEPLOYMENT, key_of(each), ("sequence",), message)


def _has_unread(declaration: Declaration) -> bool:
    """Which sequence a table with problems would have named may not be known."""
    return any(kind is Kind.SEQUENCE for kind, _ in declaration.unread)


def _by_name(model: SiteModel) -> _Versions:
    found: dict[str, list[SequenceVersion]] = {}
    for each in sorted(model.sequences, key=sequence_order, reverse=True):
        found.setdefault(each.name.lower(), []).append(each)
    return found


def _has(versions: _Versions, reference: str) -> bool:
    name, version = parse_reference(reference)
    return any(version in (0, each.version) for each in versions.get(name.lower(), ()))
