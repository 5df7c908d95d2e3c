# SPDX-License-Identifier: Apache-2.0
"""Counting by plain fields that carry their sentence."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dpd.telemetry.stats import bump, counter, counts, gauge, levels


@dataclass(slots=True)
class Stats:
    sent: int = counter("Sent")
    open: int = gauge("Open")
    ignored: dict[str, int] = counts("Ignored", "reason")
    free_bytes: dict[str, float] = levels("Free", "root")


def test_fields_start_empty_and_are_not_shared() -> None:
    first, second = Stats(), Stats()
    bump(first.ignored, "late")
    first.sent += 1
    assert (second.sent, second.open, second.ignored) == (0, 0, {})


def test_bump_counts_by_label() -> None:
    stats = Stats()
    bump(stats.ignored, "late")
    bump(stats.ignored, "late", 4)
    bump(stats.ignored, "short")
    assert stats.ignored == {"late": 5, "short": 1}


def test_fields_tell_kind_help_and_label() -> None:
    told = {field.name: dict(field.metadata) for field in fields(Stats)}
    assert told == {
        "sent": {"kind": "counter", "help": "Sent"},
        "open": {"kind": "gauge", "help": "Open"},
        "ignored": {"kind": "counter", "help": "Ignored", "label": "reason"},
        "free_bytes": {"kind": "gauge", "help": "Free", "label": "root"},
    }
