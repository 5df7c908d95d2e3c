# SPDX-License-Identifier: Apache-2.0
"""The spool's file: order, bounds, readers, and values that any reader understands."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dpd.telemetry.spool_file import SpoolError, SpoolFile, SpoolLimits, _at_least, is_damage, set_aside
from dpd.telemetry.status_messages import Severity

WIDE = SpoolLimits(100_000, 64 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "messages.db"


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    with closing(SpoolFile(path, WIDE, ("site",))) as file:
        yield file


def put(file: SpoolFile, count: int, event: str = "job.done", **fields: Any) -> None:
    file.append([(1000.0 + n, event, {"n": n, **fields}) for n in range(count)])


def sequences(file: SpoolFile, after: int = 0, severity: Severity = Severity.INFO) -> list[int]:
    return [each.sequence for each in file.after(after, 100_000, severity)]


def test_messages_are_numbered_from_one_without_a_gap_and_go_on_after_reopening(path: Path) -> None:
    with closing(SpoolFile(path, WIDE)) as file:
        put(file, 3)
        put(file, 2)
        epoch = file.epoch
    with closing(SpoolFile(path, WIDE)) as file:
        assert (file.epoch, file.oldest, file.latest, file.kept) == (epoch, 1, 5, 5)
        put(file, 1)
        assert sequences(file) == [1, 2, 3, 4, 5, 6]
        assert sequences(file, after=4) == [5, 6]


def test_another_file_is_another_series(tmp_path: Path) -> None:
    with closing(SpoolFile(tmp_path / "a.db", WIDE)) as one, closing(SpoolFile(tmp_path / "b.db", WIDE)) as other:
        assert len(one.epoch) == 16
        assert one.epoch != other.epoch


def test_a_message_has_the_number_and_severity_of_the_catalogue(file: SpoolFile) -> None:
    file.append([(5.5, "job.failed", {"job": 4, "error": "gone", "retry": True, "share": 0.5})])
    (message,) = file.after(0, 10, Severity.INFO)
    assert (message.at, message.event, message.message_id, message.severity) == (
        5.5,
        "job.failed",
        2005,
        Severity.ERROR,
    )
    assert message.fields == {"job": 4, "error": "gone", "retry": True, "share": 0.5}


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 << 80, str(1 << 80)),
        ("\udcff", "\\udcff"),
        ("x" * 2000, "x" * 997 + "..."),
        (Unspeakable(), "<Unspeakable that cannot be shown>"),
    ],
)
def test_whatever_a_field_has_is_kept_as_json_and_every_reader_knows_it(file: SpoolFile, value: Any, kept: str) -> None:
    put(file, 1, value=value)
    (message,) = file.after(0, 10, Severity.INFO)
    assert message.fields["value"] == kept
    json.dumps(message.fields, allow_nan=False).encode()


def test_the_severe_ones_and_the_newest_can_be_asked_for(file: SpoolFile) -> None:
    file.append([(0.0, event, {}) for event in ("job.done", "receiver_lost", "job.done", "job.failed", "job.done")])
    assert sequences(file, severity=Severity.WARNING) == [2, 4]
    assert sequences(file, severity=Severity.ERROR) == [4]
    assert [each.sequence for each in file.last(2, Severity.INFO)] == [4, 5]
    assert [each.sequence for each in file.last(1, Severity.WARNING)] == [4]


def test_the_severe_ones_are_found_by_their_index(file: SpoolFile, path: Path) -> None:
    put(file, 1)
    with closing(sqlite3.connect(path)) as look:
        for severity in (Severity.WARNING, Severity.ERROR):
            query = (
                f"EXPLAIN QUERY PLAN SELECT * FROM messages WHERE sequence > 5 {_at_least(severity)} ORDER BY sequence"
            )
            assert "messages_that_matter" in look.execute(query).fetchone()[3]


def test_a_page_has_no_more_than_asked(file: SpoolFile) -> None:
    put(file, 10)
    assert [each.sequence for each in file.after(3, 4, Severity.INFO)] == [4, 5, 6, 7]


# ---- readers


def test_each_reader_confirms_for_itself_and_never_back(path: Path) -> None:
    with closing(SpoolFile(path, WIDE, ("site", "archive"))) as file:
        put(file, 10)
        file.confirm("site", 7)
        file.confirm("archive", 3)
        file.confirm("site", 5)
        assert file.confirmed == {"site": 7, "archive": 3}
    with closing(SpoolFile(path, WIDE)) as file:
        assert file.confirmed == {"site": 7, "archive": 3}


def test_nobody_confirms_what_is_not_there_yet(file: SpoolFile) -> None:
    put(file, 3)
    file.confirm("site", 1000)
    put(file, 2)
    assert file.confirmed == {"site": 3}


def test_a_reader_that_is_none_any_more_is_forgotten(path: Path) -> None:
    with closing(SpoolFile(path, WIDE, ("site",))) as file:
        put(file, 3)
        file.confirm("site", 2)
    with closing(SpoolFile(path, WIDE, ())) as file:
        assert file.confirmed == {}
    with closing(SpoolFile(path, WIDE, ("site",))) as file:
        assert file.confirmed == {"site": 0}


# ---- bounds


def test_the_oldest_make_room_and_what_a_reader_had_not_confirmed_is_told(path: Path) -> None:
    with closing(SpoolFile(path, SpoolLimits(20, 1 << 20), ("site",))) as file:
        put(file, 10)
        file.confirm("site", 4)
        put(file, 15)
        messages = file.after(0, 100, Severity.INFO)
        assert messages[-1].event == "messages.dropped"
        assert messages[-1].fields == {"count": file.oldest - 5, "first": 5, "last": file.oldest - 1, "readers": "site"}
        assert [each.sequence for each in messages] == list(range(file.oldest, 27))
        assert file.kept == len(messages) <= 20
        assert file.dropped == file.oldest - 5


def test_what_every_reader_has_goes_without_a_word(path: Path) -> None:
    with closing(SpoolFile(path, SpoolLimits(20, 1 << 20), ("site",))) as file:
        for _ in range(10):
            put(file, 5)
            file.confirm("site", file.latest)
        assert (file.latest, file.dropped) == (50, 0)
        assert all(each.event == "job.done" for each in file.after(0, 100, Severity.INFO))
        assert file.oldest > 30


def test_without_a_reader_history_ends_at_the_bound_and_nothing_is_lost_to_anybody(path: Path) -> None:
    with closing(SpoolFile(path, SpoolLimits(20, 1 << 20), ())) as file:
        put(file, 100)
        assert (file.latest, file.dropped) == (100, 0)
        assert 15 <= file.kept <= 20


def test_the_bound_counts_bytes_too_and_outlives_a_restart(path: Path) -> None:
    limits = SpoolLimits(100_000, 50_000)
    with closing(SpoolFile(path, limits, ())) as file:
        put(file, 100, text="x" * 900)
        before = file.kept_bytes
        assert 40_000 < before <= 50_000
    with closing(SpoolFile(path, limits, ())) as file:
        assert file.kept_bytes == before
        put(file, 1, text="y" * 900)
        with closing(sqlite3.connect(path)) as look:
            (real,) = look.execute("SELECT sum(64 + length(event) + length(fields)) FROM messages").fetchone()
        assert file.kept_bytes == real


def test_the_file_itself_does_not_grow_for_ever(path: Path) -> None:
    with closing(SpoolFile(path, SpoolLimits(500, 1 << 20), ())) as file:
        for _ in range(80):
            put(file, 500, text="x" * 200)
        size_bytes = sum(each.stat().st_size for each in path.parent.glob("messages.db*"))
    assert size_bytes < 6 << 20, "40,000 messages are more than 9 MB; the write-ahead log has 4 MB at most"


# ---- damage


@pytest.mark.parametrize("content", [b"no database at all" * 500, b""], ids=["rubbish", "empty"])
def test_a_damaged_file_is_told_from_an_empty_one(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    if not content:
        SpoolFile(path, WIDE).close()
        return
    with pytest.raises(SpoolError) as caught:
        SpoolFile(path, WIDE)
    assert is_damage(caught.value)
    aside = set_aside(path)
    assert aside.read_bytes() == content
    with closing(SpoolFile(path, WIDE)) as file:
        assert file.latest == 0


def test_a_lack_of_room_or_rights_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(SpoolError) as caught:
        SpoolFile(tmp_path / "no such folder" / "messages.db", WIDE)
    assert not is_damage(caught.value)
