# SPDX-License-Identifier: Apache-2.0
"""A declaration: what a site is to be, as a TOML text that people keep under version control.

Each [[computer]], [[collection]], [[deployment]], [[boundary]], [[point]], [[rule]], [[variable]] and [[sequence]] is one thing. A file
speaks wholly of the kinds that it has tables of or names in `owns`: what is of those kinds and not in the file, goes. Of a kind in
`adds_to` nothing goes. What the file does not speak of stays. A deployment is known again by its name; one without a name by all that
it says. A task sequence without a version is the newest of its name, and all its versions stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from dpd.site.declaration_records import (
    read_boundary,
    read_collection,
    read_computer,
    read_deployment,
    read_point,
    read_rule,
    read_sequence,
    read_variable,
)
from dpd.site.declaration_tables import DeclarationProblem, Problems, Table, shown
from dpd.site.model import SiteModel
from dpd.site.records import (
    ApprovalRule,
    Boundary,
    Collection,
    Computer,
    Deployment,
    Point,
    SiteError,
    Variable,
)
from dpd.site.sequences import SequenceVersion
from dpd.toml_lines import NotToml, Path, TomlLines, read_toml

MAX_BYTES = 8 << 20
MAX_REASON_CHARACTERS = 200

Record: TypeAlias = Computer | Collection | Deployment | Boundary | Point | ApprovalRule | Variable | SequenceVersion


class Kind(StrEnum):
    """What a site is made of, by the names of the tables."""

    COMPUTER = "computer"
    COLLECTION = "collection"
    DEPLOYMENT = "deployment"
    BOUNDARY = "boundary"
    POINT = "point"
    RULE = "rule"
    VARIABLE = "variable"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file says. With problems it is not to be carried out; what is known of it is still good for finding more of them:
    `unread` are things that the file names in tables with problems. `maintenance` None: not spoken of."""

    said: Mapping[Kind, tuple[Record, ...]]
    owned: frozenset[Kind]
    maintenance: str | None
    problems: tuple[DeclarationProblem, ...]
    unread: frozenset[tuple[Kind, str]]
    paths: Mapping[tuple[Kind, str], Path]
    lines: TomlLines

    def problem(self, kind: Kind, key: str, inside: Path, message: str) -> DeclarationProblem:
        """Something that came to light about this thing; line 0 where the file does not name it."""
        newest = key.partition("@")[0] + "@0" if kind is Kind.SEQUENCE else key
        path = self.paths.get((kind, key), self.paths.get((kind, newest)))
        name = ".".join((kind.value, *(part for part in inside if isinstance(part, str))))
        return DeclarationProblem(0 if path is None else self.lines.line(path + inside), name, message)


def key_of(record: Record) -> str:
    """What a thing is known by among those of its kind, in one case."""
    match record:
        case Boundary(network):
            return network
        case ApprovalRule():
            return f"{record.kind} {record.value}"
        case Variable():
            return f"{record.target} {record.name}".lower()
        case SequenceVersion():
            return f"{record.name}@{record.version}".lower()
        case Deployment(name=""):
            return f"\n{_content_of(record)}"  # no name has a line end
    return record.name.lower()


def _content_of(deployment: Deployment) -> tuple[object, ...]:
    said = (
        deployment.boot_image,
        deployment.purpose,
        deployment.priority,
        deployment.audience,
        deployment.rerun,
        deployment.sequence,
    )
    return deployment.target.lower(), *said, deployment.available_from, deployment.expires_at


def label_of(record: Record) -> str:
    """What people call it."""
    match record:
        case Deployment(name=""):
            return f"{record.purpose} {record.boot_image or 'default boot image'} for {record.target}"
        case Boundary() | ApprovalRule():
            return key_of(record)
        case Variable():
            return f"{record.name} for {record.target}"
        case SequenceVersion():
            return record.reference
    return record.name


def model_of(parts: Mapping[Kind, Sequence[Record]]) -> SiteModel:
    """A model of these parts; the others are empty."""
    found: dict[str, Any] = {_PARTS[kind]: tuple(records) for kind, records in parts.items()}
    return SiteModel(**found)


def records_of(model: SiteModel, kind: Kind) -> tuple[Record, ...]:
    """The part of a model."""
    part: tuple[Record, ...] = getattr(model, _PARTS[kind])
    return part


# ---- reading


def read_declaration(text: str) -> Declaration:
    """A text's declaration, and everything that is wrong with it, in the order of its lines. Raises nothing."""
    try:
        return _read(*read_toml(text))
    except NotToml as error:
        return _unreadable(error.line, str(error))


def _unreadable(line: int, message: str) -> Declaration:
    problem = DeclarationProblem(line, "", message)
    return Declaration({}, frozenset(), None, (problem,), frozenset(), {}, TomlLines(""))


def _read(document: dict[str, Any], lines: TomlLines) -> Declaration:
    problems = Problems(lines)
    top = Table(problems, (), document)
    owns, adds_to = _kinds(top, "owns"), _kinds(top, "adds_to")
    for kind in owns & adds_to:
        top.wrong(("adds_to",), f'"{kind}" is in owns too; expected in one of them')
    reason = top.text("maintenance", _reason)
    maintenance = reason if top.has("maintenance") else None
    said: dict[Kind, tuple[Record, ...]] = {}
    unread: set[tuple[Kind, str]] = set()
    paths: dict[tuple[Kind, str], Path] = {}
    for kind in Kind:
        tables = top.tables(kind)
        if isinstance(document.get(kind), list) or kind in owns:
            said[kind] = tuple(_read_records(kind, tables, paths, unread, lines))
    top.finish()
    found = tuple(sorted(problems.found, key=lambda each: each.line))
    return Declaration(said, frozenset(said) - adds_to, maintenance, found, frozenset(unread), paths, lines)


def _kinds(top: Table, key: str) -> frozenset[Kind]:
    def check(text: str) -> str:
        if text not in list(Kind):
            raise SiteError(f"{shown(text)}: expected one of {', '.join(Kind)}")
        return text

    return frozenset(Kind(each) for each in top.texts(key, check) if each)


def _read_records(
    kind: Kind,
    tables: list[Table],
    paths: dict[tuple[Kind, str], Path],
    unread: set[tuple[Kind, str]],
    lines: TomlLines,
) -> list[Record]:
    found: list[Record] = []
    for table in tables:
        record = _READERS[kind](table)
        table.finish()
        key = key_of(record)
        if (kind, key) in paths and key and not key.startswith("\n"):
            first = lines.line(paths[kind, key])
            table.wrong((), f"{label_of(record)} is there already, in line {first}; expected once")
        if table.is_sound:
            found.append(record)
        else:
            unread.add((kind, key))
        paths.setdefault((kind, key), table.path)
    return found


def _reason(text: str) -> str:
    if len(text) > MAX_REASON_CHARACTERS:
        raise SiteError(f"{shown(text)}: expected at most {MAX_REASON_CHARACTERS} characters")
    return text


_PARTS = {
    Kind.COMPUTER: "computers",
    Kind.COLLECTION: "collections",
    Kind.DEPLOYMENT: "deployments",
    Kind.BOUNDARY: "boundaries",
    Kind.POINT: "points",
    Kind.RULE: "rules",
    Kind.VARIABLE: "variables",
    Kind.SEQUENCE: "sequences",
}
_READERS: dict[Kind, Callable[[Table], Record]] = {
    Kind.COMPUTER: read_computer,
    Kind.COLLECTION: read_collection,
    Kind.DEPLOYMENT: read_deployment,
    Kind.BOUNDARY: read_boundary,
    Kind.POINT: read_point,
    Kind.RULE: read_rule,
    Kind.VARIABLE: read_variable,
    Kind.SEQUENCE: read_sequence,
}
