# SPDX-License-Identifier: Apache-2.0
"""`dpd deploy watch`: machines × steps as they go, a live table on a terminal, else a line for each change."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpd.cli.client import Client, DaemonUnreachable, RefusedByDaemon
from dpd.cli.events import FINAL, server_sent
from dpd.cli.screen import moment, size

if TYPE_CHECKING:
    from rich.console import Group

RECENT_S = 3600.0  # one that ended so long ago is not shown to who begins to watch
RECONNECT_S = 1.0
REFRESHES_PER_S = 2.0
OPEN = frozenset({"running", "restarting"})
COLUMNS = ("MACHINE", "SEQUENCE", "STATE", "STEPS", "STEP", "DONE>", "SPEED>", "HEARD>", "MESSAGE")
MARKS = {"waiting": "·", "running": "▶", "restarting": "↻", "done": "✓", "failed": "✗", "skipped": "–"}
STYLES = {"done": "green", "failed": "bold red", "lost": "bold red", "cancelled": "yellow", "silent": "yellow"}
MAX_MARKS = 30
ELASTIC = {"STEP": 1, "MESSAGE": 3}  # these share what the others leave
SHARE = 5  # characters for each share, at least


@dataclass(slots=True)
class Board:
    """What is known of each machine's newest execution."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_current: bool = False

    def take(self, execution: dict[str, Any]) -> None:
        """One that is new, or has changed; an older one of its machine that has ended makes room."""
        self.executions[execution["id"]] = execution
        of_machine = [each for each in self.executions.values() if each["machine"] == execution["machine"]]
        newest = max(of_machine, key=_begun)
        for each in of_machine:
            if each is not newest and not is_open(each):
                del self.executions[each["id"]]

    def begin(self) -> None:
        """What is comes once more, as after a break."""
        self.is_current = False

    def settle(self, now: float) -> None:
        """All that is has come: what ended long ago is of no interest."""
        self.executions = {
            id: each for id, each in self.executions.items() if is_open(each) or each["ended_at"] >= now - RECENT_S
        }
        self.is_current = True

    @property
    def has_open(self) -> bool:
        return any(map(is_open, self.executions.values()))

    @property
    def has_failed(self) -> bool:
        return any(not is_open(each) and each["state"] != "done" for each in self.executions.values())

    def rows(self) -> list[dict[str, Any]]:
        """Those under way first, in the order of their beginning; then those that ended, the last one first."""
        under_way = sorted(filter(is_open, self.executions.values()), key=_begun)
        ended = [each for each in self.executions.values() if not is_open(each)]
        return under_way + sorted(ended, key=lambda each: -each["ended_at"])

    def summary(self) -> str:
        """All machines in one line."""
        counted: dict[str, int] = {}
        for each in self.executions.values():
            counted[shown_state(each)] = counted.get(shown_state(each), 0) + 1
        states = ", ".join(f"{count} {state}" for state, count in sorted(counted.items())) or "nothing is deployed now"
        rate = sum(each["rate_bit_s"] for each in self.executions.values() if is_open(each))
        return states + (f"; {size(rate / 8)}/s in all" if rate else "")


def _begun(execution: dict[str, Any]) -> float:
    return float(execution["started_at"])


def is_open(execution: dict[str, Any]) -> bool:
    """Whether its machine is expected to say more."""
    return execution["state"] in OPEN


def shown_state(execution: dict[str, Any]) -> str:
    """Its state; silent where it is expected to say something."""
    return "silent" if execution["is_silent"] else str(execution["state"])


def who(execution: dict[str, Any]) -> str:
    """The computer's name, or the MAC of a machine without one."""
    return str(execution["computer"] or execution["mac"])


def who_and_where(execution: dict[str, Any]) -> str:
    """Who, and at which point where a site server tells it."""
    return f"{who(execution)} @ {execution['point']}" if "point" in execution else who(execution)


def marks(execution: dict[str, Any]) -> str:
    """A mark for each step; a number of them where they are many."""
    states = execution["step_states"]
    if len(states) > MAX_MARKS:
        over = sum(1 for each in states if each in ("done", "skipped", "failed"))
        return f"{over} of {len(states)}"
    return "".join(MARKS.get(each, "?") for each in states)


def step_of(execution: dict[str, Any]) -> str:
    """Where it is."""
    return f"{execution['step']} {execution['step_name']}".strip() or "-"


def done_of(execution: dict[str, Any]) -> str:
    """How far its step is."""
    done, total = execution["done_bytes"], execution["total_bytes"]
    if not total or not is_open(execution):
        return ""
    return f"{min(100, 100 * done // total)} % of {size(total)}"


def said_of(execution: dict[str, Any]) -> str:
    """What it said last; of one that has ended, what went wrong."""
    error = "" if is_open(execution) else str(execution["error"])
    return error or str(execution["message"])


def went_on(execution: dict[str, Any]) -> bool:
    """Whether what went wrong is behind it: a step that was allowed to fail."""
    return is_open(execution) and not execution["is_silent"] and execution["message"] != execution["error"]


def row_of(execution: dict[str, Any], now: float) -> tuple[str, ...]:
    """A line of the table."""
    heard = f"{max(0.0, now - execution['heard_at']):.0f} s ago" if is_open(execution) else "-"
    rate = execution["rate_bit_s"] if is_open(execution) else 0
    return (
        who_and_where(execution),
        f"{execution['sequence']}@{execution['version']}",
        shown_state(execution) + (" (to stop)" if execution["cancel_reason"] and is_open(execution) else ""),
        marks(execution),
        step_of(execution),
        done_of(execution),
        f"{size(rate / 8)}/s" if rate else "",
        heard,
        said_of(execution),
    )


def line_of(execution: dict[str, Any], now: float) -> str:
    """One change, for a log."""
    at = moment(execution["ended_at"] or execution["heard_at"])
    where = " ".join(part for part in (step_of(execution), done_of(execution)) if part)
    advice = f"  {execution['next_step']}" if execution["next_step"] and not went_on(execution) else ""
    return f"{at}  {who_and_where(execution):<16} {shown_state(execution):<10} {where}  {said_of(execution)}{advice}".rstrip()


def watch(client: Client, *, until_done: bool, as_json: bool, **wanted: object) -> int:
    """Show until interrupted, or where it is `until_done` until none is under way; the exit code. Raises RefusedByDaemon,
    DaemonUnreachable where it was not there from the beginning."""
    board = Board()
    is_table = sys.stdout.isatty() and not as_json
    with _screen(board) if is_table else nullcontext():
        for execution in _changes(client, board, wanted):
            if execution is not None and not is_table:
                print(
                    json.dumps(execution, ensure_ascii=False) if as_json else line_of(execution, time.time()),
                    flush=True,
                )
            if until_done and board.is_current and not board.has_open:
                break
    return int(board.has_failed)


def _changes(client: Client, board: Board, wanted: dict[str, object]) -> Iterator[dict[str, Any] | None]:
    """Each that is there, then each that changes, for ever; None where it is known that this is all until now. A daemon that goes
    comes back."""
    was_there = is_told = False
    while True:
        why = "dpd ended the stream"
        board.begin()
        try:
            for kind, _, payload in server_sent(client.stream("executions", "stream", **wanted)):
                if kind == "current":
                    board.settle(time.time())
                    if not was_there:
                        yield from reversed(board.rows())
                    was_there, is_told = True, False
                    yield None
                elif payload:
                    execution = json.loads(payload)
                    is_news = board.is_current or (was_there and board.executions.get(execution["id"]) != execution)
                    board.take(execution)
                    if is_news:
                        yield execution
        except DaemonUnreachable as error:
            if not was_there:
                raise
            why = str(error)
        except RefusedByDaemon as error:
            if not was_there or error.code in FINAL:
                raise
            why = str(error)
        if not is_told:
            print(f"dpd: {why}; waiting for it to come back", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(RECONNECT_S)


def _screen(board: Board) -> AbstractContextManager[object]:
    from rich.live import Live

    return Live(get_renderable=lambda: view_of(board, time.time()), refresh_per_second=REFRESHES_PER_S)


def view_of(board: Board, now: float) -> Group:
    """Machines × steps. What went wrong, and what to try, stands below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for title in COLUMNS:
        head = title.removesuffix(">")
        share = ELASTIC.get(head)
        table.add_column(
            head,
            justify="right" if title.endswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=share,
            width=share and share * SHARE,
        )
    for execution in board.rows():
        style = STYLES.get(shown_state(execution), "")
        table.add_row(*(Text(cell) for cell in row_of(execution, now)), style=style)
    wrong = [f"{who_and_where(each)}: {_what_to_try(each)}" for each in board.rows() if each["next_step"]]
    return Group(Text(board.summary(), style="bold"), table, Text("\n".join(["", *wrong]) if wrong else ""))


def _what_to_try(execution: dict[str, Any]) -> str:
    """With what it is for, where the row tells of something else by now."""
    return f"{execution['error']}. {execution['next_step']}" if went_on(execution) else str(execution["next_step"])
