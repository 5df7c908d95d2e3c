# SPDX-License-Identifier: Apache-2.0
"""What the settings say of policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.settings import parse_settings
from dpd.site.stance import FileWatch, read_stance, unknown_computers_at
from dpd.site.subnets import Subnets

TEXT = """
[pxe]
unknown_computers = "deny"
[[pxe.subnet]]
network = "10.1.0.0/16"
unknown_computers = "pending"
[[pxe.subnet]]
network = "10.1.2.0/24"
max_blksize = 1024
"""


@pytest.mark.parametrize(
    ("address", "expected"), [("10.1.9.1", "pending"), ("10.1.2.1", "deny"), ("192.0.2.1", "deny")]
)
def test_a_subnet_may_have_its_own_stance_on_unknown_computers(address: str, expected: str) -> None:
    stance = read_stance(parse_settings(TEXT, "t"))
    assert unknown_computers_at(stance, Subnets(stance.tables), address) == expected


def test_settings_that_say_the_same_are_the_same_stance() -> None:
    one, other = (read_stance(parse_settings(text, "t")) for text in (TEXT, TEXT + "[tftp]\nmax_blksize = 1024\n"))
    assert one == other
    assert one != read_stance(parse_settings("", "t"))


def test_a_file_that_is_written_anew_is_seen_within_a_second_and_once(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "ignore"
    watch = FileWatch(("", str(path)), clock=lambda: now[0])
    path.write_text("52:54:00:00:00:01\n")
    assert not watch.have_changed()
    now[0] = 1.0
    assert watch.have_changed()
    now[0] = 2.0
    assert not watch.have_changed()
    path.unlink()
    now[0] = 3.0
    assert watch.have_changed()
    assert not FileWatch(("",)).have_changed()
