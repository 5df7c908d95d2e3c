# SPDX-License-Identifier: Apache-2.0
"""Addresses that are never served, and identities that tell nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dpd.errors import SettingsError
from dpd.settings import PxeSettings
from dpd.site.identity import read_identity_lists

MAC = "52:54:00:00:00:01"


def test_the_list_and_the_file_together_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "ignore"
    path.write_text("# printers\n52-54-00-00-00-02   # second floor\n\n525400000003\n")
    lists = read_identity_lists(PxeSettings(ignore_macs=(MAC.upper(),), ignore_macs_file=str(path)))
    assert lists.ignored == {MAC, "52:54:00:00:00:02", "52:54:00:00:00:03"}


def test_lines_that_are_no_address_are_named_and_the_others_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ignore"
    path.write_text(f"nonsense\n{MAC}\n52:54:00\n")
    with caplog.at_level(logging.WARNING):
        assert read_identity_lists(PxeSettings(ignore_macs_file=str(path))).ignored == {MAC}
    (record,) = caplog.records
    assert (record.__dict__["lines"], record.__dict__["first"]) == (2, "1, 3")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pxe\.ignore_macs_file = .*No such file"):
        read_identity_lists(PxeSettings(ignore_macs_file=str(tmp_path / "none")))
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="UTF-8"):
        read_identity_lists(PxeSettings(ignore_macs_file=str(tmp_path / "bytes")))


def test_shared_identities_are_the_settings_and_what_boards_ship_with() -> None:
    shared = read_identity_lists(PxeSettings(duplicate_ids=(MAC.upper(),))).shared
    assert MAC in shared
    assert "00000000-0000-0000-0000-000000000000" in shared
    assert "03000200-0400-0500-0006-000700080009" in shared
