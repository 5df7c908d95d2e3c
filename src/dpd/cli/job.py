# SPDX-License-Identifier: Apache-2.0
"""`dpd job …`: what distribution does, has done and waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.distribution import follow, in_words, progress_of, reason_of, why_of
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table, size

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Jobs: list, show, cancel, retry, watch.", no_args_is_help=True, rich_markup_mode=None)

PAGE = 1000
MOST = 10_000  # open jobs in one answer
PRIORITY_NAMES = {1: "high", 2: "normal", 3: "low"}
_COLUMNS = ("ID>", "KIND", "PACKAGE", "VERSION>", "PRIORITY", "STATE", "DONE>", "RATE>", "LEFT>", "WHY")

JobArgument = Annotated[int, typer.Argument(metavar="JOB", min=1, help="The number that `dpd job list` shows.")]


@app.command("list", epilog="Example: dpd job list --all --package LAB00001")
def list_jobs(
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    package: Annotated[str | None, typer.Option("--package", metavar="PACKAGE", help="Only of this package.")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only in this state: queued, running, waiting, done, failed or cancelled."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many that have ended.")] = 100,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List the jobs that run or will, in the order of their turn; those that have ended behind them, newest first."""
    client = Client(socket)
    jobs = [] if state in _ENDED else client.get("jobs", limit=MOST)["jobs"]
    jobs = [job for job in jobs if package in (None, job["package_id"]) and state in (None, job["state"])]
    if every or state in _ENDED:
        jobs += islice(_ended(client, package, state), limit)
    if as_json:
        print_json({"jobs": jobs})
        return
    print_table(_COLUMNS, map(_row, jobs), empty="No job; `dpd job list --all` also shows those that have ended.")


_ENDED = ("done", "failed", "cancelled")


def _ended(client: Client, package: str | None, state: str | None) -> Iterator[dict[str, Any]]:
    before = None
    while True:
        page = client.get("jobs", "ended", before=before, package_id=package, state=state, limit=PAGE)["jobs"]
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1]["id"]


@app.command(epilog="Example: dpd job show 12")
def show(job: JobArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show one job."""
    found = Client(socket).get("jobs", str(job))
    if as_json:
        print_json(found)
        return
    version = found["source_version"]
    print_fields(
        [
            ("Job", found["id"]),
            ("Kind", found["kind"]),
            ("Package", found["package_id"] or "-"),
            ("Version", "newest" if version is None else version),
            *((name, value) for name, value in found["options"].items()),
            ("Priority", PRIORITY_NAMES[found["priority"]]),
            ("State", found["state"]),
            ("Done", _amount(found) or "-"),
            ("Rate", _rate(found) or "-"),
            ("Left", _left(found) or "-"),
            ("Tries", found["attempts"]),
            ("Next try", _moment(found["next_try_at"])),
            ("Does", found["stopping"] or found["message"] or "-"),
            ("Error", found["error"] or "-"),
            ("Ordered", f"{moment(found['created_at'])} by {found['actor'] or '-'}"),
            ("Begun", _moment(found["started_at"])),
            ("Ended", _moment(found["ended_at"])),
        ]
    )


@app.command(epilog="Example: dpd job cancel 12")
def cancel(job: JobArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take a job back. One that runs stops at its next piece; what it has fetched is kept for a later one."""
    _print_job(Client(socket).post("jobs", str(job), "cancel"), as_json)


@app.command(epilog="Example: dpd job retry 12 --wait")
def retry(
    job: JobArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job's end.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Try now what waits for its next try; order anew what failed or was cancelled."""
    client = Client(socket)
    follow(client, client.post("jobs", str(job), "retry"), no_wait=not wait, as_json=as_json)


@app.command(epilog="Example: dpd job watch --until-idle")
def watch(
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when no job is open.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")] = 1.0,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show the jobs as they go, until interrupted: a table on a terminal, else a line for each change."""
    client = Client(socket)
    with suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not as_json:
            _show_live(client, until_idle, interval)
        else:
            _tell_changes(client, until_idle, interval, as_json)


def _show_live(client: Client, until_idle: bool, interval_s: float) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            lines = max(1, live.console.height - 3)
            reply = client.get("jobs", limit=lines)
            jobs = reply["jobs"]
            live.update(_live_table(jobs, reply["total"]), refresh=True)
            if until_idle and not jobs:
                return
            time.sleep(interval_s)


def _live_table(jobs: list[dict[str, Any]], total: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", caption=_caption(jobs, total))
    for title in _COLUMNS:
        table.add_column(title.removesuffix(">"), justify="right" if title.endswith(">") else "left", no_wrap=True)
    for job in jobs:
        table.add_row(*(Text(str(cell)) for cell in _row(job)))
    return table


def _caption(jobs: list[dict[str, Any]], total: int) -> str:
    running = [job for job in jobs if job["state"] == "running"]
    more = f", {total - len(jobs)} more than fit" if total > len(jobs) else ""
    rate = sum(job["rate_mbit_s"] for job in running)
    return f"{len(running)} of {total} jobs run, {rate:.1f} Mbit/s{more}"


def _tell_changes(client: Client, until_idle: bool, interval_s: float, as_json: bool) -> None:
    """What has ended between two looks is asked for by its number."""
    known: dict[int, dict[str, Any]] = {}
    while True:
        current = {job["id"]: job for job in client.get("jobs", limit=MOST)["jobs"]}
        for id in sorted(known.keys() - current.keys()):
            _print_job(client.get("jobs", str(id)), as_json)
        for id, job in sorted(current.items()):
            if id not in known or (known[id]["state"], why_of(known[id])) != (job["state"], why_of(job)):
                _print_job(job, as_json)
        known = current
        if until_idle and not current:
            return
        time.sleep(interval_s)


def _print_job(job: dict[str, Any], as_json: bool) -> None:
    print_json(job) if as_json else print(in_words(job))
    sys.stdout.flush()  # a pipe shall see it now


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    return (
        job["id"],
        job["kind"],
        job["package_id"],
        "" if job["source_version"] is None else job["source_version"],
        PRIORITY_NAMES[job["priority"]],
        job["state"],
        progress_of(job),
        _rate(job),
        _left(job),
        reason_of(job),
    )


def _amount(job: dict[str, Any]) -> str:
    return f"{size(job['done_bytes'])} of {size(job['total_bytes'])}" if job["total_bytes"] else ""


def _rate(job: dict[str, Any]) -> str:
    return f"{job['rate_mbit_s']:.1f} Mbit/s" if job["rate_mbit_s"] else ""


def _left(job: dict[str, Any]) -> str:
    if job["eta_s"] is None:
        return ""
    minutes, seconds = divmod(int(job["eta_s"]), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _moment(at: float) -> str:
    return moment(at) if at else "-"
