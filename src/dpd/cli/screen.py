# SPDX-License-Identifier: Apache-2.0
"""How things look on the terminal: tables, sizes, times, progress bars; and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.table import Table


def print_json(value: Any) -> None:
    """One document, indented on a terminal, on one line for a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table, or the sentence `empty`. A column whose title ends in > is aligned to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        print(empty)
        return
    _show(_table(columns, lines))


def print_fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Name and value, one pair a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in pairs:
        table.add_row(Text(name, style="bold"), Text(str(value), overflow="fold"))
    _show(table)


def _table(columns: Sequence[str], lines: list[list[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        table.add_column(title.removesuffix(">"), justify="right" if title.endswith(">") else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # Text, so that a [name] is no markup
    return table


def _show(table: Table) -> None:
    from rich.console import Console

    # A pipe has no width; rich would cut columns at 80.
    Console(width=None if sys.stdout.isatty() else 1000).print(table, soft_wrap=not sys.stdout.isatty())


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def moment(at: float) -> str:
    """Local time, to the second."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


class Bar(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Bar]:
    """A bar on standard error; nothing where it is no terminal or `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = [TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(binary_units=True)]
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield show


def follow_job(lines: Iterable[dict[str, Any]], stage: str, bar: Bar) -> dict[str, Any]:
    """Show the progress lines of a long job; what the last line brings."""
    content: dict[str, Any] = {}
    for line in lines:
        if progress := line.get("progress"):
            bar(stage, progress["done_bytes"], progress["total_bytes"])
        content = line.get("content", content)
    return content
