# SPDX-License-Identifier: Apache-2.0
"""A plan on the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from dpd.cli.screen import moment
from dpd.cli.site_diff import diff_lines, print_plan, problem_lines, risk_lines, summary


def changed(field: str, old: Any, new: Any) -> list[tuple[str, str]]:
    fields = [{"field": field, "old": old, "new": new}]
    return list(diff_lines([{"kind": "k", "name": "n", "action": "changed", "fields": fields}]))[1:]


def test_what_comes_and_goes_takes_a_line() -> None:
    fields = [{"field": "macs", "old": None, "new": ["a", "b"]}, {"field": "guid", "old": None, "new": "g"}]
    assert list(
        diff_lines(
            [
                {"kind": "computer", "name": "PC-1", "action": "added", "fields": fields},
                {"kind": "rule", "name": "mac_prefix 00:15", "action": "added", "fields": []},
                {"kind": "point", "name": "hq", "action": "removed", "fields": [{"field": "url", "old": "x", "new": None}]},
            ]
        )
    ) == [
        ("green", "+ computer PC-1: macs a, b; guid g"),
        ("green", "+ rule mac_prefix 00:15"),
        ("red", "- point hq"),
    ]  # fmt: skip


def test_fields_that_change_stand_below_each_other() -> None:
    fields = [
        {"field": "boot_image", "old": "", "new": "LAB5"},
        {"field": "priority", "old": 0, "new": 7},
        {"field": "expires_at", "old": 0.0, "new": 86400.0},
    ]
    assert list(diff_lines([{"kind": "deployment", "name": "win", "action": "changed", "fields": fields}])) == [
        ("yellow", "~ deployment win"),
        ("yellow", "    boot_image  none -> LAB5"),
        ("yellow", "    priority    0 -> 7"),
        ("yellow", f"    expires_at  none -> {moment(86400.0)}"),
    ]


def test_of_lists_only_what_differs_is_shown() -> None:
    assert changed("computers", ["a", "b", "c"], ["d", "b", "a"]) == [
        ("red", "    computers  - c"),
        ("green", "    computers  + d"),
    ]
    assert changed("points", ["a", "b"], ["b", "a"]) == [("yellow", "    points  a, b -> b, a")]


def test_counts_and_risks_are_told() -> None:
    report = {"added": 1, "changed": 0, "removed": 2, "unchanged": 1, "confirm": 412}
    assert summary(report) == "1 to add, 0 to change, 2 to remove; 1 stays as it is"
    assert summary(report | {"unchanged": 4}).endswith("; 4 stay as they are")
    assert risk_lines(report | {"risks": []}) == []
    assert risk_lines(
        report | {"risks": [{"deployment": "win", "reaches": 412}, {"deployment": "x", "reaches": 1}]}
    ) == [
        "high risk: the required deployment win reaches 412 known computers",
        "high risk: the required deployment x reaches 1 known computer",
        "`--confirm 412` says that this is meant",
    ]


def test_problems_name_file_line_and_key() -> None:
    problems = [
        {"line": 3, "key": "computer.macs", "message": "mac 'zz': expected six bytes"},
        {"line": 1, "key": "", "message": "not TOML"},
        {"line": 0, "key": "deployment.target", "message": "\x1b[2Jgone"},
    ]
    assert problem_lines("site.toml", {"problems": problems}) == [
        "site.toml:3: computer.macs: mac 'zz': expected six bytes",
        "site.toml:1: not TOML",
        "site.toml: deployment.target: ?[2Jgone",
    ]


def test_a_pipe_gets_no_colours_and_no_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    fields = [{"field": "description", "old": None, "new": "[red]\x1b[31m"}]
    print_plan({"changes": [{"kind": "point", "name": "hq", "action": "added", "fields": fields}]})
    assert capsys.readouterr().out == "+ point hq: description [red]?[31m\n"
