# SPDX-License-Identifier: Apache-2.0
"""The site server's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.site_server.database import FILE, SiteServerError, open_database


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
