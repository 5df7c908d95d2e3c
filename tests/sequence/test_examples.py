# SPDX-License-Identifier: Apache-2.0
"""The task sequences that dpd ships, and those in its manual, are ones that publish."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from pathlib import Path

import pytest
from tests.content.wim_builder import make_wim

from dpd.content.library import Library
from dpd.control.operations.sequence import SequenceOperations
from dpd.sequence.catalogue import CATALOGUE, Key
from dpd.sequence.document import read_document, tell
from dpd.sequence.records import HardwareFact, Operator, StepKind
from dpd.sequence.tree import FOR_BOTH, FOR_STEPS, HEAD
from dpd.sequence.variables import BUILT_IN
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted((ROOT / "config" / "sequences").glob("*.toml"))
MANUAL = (ROOT / "docs" / "task-sequences.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_an_example_is_published_where_its_packages_are(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    sequence = read_document(text).sequence
    assert sequence is not None, [*map(tell, read_document(text).problems)]
    assert sequence.name == path.stem
    (tmp_path / "image.wim").write_bytes(make_wim())
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        for package in sequence.packages():
            library.publish(tmp_path / "image.wim", package)
        with closing(SiteStore(tmp_path / "site.db")) as store:
            operations = SequenceOperations(store, EventLog(), asyncio.to_thread, None, library)
            assert (await operations.publish(text, 0, "anna")).version.name == path.stem


def test_there_are_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["capture", "cloud-init", "debian", "windows"]


@pytest.mark.parametrize("text", re.findall(r"^```toml\n(.*?)^```", MANUAL, re.DOTALL | re.MULTILINE))
def test_what_the_manual_shows_is_read(text: str) -> None:
    """Whole sequences as they are, steps with a head before them."""
    document = read_document(
        text if re.search("^name = ", text.split("[[")[0], re.MULTILINE) else f'name = "x"\n{text}'
    )
    assert [*map(tell, document.problems)] == []


def test_the_manual_has_every_step_with_every_key_and_its_words() -> None:
    for kind in StepKind:
        assert f"### {kind}\n\n{CATALOGUE[kind].words}" in MANUAL
        section = MANUAL.split(f"### {kind}\n")[1].split("\n### ")[0].split("\n## ")[0]
        listed = re.findall(r"^\| `([a-z_.]+)`", section, re.MULTILINE)
        assert listed == [name for key in CATALOGUE[kind].keys for name in names_of(key)]
        for key in CATALOGUE[kind].keys:
            assert row_of(key) in section


def names_of(key: Key) -> list[str]:
    return [key.name, *(f"{key.name}.{each.name}" for each in key.keys)]


def row_of(key: Key) -> str:
    """As the manual's tables have it: the name, what it is, the default."""
    words = [f'"{each}"' for each in key.choices if each]
    what = f"{key.type}: {', '.join(words)}" if words else key.type.value
    return f"| `{key.name}` | {what} | {written_default(key)} | {key.words} |"


def written_default(key: Key) -> str:
    match key.default:
        case None:
            return "must be there"
        case bool():
            return str(key.default).lower()
        case "" | ():
            return ""
        case tuple():
            return ", ".join(map(str, key.default))
        case str():
            return f'"{key.default}"'
    return str(key.default)


def test_the_manual_has_what_every_step_group_and_head_may_say() -> None:
    for key in (*HEAD, *FOR_BOTH, *FOR_STEPS):
        assert row_of(key) in MANUAL, row_of(key)


@pytest.mark.parametrize("word", [*BUILT_IN, *HardwareFact, *Operator])
def test_the_manual_names_each_built_in_variable_fact_and_comparison(word: str) -> None:
    assert f"`{word}`" in MANUAL
