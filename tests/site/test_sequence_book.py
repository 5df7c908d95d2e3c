# SPDX-License-Identifier: Apache-2.0
"""Published versions in a site store on a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dpd.sequence.document import SequenceRefused
from dpd.sequence.records import SequenceConflict, SequenceNotFound
from dpd.site.records import Deployment, Purpose, SiteConflict
from dpd.site.sequence_book import SequenceBook
from dpd.site.sequences import SequenceVersion
from dpd.site.store import SiteStore


def text(name: str = "debian", command: str = "true") -> str:
    return f"""\
# what people wrote about it stays
name = "{name}"
description = "of {command}"
[[step]]
name = "Command"
do = "run_command_line"
command = "{command}"
"""


def nothing(package: str, version: int) -> None:
    return None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SiteStore]:
    with closing(SiteStore(tmp_path / "site.db", clock=lambda: 1000.0)) as store:
        yield store


@pytest.fixture
def book(store: SiteStore) -> SequenceBook:
    return store.sequences


def test_a_version_is_found_as_it_was_written(store: SiteStore, book: SequenceBook) -> None:
    before = store.policy_version
    wanted = SequenceVersion("debian", 1, "of true", 1, 1000.0, "anna", text())
    assert book.publish(text(), "anna", nothing) == (wanted, True)
    assert (book.find("Debian"), store.policy_version) == (wanted, before + 1)
    assert [(each.actor, each.action, each.detail) for each in store.audit(1)] == [
        ("anna", "sequence published", "debian@1")
    ]


def test_another_text_is_another_version_and_the_old_one_stays(store: SiteStore, book: SequenceBook) -> None:
    book.publish(text(), "anna", nothing)
    assert book.publish(text(command="false"), "ben", nothing)[0].version == 2
    assert [each.version for each in book.versions("debian")] == [2, 1]
    book.publish(text("arch"), "anna", nothing)
    assert [(each.name, each.version) for each in book.newest()] == [("arch", 1), ("debian", 2)]
    version = store.policy_version
    assert book.publish(text(command="false"), "ben", nothing) == (book.find("debian"), False)
    assert book.publish(text(), "ben", nothing, version=1)[1] is False
    assert store.policy_version == version


def test_a_number_is_given_once_also_after_it_was_removed_and_after_a_restart(
    store: SiteStore, book: SequenceBook, tmp_path: Path
) -> None:
    for command in ("a", "b"):
        book.publish(text(command=command), "anna", nothing)
    assert book.publish(text(command="c"), "anna", nothing, version=5)[0].version == 5
    with pytest.raises(SequenceConflict, match="publish as version 6"):
        book.publish(text(command="d"), "anna", nothing, version=4)
    assert [each.version for each in store.remove_sequence("DEBIAN", 5, "ben")] == [5]
    assert book.find("debian").version == 2
    assert [each.version for each in store.remove_sequence("debian", 0, "ben")] == [2, 1]
    assert store.audit(1)[0].detail == "debian@2, debian@1"
    store.close()
    with closing(SiteStore(tmp_path / "site.db")) as again:
        assert again.sequences.publish(text(), "anna", nothing)[0].version == 6


def test_what_is_not_there_is_told(store: SiteStore, book: SequenceBook) -> None:
    book.publish(text(), "anna", nothing)
    assert [book.has(each) for each in ("DEBIAN", "debian@1", "debian@2", "other")] == [True, True, False, False]
    with pytest.raises(SequenceNotFound, match="no task sequence debian@2; `dpd sequence list`"):
        book.find("debian", 2)
    with pytest.raises(SequenceNotFound, match="no task sequence other"):
        book.versions("other")
    for name, version in (("other", 0), ("debian", 2)):
        with pytest.raises(SequenceNotFound):
            store.remove_sequence(name, version, "ben")


def test_what_is_wrong_is_refused_and_nothing_kept(book: SequenceBook) -> None:
    with pytest.raises(SequenceRefused, match=r"line 6: step 1 .Command.: do: "):
        book.publish(text().replace("run_command_line", "run"), "anna", nothing)
    image = '[[step]]\nname = "D"\ndo = "download_content"\npackage = "LAB00001"\n'
    with pytest.raises(SequenceRefused, match="no package LAB00001 here"):
        book.publish(text() + image, "anna", nothing)
    assert book.all() == ()
    book.publish(text() + image, "anna", None)


def test_what_is_deployed_stays(store: SiteStore, book: SequenceBook) -> None:
    for number in range(3):
        book.publish(text(command=str(number)), "anna", nothing)
    second = store.add_deployment(Deployment(0, "all", "", Purpose.REQUIRED, sequence="Debian@2"), "anna").id
    for version in (2, 0):
        with pytest.raises(SequenceConflict, match=f"Debian@2 is deployed by deployment {second}"):
            store.remove_sequence("debian", version, "ben")
    store.remove_sequence("debian", 1, "ben")
    store.remove_deployment(second, "anna")
    newest = store.add_deployment(Deployment(0, "all", "", Purpose.REQUIRED, sequence="debian"), "anna").id
    store.remove_sequence("debian", 3, "ben")
    with pytest.raises(SequenceConflict, match=f"debian is deployed by deployment {newest}"):
        store.remove_sequence("debian", 2, "ben")


def test_a_point_takes_its_site_s_sequences_whole_and_publishes_none_until_it_is_released(
    store: SiteStore, book: SequenceBook, tmp_path: Path
) -> None:
    site = SiteStore(tmp_path / "other.db", clock=lambda: 5.0)
    for command in ("a", "b", "c"):
        site.sequences.publish(text(command=command), "anna", None)
    site.remove_sequence("debian", 3, "anna")
    book.publish(text(command="its own"), "ben", nothing)
    book.publish(text("own"), "ben", nothing)
    assert store.mirror("lab", 7, site.model(), 9.0)
    assert book.all() == site.sequences.all()
    for change in (
        lambda: book.publish(text("x"), "ben", nothing),
        lambda: book.publish(text(command="b"), "ben", nothing),
        lambda: store.remove_sequence("debian", 1, "ben"),
    ):
        with pytest.raises(SiteConflict, match="policy of this point comes from site lab"):
            change()
    site.remove_sequence("debian", 1, "anna")
    store.mirror("lab", 8, site.model(), 10.0)
    assert [each.version for each in book.all()] == [2]
    store.release("ben")
    assert book.publish(text(command="d"), "ben", nothing)[0].version == 4
    site.close()
