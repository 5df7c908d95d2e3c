# SPDX-License-Identifier: Apache-2.0
"""The verbs of task sequences over a real store and library."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.content.wim_builder import make_wim

from dpd.content.library import Library
from dpd.control.operations.sequence import SequenceOperations
from dpd.deployment.signed_sequences import SignedSequences
from dpd.sequence.document import SequenceRefused
from dpd.sequence.records import SequenceConflict, SequenceError, SequenceNotFound
from dpd.sequence.signed import read_signed
from dpd.site.records import Deployment, Purpose, SiteConflict
from dpd.site.store import SiteStore
from dpd.telemetry.events import EventLog

TEXT = """\
name = "debian"
description = "Debian on one disk"
architectures = ["x64"]
[[step]]
name = "Prepare"
continue_on_error = true
[[step.step]]
name = "Say %_DPDMachine%"
do = "run_command_line"
command = "echo %OSDDomain%"
condition = { variable = "OSDDomain" }
[[step]]
name = "Restart"
do = "restart"
enabled = false
"""
CONTENT = TEXT + '[[step]]\nname = "Fetch"\ndo = "download_content"\npackage = "LAB00001"\n'


class Place:
    """Operations over everything that they ask."""

    def __init__(self, library: Library, store: SiteStore) -> None:
        self.library, self.store = library, store
        self.events = EventLog()
        signed = SignedSequences(store.sequences.find, library.public_key(), library.sign)
        self.operations = SequenceOperations(store, self.events, asyncio.to_thread, signed, library)

    def deploy(self, sequence: str) -> int:
        return self.store.add_deployment(Deployment(0, "all", "", Purpose.REQUIRED, sequence=sequence), "anna").id

    async def told(self) -> list[tuple[str, Any, Any]]:
        events = await self.events.wait(0, 0.0)
        return [(each.event, each.fields["version"], each.fields["actor"]) for each in events]


@pytest.fixture
def place(library: Library, tmp_path: Path) -> Iterator[Place]:
    with closing(SiteStore(tmp_path / "site.db")) as store:
        yield Place(library, store)


async def test_a_document_is_published_once_and_told(place: Place) -> None:
    published = await place.operations.publish(TEXT, 0, "anna")
    assert (published.is_new, published.version.version, published.version.steps) == (True, 1, 2)
    assert not (await place.operations.publish(TEXT, 0, "ben")).is_new
    assert await place.told() == [("sequence.published", 1, "anna")]
    assert await place.operations.newest() == [published.version]


async def test_a_version_is_shown_with_what_it_is_made_of_and_who_deploys_it(place: Place) -> None:
    await place.operations.publish(TEXT, 0, "anna")
    await place.operations.publish(TEXT.replace("one disk", "any disk"), 0, "anna")
    wanted = [place.deploy("Debian@1"), place.deploy("debian")]
    place.deploy("other")
    place.deploy("")
    details = await place.operations.show("debian", 1)
    assert (details.version.version, [each.version for each in details.versions]) == (1, [2, 1])
    assert (details.deployments, details.problems) == (wanted, [])
    outline = details.outline
    assert outline is not None
    assert (outline.description, outline.architectures, outline.firmware) == ("Debian on one disk", ["x64"], [])
    assert outline.variables == ["OSDDomain"]
    assert [(each.id, each.do, each.is_enabled) for each in outline.members] == [
        ("1", "", True),
        ("1.1", "run_command_line", True),
        ("2", "restart", False),
    ]
    assert outline.members[0].continue_on_error
    assert outline.members[1].is_conditional


async def test_a_check_tells_what_publishing_would_and_keeps_nothing(place: Place, tmp_path: Path) -> None:
    checked = await place.operations.check(CONTENT)
    assert checked.outline is not None
    assert checked.outline.packages == ["LAB00001"]
    assert [(each.line, each.place) for each in checked.problems] == [(19, "step 3 (Fetch): package")]
    assert (await place.operations.check("name: x")).outline is None
    with pytest.raises(SequenceRefused, match="no package LAB00001 here"):
        await place.operations.publish(CONTENT, 0, "anna")
    assert await place.operations.newest() == []
    raw = tmp_path / "lab.img"
    raw.write_bytes(b"image" * 1000)
    place.library.publish(raw, "LAB00001")
    assert (await place.operations.check(CONTENT)).problems == []
    apply = CONTENT.replace("download_content", "apply_os_image") + 'volume = "/dev/sda1"\n'
    told = [each.message for each in (await place.operations.check(apply)).problems]
    assert "LAB00001 is no WIM in one file; publish the image as one" in told
    wim = tmp_path / "one.wim"
    wim.write_bytes(make_wim())
    place.library.publish(wim, "LAB00001")
    told = [each.message for each in (await place.operations.check(apply + "index = 2\n")).problems]
    assert any(each.startswith("2, and LAB00001 has 1 image;") for each in told)
    wrong = await place.operations.check(CONTENT + "version = 3\n")
    assert "no package LAB00001 of version 3 here" in wrong.problems[0].message


async def test_what_is_taken_out_is_told_and_what_is_deployed_stays(place: Place) -> None:
    for number in range(3):
        await place.operations.publish(TEXT + f"# {number}\n", 0, "anna")
    place.deploy("debian@2")
    with pytest.raises(SequenceConflict, match="debian@2 is deployed by deployment 1"):
        await place.operations.remove("debian", 0, "ben")
    await place.operations.remove("debian", 1, "ben")
    place.store.remove_deployment(1, "ben")
    assert [each.version for each in await place.operations.remove("debian", 0, "ben")] == [3, 2]
    assert (await place.told())[3:] == [
        ("sequence.removed", 1, "ben"),
        ("sequence.removed", 3, "ben"),
        ("sequence.removed", 2, "ben"),
    ]
    with pytest.raises(SequenceNotFound):
        await place.operations.show("debian")


async def test_a_point_says_what_a_version_of_its_site_lacks_here(place: Place, tmp_path: Path) -> None:
    """A site server has no library, and may be of another release."""
    site = SiteStore(tmp_path / "other.db")
    at_site = SequenceOperations(site, EventLog(), asyncio.to_thread)
    assert (await at_site.publish(CONTENT, 0, "anna")).is_new
    assert (await at_site.find("debian")).document == ""
    assert (await at_site.show("debian")).problems == []
    model, new = site.model(), CONTENT.replace("download_content", "of_a_newer_dpd")
    newer = replace(model.sequences[0], name="newer", text=new)
    place.store.mirror("lab", 1, replace(model, sequences=(*model.sequences, newer)), 5.0)
    shown = await place.operations.show("debian")
    assert [each.place for each in shown.problems] == ["step 3 (Fetch): package"]
    assert read_signed((await place.operations.find("debian")).document, place.library.public_key())[0].name == "debian"
    unread = await place.operations.show("newer")
    assert (unread.outline, [each.line for each in unread.problems]) == (None, [18])
    with pytest.raises(SequenceError, match=r"newer@1: line 18: .*; is this dpd older"):
        await place.operations.find("newer")
    with pytest.raises(SiteConflict, match="comes from site lab"):
        await place.operations.publish(TEXT, 0, "ben")
    site.close()
