# SPDX-License-Identifier: Apache-2.0
"""The PIN: taken when right, a few tries for each machine, a bound for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.errors import SettingsError
from dpd.site.pin import LOCKED_S, TRIES, TRIES_OF_ALL, WINDOW_OF_ALL_S, PinAnswer, PinDesk, read_pin

MAC = "52:54:00:00:00:01"


def test_the_right_pin_is_taken_and_a_wrong_one_is_not() -> None:
    desk = PinDesk("4711")
    assert desk.judge(MAC, "4712", 0.0) is PinAnswer.WRONG
    assert desk.judge(MAC, "4711", 0.0) is PinAnswer.RIGHT


@pytest.mark.parametrize("typed", ["", "47110", "471", "\udc80", "４７１１", " 4711"])
def test_nothing_near_the_pin_is_the_pin(typed: str) -> None:
    assert PinDesk("4711").judge(MAC, typed, 0.0) is PinAnswer.WRONG


def test_without_a_pin_no_text_is_right() -> None:
    assert PinDesk().judge(MAC, "", 0.0) is PinAnswer.WRONG


def test_after_a_few_wrong_tries_even_the_right_one_waits() -> None:
    desk = PinDesk("4711")
    for _ in range(TRIES):
        assert desk.judge(MAC, "0000", 10.0) is PinAnswer.WRONG
    assert desk.judge(MAC, "4711", 10.0 + LOCKED_S - 1) is PinAnswer.LOCKED
    assert desk.judge("52:54:00:00:00:02", "4711", 10.0) is PinAnswer.RIGHT
    assert desk.judge(MAC, "4711", 10.0 + LOCKED_S) is PinAnswer.RIGHT


def test_invented_machines_share_one_bound() -> None:
    desk = PinDesk("4711")
    for number in range(TRIES_OF_ALL):
        desk.judge(f"52:54:00:00:01:{number:02x}", "0000", 0.0)
    assert desk.judge(MAC, "4711", 1.0) is PinAnswer.LOCKED
    assert desk.judge(MAC, "4711", WINDOW_OF_ALL_S) is PinAnswer.RIGHT


def test_the_pin_is_one_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_text("4711\n")
    assert read_pin(str(path)) == "4711"
    assert read_pin("") == ""


@pytest.mark.parametrize("content", [b"", b"123\n", b"47\n11\n", b"\xff\xfe\xfd\xfc"])
def test_a_file_without_a_usable_pin_is_refused_by_its_setting(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pin"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"pxe\.pin_file = .*expected one line"):
        read_pin(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pxe\.pin_file = .*No such file"):
        read_pin(str(tmp_path / "none"))
