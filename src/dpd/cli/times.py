# SPDX-License-Identifier: Apache-2.0
"""Durations and moments as people type them on a command line."""

from __future__ import annotations

import re
from datetime import datetime

import typer

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def read_duration(text: str) -> float:
    """Seconds of "90", "90s", "10m" or "1.5h". Raises typer.BadParameter."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected a duration such as 90s, 10m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def read_moment(text: str) -> float:
    """Seconds since the epoch of an ISO moment such as 2026-11-21T20:00, local time where it names no zone. Raises
    typer.BadParameter."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r}: expected a moment such as 2026-11-21T20:00, in local time") from None
