# SPDX-License-Identifier: Apache-2.0
"""Maintenance mode stays until it is ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.distribution.database import open_database
from dpd.distribution.jobs.maintenance import Maintenance
from dpd.distribution.jobs.store import JobStore
from dpd.errors import Unavailable


def test_it_is_there_after_a_restart_and_says_why(tmp_path: Path) -> None:
    database = open_database(tmp_path / "d.db")
    maintenance = Maintenance(JobStore(database))
    maintenance.refuse_new_content()
    maintenance.change("disks are changed")
    database.close()
    again = Maintenance(JobStore(open_database(tmp_path / "d.db")))
    with pytest.raises(Unavailable, match=r"maintenance \(disks are changed\); `dpd maintenance off`"):
        again.refuse_new_content()
    again.change("")
    again.refuse_new_content()
