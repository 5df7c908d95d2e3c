# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe …`: what happened at network boots."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json, print_table

app = typer.Typer(help="Look into network boots.", no_args_is_help=True, rich_markup_mode=None)


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
