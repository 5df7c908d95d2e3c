# SPDX-License-Identifier: Apache-2.0
"""`dpd events`: the status messages, those that are there and those that come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from dpd.cli.client import Client, DaemonUnreachable, RefusedByDaemon
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_json, print_table

LINES, LINES_BEFORE = 1000, 10  # that are shown without --lines, alone and before what is followed
PAGE = 1000
RECONNECT_S = 1.0
# What a daemon that is back will not take either.
FINAL = frozenset({"bad_request", "unauthorized", "forbidden", "no_json", "http_404", "http_405"})

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Wait for what comes, until interrupted.")]
AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="POSITION", help="All behind this one, 0 is the beginning; positions are in --json."
    ),
]
LinesOption = Annotated[
    int | None, typer.Option("--lines", "-n", metavar="N", min=1, max=PAGE, help="The newest N instead of 1000.")
]
SeverityOption = Annotated[
    str, typer.Option("--severity", metavar="LEVEL", help="Only what is at least: info, warning or error.")
]
CatalogueOption = Annotated[
    bool, typer.Option("--catalogue", help="Show which messages there are, with their numbers; asks no daemon.")
]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown, and how."""

    severity: str
    as_json: bool


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("events", epilog="Example: dpd events --follow --severity warning")(events)


def events(
    follow: FollowOption = False,
    after: AfterOption = None,
    lines: LinesOption = None,
    severity: SeverityOption = "info",
    catalogue: CatalogueOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show the status messages: what happened in boots, sessions, jobs and content, one line each. They outlive a restart of
    the daemon, and so does --follow. With --json a line is one JSON object."""
    if catalogue:
        _show_catalogue(as_json)
        return
    if lines is not None and after is not None:
        raise typer.BadParameter("--lines and --after are two beginnings; give one of them")
    client, wish = Client(socket), Wish(severity, as_json)
    try:
        if after is None:
            newest = client.get("messages", limit=lines or (LINES_BEFORE if follow else LINES), severity=severity)
            position = _show_page(newest, wish)
        else:
            position = _show_all(client, after, wish)
        if follow:
            _follow(client, position, wish)
    except KeyboardInterrupt:
        return


def _show_catalogue(as_json: bool) -> None:
    from dpd.telemetry.status_messages import CATALOGUE  # no other run of this command needs it

    known = sorted(CATALOGUE.items(), key=lambda item: item[1].message_id)
    if as_json:
        print_json(
            [
                {"message_id": each.message_id, "severity": each.severity, "event": event, "sentence": each.sentence}
                for event, each in known
            ]
        )
    else:
        rows = [(each.message_id, each.severity, event, each.sentence) for event, each in known]
        print_table(("Number>", "Severity", "Event", "Sentence"), rows, empty="")


def _show_all(client: Client, position: str, wish: Wish) -> str:
    """Everything behind a position; where to go on."""
    while True:
        page = client.get("messages", after=position, limit=PAGE, severity=wish.severity)
        before, position = position, _show_page(page, wish)
        if position == before or not page["messages"]:
            return position


def _show_page(page: dict[str, Any], wish: Wish) -> str:
    if page["missed"]:
        _warn_missed(page["missed"])
    for message in page["messages"]:
        _show(message, wish)
    position: str = page["position"]
    return position


def _follow(client: Client, position: str, wish: Wish) -> None:
    """For ever: a daemon that goes comes back, and the position says where to go on."""
    is_told = False
    while True:
        why = "dpd ended the stream"
        try:
            for kind, id, payload in server_sent(
                client.stream("events", "stream", after=position, severity=wish.severity)
            ):
                is_told = False
                if kind == "missed":
                    _warn_missed(json.loads(payload))
                elif payload:
                    _show(json.loads(payload), wish)
                position = id or position
        except DaemonUnreachable as error:
            why = str(error)
        except RefusedByDaemon as error:
            if error.code in FINAL:
                raise
            why = str(error)
        if not is_told:
            print(f"dpd: {why}; waiting for it to come back", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(RECONNECT_S)


def server_sent(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """Kind, id and data of each event that came whole; a heartbeat has no data."""
    kind = id = payload = ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield kind or "message", id, payload
            kind = id = payload = ""
        elif name == "event":
            kind = value
        elif name == "id":
            id = value
        elif name == "data":
            payload += value


def _warn_missed(missed: dict[str, int]) -> None:
    count = missed["last"] - missed["first"] + 1
    print(
        f"dpd: {count} status messages had made room for newer ones before they were asked for",
        file=sys.stderr,
        flush=True,
    )


def _show(message: dict[str, Any], wish: Wish) -> None:
    print(json.dumps(message, ensure_ascii=False) if wish.as_json else _line(message), flush=True)


def _line(message: dict[str, Any]) -> str:
    point = message["fields"].get("point")
    where = f"{point}: " if point else ""
    return f"{moment(message['at'])}  {message['severity']:<7}  {where}{message['text']}"
