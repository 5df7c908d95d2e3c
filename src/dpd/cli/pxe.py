# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe …`: what happened at network boots and why, a boot played against the daemon, options for lease servers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from dpd.cli import pxe_options, pxe_test
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json, print_table

app = typer.Typer(help="Look into network boots.", no_args_is_help=True, rich_markup_mode=None)
pxe_test.register(app)
pxe_options.register(app)


@app.command(epilog="Example: dpd pxe show 52:54:00:12:34:56")
def show(
    mac: Annotated[str, typer.Argument(metavar="MAC", help="The machine's network address.")],
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of one machine: what it asked, what it was told, what it fetched."""
    story = Client(socket).get("pxe", "machines", mac)
    if as_json:
        print_json(story)
        return
    rows = (
        (_time(event["at"]), event["event"], " ".join(f"{name}={value}" for name, value in event["fields"].items()))
        for event in story["events"]
    )
    print_table(("TIME", "EVENT", "DETAILS"), rows, empty="")


@app.command(epilog="Example: dpd pxe why 52:54:00:12:34:56")
def why(
    machine: Annotated[str, typer.Argument(metavar="MAC|GUID", help="The machine, by its MAC or GUID.")],
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Tell why a machine did or did not boot: its attempts step by step, the cause, and what to do."""
    told = Client(socket).get("pxe", "machines", machine, "why")
    if as_json:
        print_json(told)
        return
    for number, attempt in enumerate(told["attempts"], 1):
        _print_attempt(number, attempt)
    print_verdict(told)


def _print_attempt(number: int, attempt: dict[str, Any]) -> None:
    began_at = attempt["began_at"]
    print(f"Attempt {number}, {_time(began_at)}")
    for step in attempt["steps"]:
        print(f"  {step['at'] - began_at:+9.3f} s  {step['text']}")
    print()


def print_verdict(told: dict[str, Any]) -> None:
    """The cause, what to do, and what else is not right."""
    others = f" (the same GUID: {', '.join(told['others'])})" if told["others"] else ""
    print(f"Machine: {told['mac'] or 'unknown'}{others}")
    print(f"Cause:   {told['sentence']} [{told['cause']}]")
    print(f"Do:      {told['next_step']}")
    for remark in told["remarks"]:
        print(f"Note:    {remark}")


@app.command("list", epilog="Example: dpd pxe list")
def list_machines(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the machines that asked for a network boot, the latest one last."""
    reply = Client(socket).get("pxe", "machines")
    if as_json:
        print_json(reply)
        return
    for mac in reply["machines"]:
        print(mac)
    if not reply["machines"]:
        print("No machine has asked for a network boot since dpd started.")


def _time(at: float) -> str:
    """To the millisecond, since a boot's steps are that close."""
    return datetime.fromtimestamp(at).strftime("%m-%d %H:%M:%S.%f")[:-3]
