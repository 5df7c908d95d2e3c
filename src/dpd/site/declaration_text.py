# SPDX-License-Identifier: Apache-2.0
"""A site model as the text of a declaration: one form for each model, so that two exports differ where the sites do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from dpd.site.declaration import Kind, records_of
from dpd.site.model import SiteModel
from dpd.site.records import (
    ApprovalRule,
    Audience,
    Boundary,
    Collection,
    Computer,
    Deployment,
    Point,
    Rerun,
    Variable,
)
from dpd.site.sequences import SequenceVersion

MAX_LINE = 120
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}

Pair = tuple[str, str]  # a key and its value as TOML


def write_declaration(model: SiteModel, kinds: Iterable[Kind] = tuple(Kind)) -> str:
    """What these kinds are now, as a file that speaks wholly of them. With all of them it speaks of maintenance too, but only
    where there is one: a file that is kept is not to end one that began later."""
    wanted = [kind for kind in Kind if kind in set(kinds)]
    head = [("owns", _list([text(kind) for kind in wanted]))]
    if len(wanted) == len(Kind):
        head += _text_if("maintenance", model.maintenance)
    tables = ["".join(f"{key} = {value}\n" for key, value in head)]
    tables += [
        f"[[{kind}]]\n" + "".join(f"{key} = {value}\n" for key, value in _pairs(record))
        for kind in wanted
        for record in records_of(model, kind)
    ]
    return "\n".join(tables)


def text(value: str) -> str:
    """A text as TOML, nothing in it that would move a terminal's cursor."""
    return '"' + "".join(each if each.isprintable() and each not in '"\\' else _escaped(each) for each in value) + '"'


def document_text(value: str) -> str:
    """As it was written, in lines, where TOML can have it so."""
    is_plain = all(each.isprintable() or each in "\n\t" for each in value)
    return f"'''\n{value}'''" if is_plain and "'''" not in value and not value.endswith("'") else text(value)


def _escaped(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def moment(at: float) -> str:
    """In UTC where a date says the very same, else the number."""
    try:
        date = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return repr(at)
    return date.isoformat().replace("+00:00", "Z") if date.timestamp() == at else repr(at)


def _list(values: Sequence[str]) -> str:
    """In one line where that is a short one."""
    line = f"[{', '.join(values)}]"
    return line if len(line) <= MAX_LINE else "[\n" + "".join(f"  {each},\n" for each in values) + "]"


def _texts(values: Iterable[str]) -> str:
    return _list([text(each) for each in values])


def _pairs(record: object) -> Iterator[Pair]:
    match record:
        case Computer():
            yield from _of_computer(record)
        case Collection():
            yield from _of_collection(record)
        case Deployment():
            yield from _of_deployment(record)
        case Boundary():
            yield "network", text(record.network)
            yield "points", _texts(record.points)
            yield from _text_if("description", record.description)
        case Point():
            yield "name", text(record.name)
            yield from _texts_if("groups", record.groups)
            yield from _text_if("url", record.url)
            yield from _text_if("description", record.description)
        case ApprovalRule():
            yield "kind", text(record.kind)
            yield "value", text(record.value)
        case Variable():
            yield from _of_variable(record)
        case SequenceVersion():
            yield "name", text(record.name)
            yield "version", str(record.version)
            yield "text", document_text(record.text)


def _of_computer(computer: Computer) -> Iterator[Pair]:
    yield "name", text(computer.name)
    yield from _texts_if("macs", computer.macs)
    yield from _text_if("guid", computer.guid)
    yield from _text_if("boot_image", computer.boot_image)


def _of_collection(collection: Collection) -> Iterator[Pair]:
    yield "name", text(collection.name)
    yield from _text_if("description", collection.description)
    yield from _texts_if("computers", collection.computers)
    if collection.rules:
        yield "rules", _list([f"{{ kind = {text(r.kind)}, value = {text(r.value)} }}" for r in collection.rules])
    yield from _texts_if("include", collection.include)
    yield from _texts_if("exclude", collection.exclude)


def _of_deployment(deployment: Deployment) -> Iterator[Pair]:
    yield from _text_if("name", deployment.name)
    yield "target", text(deployment.target)
    yield from _text_if("boot_image", deployment.boot_image)
    yield "purpose", text(deployment.purpose)
    if deployment.priority:
        yield "priority", str(deployment.priority)
    if deployment.available_from:
        yield "available_from", moment(deployment.available_from)
    if deployment.expires_at:
        yield "expires_at", moment(deployment.expires_at)
    if deployment.audience is not Audience.ALL:
        yield "audience", text(deployment.audience)
    if deployment.rerun is not Rerun.NEVER:
        yield "rerun", text(deployment.rerun)
    yield from _text_if("sequence", deployment.sequence)


def _of_variable(variable: Variable) -> Iterator[Pair]:
    """What is secret is not written down: without a value it keeps the one that the site has."""
    yield "target", text(variable.target)
    yield "name", text(variable.name)
    if variable.secret:
        yield "secret", "true"
    else:
        yield "value", text(variable.value)


def _text_if(key: str, value: str) -> Iterator[Pair]:
    if value:
        yield key, text(value)


def _texts_if(key: str, values: Sequence[str]) -> Iterator[Pair]:
    if values:
        yield key, _texts(values)
