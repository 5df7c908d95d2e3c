# SPDX-License-Identifier: Apache-2.0
"""`dpd deploy …`: machines that run a task sequence: which are where, what they said, and taking one back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from dpd.cli import deploy_watch
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table, size

app = typer.Typer(
    help="Deployments under way: watch, list, show, history, log, cancel.", no_args_is_help=True, rich_markup_mode=None
)

PAGE = 1000
_LIST_COLUMNS = ("EXECUTION", "MACHINE", "DEPLOYMENT>", "SEQUENCE", "STATE", "STARTED", "TOOK>", "STEP", "MESSAGE")
_STEP_COLUMNS = ("STEP", "NAME", "KIND", "STATE", "STARTED", "TOOK>", "TRIES>", "BYTES>", "MESSAGE")
_REPORT_COLUMNS = ("NUMBER>", "AT", "STEP", "SAID", "MESSAGE")
_CAPTURE_COLUMNS = ("CAPTURE", "MACHINE", "PACKAGE", "VERSION>", "STATE", "HERE>", "OF>", "SINCE", "ERROR")

ExecutionArgument = Annotated[
    str, typer.Argument(metavar="EXECUTION", help="The digits that `dpd deploy list` shows, or a machine: its newest.")
]
MachineOption = Annotated[
    str | None, typer.Option("--machine", metavar="NAME", help="Only of this computer, by its name or MAC.")
]
DeploymentOption = Annotated[
    int | None, typer.Option("--deployment", metavar="ID", min=1, help="Only of this deployment.")
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")]


@app.command(epilog="Example: dpd deploy watch --deployment 7")
def watch(
    machine: MachineOption = None,
    deployment: DeploymentOption = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when none is under way; with 1 where one did not get done.")
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Watch machines go through their steps, until interrupted: a table on a terminal, else a line for each change.

    In STEPS each step has a mark: · waits, ▶ runs, ↻ restarts, ✓ done, ✗ failed, – skipped.
    """
    try:
        code = deploy_watch.watch(
            Client(socket), until_done=until_done, as_json=as_json, machine=machine, deployment=deployment
        )
    except KeyboardInterrupt:
        return
    raise typer.Exit(code if until_done else 0)


@app.command("list", epilog="Example: dpd deploy list --state failed")
def list_executions(
    machine: MachineOption = None,
    deployment: DeploymentOption = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="open, ended, or one of running, restarting, done, failed, cancelled, lost.",
        ),
    ] = None,
    limit: LimitOption = 100,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List machines that run a task sequence or have, the newest first."""
    found = list(islice(_executions(Client(socket), limit, machine=machine, deployment=deployment, state=state), limit))
    if as_json:
        print_json({"executions": found})
        return
    _print_list(
        found,
        empty="Nothing has been deployed; `dpd deployment add --sequence NAME` deploys a task sequence.",
    )


@app.command(epilog="Example: dpd deploy history PC-017")
def history(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A computer's name, or a MAC.")],
    limit: LimitOption = 100,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List what was deployed to one computer, the newest first."""
    found = list(islice(_executions(Client(socket), limit, machine=machine), limit))
    if as_json:
        print_json({"executions": found})
        return
    _print_list(found, empty=f"Nothing has been deployed to {machine}.")


@app.command(epilog="Example: dpd deploy show PC-017 --reports")
def show(
    execution: ExecutionArgument,
    reports: Annotated[bool, typer.Option("--reports", help="Also all that the machine said.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show one execution with each of its steps."""
    client = Client(socket)
    found = client.get("executions", _id_of(client, execution))
    said = list(_reports(client, found["execution"]["id"])) if reports else []
    if as_json:
        print_json(found | ({"reports": said} if reports else {}))
        return
    _print_execution(found)
    if reports:
        rows = ((each["number"], moment(each["at"]), each["step"], each["state"], each["message"]) for each in said)
        print()
        print_table(_REPORT_COLUMNS, rows, empty="It has said nothing yet.")


@app.command("log", epilog="Example: dpd deploy log PC-017")
def show_log(execution: ExecutionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Print the log that a machine left when its sequence failed."""
    client = Client(socket)
    reply = client.get("executions", _id_of(client, execution), "log")
    if as_json:
        print_json(reply)
    else:
        print(reply["text"], end="" if reply["text"].endswith("\n") else "\n")


@app.command(epilog="Example: dpd deploy cancel PC-017 --reason moved")
def cancel(
    execution: ExecutionArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown at the machine.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Tell a machine to stop its task sequence. It does so behind the piece of work that it is at; what it has done stays done."""
    client = Client(socket)
    found = client.post("executions", _id_of(client, execution), "cancel", body={"reason": reason})
    if as_json:
        print_json(found)
    else:
        told = found["execution"]
        print(
            f"{deploy_watch.who(told)} is told to stop: {told['cancel_reason']}; `dpd deploy show {told['id']}` tells when it has"
        )


@app.command(epilog="Example: dpd deploy captures")
def captures(limit: LimitOption = 100, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List captured images on their way in, and those that came, the newest first."""
    reply = Client(socket).get("captures", limit=min(limit, PAGE))
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            each["id"],
            each["machine"],
            each["package_id"],
            each["source_version"] or "-",
            each["state"],
            size(each["kept_bytes"]),
            size(each["size_bytes"]),
            moment(each["started_at"]),
            each["error"],
        )
        for each in reply["captures"]
    )
    print_table(_CAPTURE_COLUMNS, rows, empty="Nothing has been captured; a task sequence with capture_image does.")


def _executions(client: Client, limit: int, **query: object) -> Iterator[dict[str, Any]]:
    before = None
    while True:
        asked = min(limit, PAGE)
        reply = client.get("executions", before=before, limit=asked, **query)
        page = reply["executions"]
        for each in reply.get("unanswered", ()):
            print(f"dpd: {each['point']}: {each['message']}; what was deployed there is not shown", file=sys.stderr)
        yield from page
        if len(page) < asked:
            return
        before = page[-1]["id"]


def _reports(client: Client, id: str) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        page = client.get("executions", id, "reports", after=after, limit=PAGE)["reports"]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["number"]


def _id_of(client: Client, given: str) -> str:
    """An execution's own digits, or of the newest of a machine."""
    if len(given) == 16 and set(given) <= set("0123456789abcdef"):
        return given
    found = client.get("executions", machine=given, limit=1)["executions"]
    if not found:
        raise typer.BadParameter(
            f"{given}: no execution, and no machine that was deployed; `dpd deploy list` shows them"
        )
    return str(found[0]["id"])


def _print_list(executions: list[dict[str, Any]], *, empty: str) -> None:
    """With the point of each, where a site server told them."""
    if not any("point" in each for each in executions):
        print_table(_LIST_COLUMNS, map(_list_row, executions), empty=empty)
        return
    id, machine, *columns = _LIST_COLUMNS
    rows = ((row[0], row[1], each["point"], *row[2:]) for each, row in ((each, _list_row(each)) for each in executions))
    print_table((id, machine, "POINT", *columns), rows, empty=empty)


def _list_row(execution: dict[str, Any]) -> tuple[object, ...]:
    return (
        execution["id"],
        deploy_watch.who(execution),
        execution["deployment"],
        f"{execution['sequence']}@{execution['version']}",
        deploy_watch.shown_state(execution),
        moment(execution["started_at"]),
        _took(execution["started_at"], execution["ended_at"]),
        deploy_watch.step_of(execution),
        deploy_watch.said_of(execution),
    )


def _print_execution(found: dict[str, Any]) -> None:
    execution = found["execution"]
    stopping = execution["cancel_reason"]
    fields = [
        ("Execution", execution["id"]),
        ("Machine", f"{deploy_watch.who(execution)} ({execution['mac']})"),
        ("Sequence", f"{execution['sequence']} version {execution['version']}, deployment {execution['deployment']}"),
        ("State", deploy_watch.shown_state(execution)),
        ("Started", moment(execution["started_at"])),
        ("Ended", moment(execution["ended_at"]) if execution["ended_at"] else "-"),
        ("Heard", moment(execution["heard_at"])),
        ("Message", execution["message"] or "-"),
        *([("Error", execution["error"])] if execution["error"] else []),
        *([("Try", execution["next_step"])] if execution["next_step"] else []),
        *([("Told to stop", f"{stopping} ({found['cancel_actor'] or 'dpd'})")] if stopping else []),
        ("Log", f"{size(execution['log_bytes'])}: `dpd deploy log {execution['id']}`" if execution["log_bytes"] else "-"),
    ]  # fmt: skip
    print_fields(fields)
    print()
    print_table(_STEP_COLUMNS, map(_step_row, found["steps"]), empty="The sequence has no steps.")


def _step_row(step: dict[str, Any]) -> tuple[object, ...]:
    return (
        step["id"],
        step["name"],
        step["kind"],
        step["state"],
        moment(step["started_at"]) if step["started_at"] else "-",
        _took(step["started_at"], step["ended_at"]),
        step["attempts"] or "-",
        size(step["done_bytes"]) if step["done_bytes"] else "-",
        step["message"],
    )


def _took(started_at: float, ended_at: float) -> str:
    if not started_at or not ended_at:
        return "-"
    minutes, seconds = divmod(round(ended_at - started_at), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
