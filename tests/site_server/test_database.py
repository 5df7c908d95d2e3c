# SPDX-License-Identifier: Apache-2.0
"""The site server's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.bus.messages import StatusReport
from dpd.database import Database
from dpd.site_server.archive import Archive
from dpd.site_server.database import _FIRST, FILE, SiteServerError, SiteServerFull, open_database
from dpd.site_server.gaps import Missing


def test_the_file_is_made_and_opened_again_as_it_was(tmp_path: Path) -> None:
    first = open_database(tmp_path)
    epoch = first.rows("SELECT value FROM facts WHERE name = 'epoch'")
    first.close()
    again = open_database(tmp_path)
    assert again.rows("SELECT value FROM facts WHERE name = 'epoch'") == epoch
    again.close()


def test_a_file_that_is_no_database_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(SiteServerError, match=FILE):
        open_database(tmp_path)


def test_a_file_of_before_copies_were_told_apart_is_taken_over_in_place(tmp_path: Path) -> None:
    """Ids, the highest that was ever given, and where each series stands."""
    old = Database(tmp_path / FILE, (_FIRST,), error=SiteServerError, full=SiteServerFull)
    with old.transaction() as connection:
        row = "INSERT INTO messages VALUES (?, 'b1', 'aa', ?, 5.0, 'job.done', 2004, 0, '{}', 4e9)"
        connection.executemany(row, [(number, number + 10) for number in range(1, 6)])
        connection.execute("DELETE FROM messages WHERE id = 5")
    old.close()
    archive = Archive(open_database(tmp_path), 90)
    assert [(each.sequence, each.fields) for each in archive.after(0)] == [
        (number, {"point": "b1"}) for number in range(1, 5)
    ]
    assert archive.latest == 5
    archive.add([StatusReport(point, "aa", 16, 5.0, "job.done", 2004, "info", {"of": point}) for point in ("b1", "b2")])
    assert [(each.sequence, each.fields["point"]) for each in archive.after(4)] == [(6, "b1"), (7, "b2")]
    assert [(each.first, each.last) for each in settled_late(archive)] == [(15, 15)]


def settled_late(archive: Archive) -> list[Missing]:
    archive._clock = lambda: 5e9
    return archive.settle()
