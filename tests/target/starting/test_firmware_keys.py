# SPDX-License-Identifier: Apache-2.0
"""What the firmware's variables tell of Secure Boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.target.starting.firmware_keys import FirmwareKeys, firmware_keys

OLD, NEW = b"..Microsoft Windows Production PCA 2011..", b"..Windows UEFI CA 2023.."


@pytest.mark.parametrize(
    ("db", "dbx", "known"), [(OLD, b"", {"2011"}), (OLD + NEW, b"", {"2011", "2023"}), (OLD + NEW, OLD, {"2023"})]
)
def test_an_authority_counts_while_db_has_it_and_dbx_does_not(
    tmp_path: Path, db: bytes, dbx: bytes, known: set[str]
) -> None:
    for name, content in (
        ("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f", db),
        ("dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f", dbx),
        ("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\1"),
    ):
        (tmp_path / name).write_bytes(b"\x27\0\0\0" + content)  # a variable's attributes come first
    assert firmware_keys(tmp_path) == FirmwareKeys(True, frozenset(known))


def test_without_variables_nothing_is_known(tmp_path: Path) -> None:
    assert firmware_keys(tmp_path / "none") == FirmwareKeys(False, frozenset())
