# SPDX-License-Identifier: Apache-2.0
"""`dpd maintenance` against a real distribution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.cli.job_door import job_door
from tests.control.jobs import Door


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with job_door(tmp_path) as door:
        monkeypatch.setenv("DPD_SOCKET", door.settings.control.socket)
        yield door


def test_it_begins_shows_and_ends(door: Door, dpd: Dpd) -> None:
    assert dpd("maintenance", "show").out == "no maintenance\n"
    assert dpd("maintenance", "on", "new disks").out == "maintenance: new disks; `dpd maintenance off` ends it\n"
    assert door.distribution.maintenance.reason == "new disks"
    assert "maintenance: new disks" in dpd("content", "distribute", "A", "--no-wait").out
    assert dpd("maintenance", "show", "--json").json == {"reason": "new disks"}
    assert dpd("maintenance", "off").out == "no maintenance\n"
    ended = dpd("maintenance", "on", "  ")
    assert (ended.code, "expected a few words" in ended.err) == (2, True)
