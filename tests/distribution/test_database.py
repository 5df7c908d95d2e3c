# SPDX-License-Identifier: Apache-2.0
"""distribution.db."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.distribution.database import open_database
from dpd.errors import JobError


def test_it_is_made_and_opened_again(tmp_path: Path) -> None:
    open_database(tmp_path / "d.db").close()
    tables = open_database(tmp_path / "d.db").rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    assert [name for (name,) in tables] == ["fact", "job", "source_key", "sqlite_sequence", "wanted"]


def test_what_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "d.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(JobError, match=r"d\.db: .*; check the disk, or restore the file from a backup"):
        open_database(tmp_path / "d.db")
