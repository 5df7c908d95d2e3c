# SPDX-License-Identifier: Apache-2.0
"""`dpd maintenance …`: content stays as it is, and is handed to nobody."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json

app = typer.Typer(
    help="Maintenance: no new content comes in and none is handed out, while validation goes on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(epilog="Example: dpd maintenance on disk-change")
def on(
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why, for whoever wonders.")],
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Begin maintenance. It holds over restarts."""
    if not reason.strip():
        raise typer.BadParameter("REASON: expected a few words")
    _print(Client(socket).patch("maintenance", body={"reason": reason}), as_json)


@app.command(epilog="Example: dpd maintenance off")
def off(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """End maintenance; jobs go on where they were."""
    _print(Client(socket).patch("maintenance", body={"reason": ""}), as_json)


@app.command(epilog="Example: dpd maintenance show")
def show(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show whether there is maintenance, and why."""
    _print(Client(socket).get("maintenance"), as_json)


def _print(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
    elif status["reason"]:
        print(f"maintenance: {status['reason']}; `dpd maintenance off` ends it")
    else:
        print("no maintenance")
