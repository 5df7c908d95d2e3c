# SPDX-License-Identifier: Apache-2.0
"""Durations and moments as people type them."""

from __future__ import annotations

from datetime import datetime

import pytest
import typer

from dpd.cli.times import read_duration, read_moment


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 0 ", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "10 minutes", "m", "1d", "٣s"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a duration such as 90s, 10m or 1h"):
        read_duration(text)


def test_a_moment_without_a_zone_is_local_time() -> None:
    assert read_moment("2026-11-21T20:00") == datetime(2026, 11, 21, 20).timestamp()
    assert read_moment("2026-11-21T20:00+00:00") == 1795291200


@pytest.mark.parametrize("text", ["", "20:00", "tomorrow", "2026-13-01"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a moment such as 2026-11-21T20:00"):
        read_moment(text)
