# SPDX-License-Identifier: Apache-2.0
"""The catalogue of status messages: whole, stable, and in words that people read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from dpd.distribution.jobs.job import JobState
from dpd.settings import Settings
from dpd.telemetry.status_messages import (
    CATALOGUE,
    MalformedStatusMessage,
    Severity,
    StatusMessage,
    as_dict,
    from_dict,
    sentence_of,
)

SOURCES = Path(__file__).resolve().parent.parent.parent / "src" / "dpd"
NOTERS = frozenset({"note", "keep", "tell", "_tell", "_note"})  # what an event's name is given to
NAME = re.compile(r"[a-z]+(\.[a-z_]+|_[a-z_]+)")
PREFIXES = frozenset(name.partition(".")[0] for name in CATALOGUE if "." in name)

# Calls of these names that note something else than an event.
OTHER_NOTES = {
    "service/http/file_answers.py": "steps of a download, for the journal",
    "site/model_checks.py": "names that are taken",
}
TABLES = {each.name: getattr(Settings(), each.name) for each in fields(Settings)}
SETTINGS = frozenset(  # such as "bus.token_file", which messages of errors name
    f"{name}.{key.name}" for name, table in TABLES.items() if is_dataclass(table) for key in fields(table)
)
FILE = re.compile(r".*\.(db|sock|toml|ipxe|wim|sdi|stl|efi|lock|key|img)")  # looks like an event's name and is none


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name != "status_messages.py":
            yield path.relative_to(SOURCES).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _noted(module: str, tree: ast.Module) -> Iterator[str]:
    """Names of events that are given straight to who notes them."""
    if module.startswith(("protocol/", "target/")) or module in OTHER_NOTES:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = ast.unparse(node.func)
        is_noter = called.rpartition(".")[2] in NOTERS or called.endswith("spool.put")
        if is_noter and "journal" not in called:
            yield from (text for text in _texts(node.args[0]) if " " not in text)  # others tell sentences


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield ast.unparse(node)


def _named(tree: ast.Module) -> Iterator[str]:
    """Texts that are in the form of the catalogue's dotted names, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            prefix, dot, _ = node.value.partition(".")
            if dot and prefix in PREFIXES and NAME.fullmatch(node.value) and not _is_other(node.value):
                yield node.value


def _is_other(name: str) -> bool:
    return name in SETTINGS or FILE.fullmatch(name) is not None


def test_every_event_that_is_noted_anywhere_is_in_the_catalogue() -> None:
    noted = {name: module for module, tree in _trees() for name in (*_noted(module, tree), *_named(tree))}
    made = {name: module for name, module in noted.items() if "{" in name}
    assert set(made.values()) == {"distribution/jobs/desk.py"}, (
        f"names that are put together, which nobody can look up: {made}"
    )
    assert {name: module for name, module in noted.items() if name not in CATALOGUE and name not in made} == {}
    assert len(noted) > 40, "the look through the sources finds something"


def test_every_state_of_a_job_has_its_message() -> None:
    """The desk puts these names together."""
    assert {f"job.{state}" for state in JobState} | {"job.cancelling"} <= set(CATALOGUE)


def test_every_message_of_the_catalogue_is_noted_somewhere() -> None:
    texts = {
        node.value
        for _, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {name for name in CATALOGUE if name not in texts and not name.startswith("job.")} == set()


def test_numbers_are_given_once_and_sentences_are_sentences() -> None:
    numbers = [each.message_id for each in CATALOGUE.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(1000 <= number < 10000 for number in numbers)
    for name, each in CATALOGUE.items():
        assert NAME.fullmatch(name), name
        assert each.sentence[0].isupper() or each.sentence[0] in "{d", name
        assert each.sentence.endswith((".", "]")), name


def test_a_sentence_takes_its_fields_and_leaves_out_what_is_empty() -> None:
    fields = {"peer": "192.0.2.7", "host": "pc7", "session": "1a2b", "mode": "multicast"}
    assert sentence_of("receiver_joined", fields) == "192.0.2.7 (pc7) joined session 1a2b by multicast."
    assert sentence_of("receiver_joined", fields | {"host": ""}) == "192.0.2.7 joined session 1a2b by multicast."
    assert sentence_of("receiver_joined", {"peer": "192.0.2.7"}) == "192.0.2.7 joined session ? by ?."


def test_a_value_is_no_part_of_the_template() -> None:
    fields = {"peer": "{session}", "host": "[{mode}]", "session": "1a2b", "mode": "\x1b[31municast"}
    assert sentence_of("receiver_joined", fields) == "{session} ([{mode}]) joined session 1a2b by  [31municast."


def test_an_event_of_a_newer_dpd_is_told_by_its_name_and_fields() -> None:
    assert (
        sentence_of("shelf.turned_over", {"shelf": 3, "why": "a\nb", "who": ""}) == "shelf.turned over shelf=3 why=a b"
    )


MESSAGE = StatusMessage(7, 1000.5, "job.failed", 2005, Severity.ERROR, {"job": 4, "kind": "pull", "error": "no route"})


def test_a_message_goes_through_json_and_tells_its_sentence() -> None:
    given = as_dict(MESSAGE)
    assert given["text"] == "Job 4 (pull) failed: no route."
    assert from_dict(given) == MESSAGE
    assert from_dict(given | {"colour": "red", "at": 1000}) == StatusMessage(
        7, 1000.0, "job.failed", 2005, Severity.ERROR, MESSAGE.fields
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sequence": "7"}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"at": None}, "at"),
        ({"severity": "fatal"}, "severity"),
        ({"fields": []}, "fields"),
        ({"fields": {"job": {}}}, "fields"),
    ],
)
def test_what_is_no_message_is_refused_by_the_name_of_what_is_wrong(change: dict[str, object], named: str) -> None:
    with pytest.raises(MalformedStatusMessage, match=named):
        from_dict(as_dict(MESSAGE) | change)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(MalformedStatusMessage, match="list"):
        from_dict([])


def test_a_worse_severity_has_a_higher_rank() -> None:
    assert sorted(Severity, key=lambda each: each.rank) == [Severity.INFO, Severity.WARNING, Severity.ERROR]
