# SPDX-License-Identifier: Apache-2.0
"""Published versions on a real disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpd.deployment.sequence_store import KEPT_IN_MEMORY, SequenceStore
from dpd.sequence.document import SequenceRefused
from dpd.sequence.records import SequenceConflict, SequenceError, SequenceNotFound
from dpd.sequence.signed import read_signed

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([each]) * 32) for each in (1, 2))
PUBLIC = KEY.public_key().public_bytes_raw()


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


def opened(path: Path, key: Ed25519PrivateKey = KEY) -> SequenceStore:
    return SequenceStore(path, key.public_key().public_bytes_raw(), key.sign, clock=lambda: 1000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sequences.db"


@pytest.fixture
def store(path: Path) -> Iterator[SequenceStore]:
    with closing(opened(path)) as store:
        yield store


def test_a_version_is_found_as_it_was_written_and_as_it_was_signed(store: SequenceStore) -> None:
    published, is_new = store.publish(text(), "anna", nothing)
    assert (is_new, published.name, published.version) == (True, "debian", 1)
    assert published == store.find("debian")
    assert published.text == text()
    assert read_signed(published.document, PUBLIC) == (published.sequence, PUBLIC)
    assert published.sequence.version == 1
    head = published.head
    assert (head.description, head.steps, head.published_at, head.actor) == ("of true", 1, 1000.0, "anna")


def test_another_text_is_another_version_and_the_old_one_stays(store: SequenceStore) -> None:
    store.publish(text(), "anna", nothing)
    assert store.publish(text(command="false"), "ben", nothing)[0].version == 2
    assert store.find("debian").sequence.steps()[0].text("command") == "false"
    assert store.find("Debian", 1).sequence.steps()[0].text("command") == "true"
    assert [each.version for each in store.versions("debian")] == [2, 1]
    store.publish(text("arch"), "anna", nothing)
    assert [(each.name, each.version) for each in store.newest()] == [("arch", 1), ("debian", 2)]


def test_the_same_text_is_no_new_version_unless_another_came_between(store: SequenceStore) -> None:
    store.publish(text(), "anna", nothing)
    published, is_new = store.publish(text(), "ben", nothing)
    assert (published.version, published.head.actor, is_new) == (1, "anna", False)
    store.publish(text(command="false"), "anna", nothing)
    assert store.publish(text(), "anna", nothing)[0].version == 3


def test_a_number_that_was_asked_for_is_given_once(store: SequenceStore) -> None:
    assert store.publish(text(), "anna", nothing, version=5)[0].version == 5
    assert store.publish(text(), "anna", nothing, version=5)[1] is False
    with pytest.raises(SequenceConflict, match=r"debian@5 is another text, .* publish as version 6"):
        store.publish(text(command="false"), "anna", nothing, version=5)
    with pytest.raises(SequenceConflict, match="debian@4 was removed or left out"):
        store.publish(text(command="false"), "anna", nothing, version=4)
    assert store.publish(text(command="false"), "anna", nothing)[0].version == 6


def test_a_removed_version_s_number_is_not_given_again(store: SequenceStore, path: Path) -> None:
    for command in ("a", "b", "c"):
        store.publish(text(command=command), "anna", nothing)
    assert [each.version for each in store.remove("DEBIAN", 3)] == [3]
    assert store.find("debian").version == 2
    assert [each.version for each in store.remove("debian")] == [2, 1]
    with pytest.raises(SequenceNotFound, match="no task sequence debian; `dpd sequence list`"):
        store.find("debian")
    store.close()
    with closing(opened(path)) as again:
        assert again.publish(text(), "anna", nothing)[0].version == 4


def test_what_is_not_there_is_told(store: SequenceStore) -> None:
    store.publish(text(), "anna", nothing)
    assert store.has("DEBIAN")
    assert store.has("debian", 1)
    assert not store.has("debian", 2)
    assert not store.has("other")
    with pytest.raises(SequenceNotFound, match="no task sequence debian@2"):
        store.find("debian", 2)
    for ask in (store.versions, store.remove):
        with pytest.raises(SequenceNotFound, match="no task sequence other"):
            ask("other")


def test_what_is_wrong_is_refused_and_nothing_kept(store: SequenceStore) -> None:
    with pytest.raises(SequenceRefused, match=r"line 6: step 1 .Command.: do: "):
        store.publish(text().replace("run_command_line", "run"), "anna", nothing)
    image = '[[step]]\nname = "D"\ndo = "download_content"\npackage = "LAB00001"\n'
    with pytest.raises(SequenceRefused, match="no package LAB00001 here"):
        store.publish(text() + image, "anna", nothing)
    assert store.newest() == []
    store.publish(text() + image, "anna", None)


def test_it_is_all_there_after_a_restart_and_more_than_memory_holds(store: SequenceStore, path: Path) -> None:
    for number in range(KEPT_IN_MEMORY + 3):
        store.publish(text(command=f"echo {number}"), "anna", nothing)
    assert store.find("debian", 1).text == text(command="echo 0")
    store.close()
    with closing(opened(path)) as again:
        assert again.find("debian", 1).text == text(command="echo 0")
        assert again.find("debian").version == KEPT_IN_MEMORY + 3


def test_a_new_key_signs_what_the_old_one_did(store: SequenceStore, path: Path) -> None:
    store.publish(text(), "anna", nothing)
    store.close()
    with closing(opened(path, OTHER)) as again:
        other = OTHER.public_key().public_bytes_raw()
        assert read_signed(again.find("debian").document, other)[1] == other


def test_a_version_that_was_damaged_on_disk_is_not_handed_out(store: SequenceStore, path: Path) -> None:
    store.publish(text(), "anna", nothing)
    store.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE version SET document = replace(document, 'true', 'reboot')")
    with closing(opened(path)) as again:
        with pytest.raises(SequenceError, match="debian@1: sequence: its signature does not fit"):
            again.find("debian")
        assert [each.version for each in again.versions("debian")] == [1]


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(SequenceError, match=r"sequences\.db"):
        opened(path)
