# SPDX-License-Identifier: Apache-2.0
"""How a plan looks on the terminal: what comes, what changes field by field, what goes, and how many stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from dpd.cli import document
from dpd.cli.screen import moment

Line = tuple[str, str]  # a style and a text
_STYLES = {"added": ("green", "+"), "changed": ("yellow", "~"), "removed": ("red", "-")}
_MOMENTS = ("available_from", "expires_at")


def print_plan(report: dict[str, Any]) -> None:
    """The changes, in colours on a terminal."""
    lines = [(style, document.printable(text)) for style, text in diff_lines(report["changes"])]
    if not sys.stdout.isatty():
        print("\n".join(text for _, text in lines))
        return
    from rich.console import Console
    from rich.text import Text

    whole = Text("\n").join(Text(text, style=style) for style, text in lines)
    Console(highlight=False).print(whole, soft_wrap=True)


def diff_lines(changes: list[dict[str, Any]]) -> Iterator[Line]:
    """One line for what comes or goes, and one for each field that changes."""
    for change in changes:
        style, sign = _STYLES[change["action"]]
        head = f"{sign} {change['kind']} {change['name']}"
        if change["action"] == "added":
            said = "; ".join(f"{each['field']} {_shown(each['field'], each['new'])}" for each in change["fields"])
            yield style, f"{head}: {said}" if said else head
            continue
        yield style, head
        if change["action"] == "changed":
            yield from _field_lines(change["fields"])


def _field_lines(fields: list[dict[str, Any]]) -> Iterator[Line]:
    width = max(len(each["field"]) for each in fields)
    for each in fields:
        name, old, new = each["field"], each["old"], each["new"]
        margin = f"    {name:<{width}}  "
        if isinstance(old, list) and isinstance(new, list) and set(old) != set(new):
            yield from (("red", f"{margin}- {gone}") for gone in old if gone not in new)
            yield from (("green", f"{margin}+ {come}") for come in new if come not in old)
        else:
            yield "yellow", f"{margin}{_shown(name, old)} -> {_shown(name, new)}"


def _shown(field: str, value: Any) -> str:
    if value in ("", [], None) or (field in _MOMENTS and value == 0):
        return "none"
    if field in _MOMENTS:
        return moment(value)
    return ", ".join(value) if isinstance(value, list) else str(value)


def summary(report: dict[str, Any]) -> str:
    """How much of what there is changes."""
    counts = f"{report['added']} to add, {report['changed']} to change, {report['removed']} to remove"
    return f"{counts}; {report['unchanged']} {'stays as it is' if report['unchanged'] == 1 else 'stay as they are'}"


def risk_lines(report: dict[str, Any]) -> list[str]:
    """What has to be confirmed, and how."""
    lines = [
        f"high risk: the required deployment {each['deployment']} reaches {_computers(each['reaches'])}"
        for each in report["risks"]
    ]
    return [*lines, f"`--confirm {report['confirm']}` says that this is meant"] if lines else []


def problem_lines(file: str, report: dict[str, Any]) -> list[str]:
    """Each problem as editors know where to go to."""
    return [document.problem_line(file, each["line"], each["key"], each["message"]) for each in report["problems"]]


def _computers(count: int) -> str:
    return "1 known computer" if count == 1 else f"{count} known computers"
