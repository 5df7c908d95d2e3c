# SPDX-License-Identifier: Apache-2.0
"""A file with one secret: read, or refused with what is wrong and nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.errors import SettingsError
from dpd.token_file import read_token_file

SECRET = "correct-horse"


def test_the_line_is_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {SECRET}\n")
    path.chmod(0o640)
    assert read_token_file(path, "bus.token_file", hint="make one") == SECRET


@pytest.mark.parametrize(
    ("content", "mode", "least", "problem"),
    [
        (None, 0o600, 1, "No such file or directory; make one"),
        (SECRET, 0o644, 1, "readable by everyone; `chmod o= {path}`"),
        ("", 0o600, 1, "expected one line without blanks; make one"),
        (f"{SECRET} {SECRET}", 0o600, 1, "expected one line without blanks; make one"),
        (f"{SECRET}\n{SECRET}", 0o600, 1, "expected one line without blanks; make one"),
        (SECRET, 0o600, 16, "expected one line of at least 16 characters without blanks; make one"),
        (f"{SECRET}é", 0o600, 1, "expected one line of ASCII; make one"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, content: str | None, mode: int, least: int, problem: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        read_token_file(path, "bus.token_file", hint="make one", min_characters=least)
    assert str(caught.value) == f'bus.token_file = "{path}": {problem.format(path=path)}'
    assert SECRET not in str(caught.value)
