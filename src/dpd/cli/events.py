# SPDX-License-Identifier: Apache-2.0
"""`dpd events`: what happens in the sessions."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment

WAIT_S = 25.0  # below the client's own patience
PAUSE_S = 0.5  # where the daemon answers at once although there is nothing: it is about to end

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Wait for what comes, until interrupted.")]
AfterOption = Annotated[
    int, typer.Option("--after", metavar="ID", min=0, help="Only events behind this one; ids are in --json.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("events", epilog="Example: dpd events --follow")(events)


def events(
    follow: FollowOption = False,
    after: AfterOption = 0,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show what happened in multicast sessions, jobs and content, one line each. With --json a line is one
    JSON object."""
    client = Client(socket)
    try:
        after = _print_from(client, after, as_json)
        while follow:
            after = _print_from(client, after, as_json, wait_s=WAIT_S)
    except KeyboardInterrupt:
        return


def _print_from(client: Client, after: int, as_json: bool, wait_s: float = 0.0) -> int:
    """Print what is there, a page at a time. Returns what to ask behind next."""
    asked_at = time.monotonic()
    reply = client.get("events", after=after, wait_s=wait_s)
    while reply["events"]:
        for event in reply["events"]:
            print(json.dumps(event, ensure_ascii=False) if as_json else _line(event), flush=True)
        after = reply["latest"]
        reply = client.get("events", after=after)
    if wait_s and time.monotonic() - asked_at < PAUSE_S:
        time.sleep(PAUSE_S)
    return after


def _line(event: dict[str, Any]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in event["fields"].items() if value != "")
    return f"{moment(event['at'])}  {event['event'].replace('_', ' ')}  {fields}"
