# SPDX-License-Identifier: Apache-2.0
"""`dpd session …`: the multicast sessions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import print_fields, print_json, print_table, size

app = typer.Typer(help="Start, watch and stop multicast sessions.", no_args_is_help=True, rich_markup_mode=None)

SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Session ID, as `dpd session list` shows it.")]
COLUMNS = ("SESSION", "PACKAGE", "VERSION>", "STATE", "GROUP", "PASS>", "MBIT/S>", "SENT>", "RECEIVERS>")
MEMBER_COLUMNS = ("RECEIVER", "ADDRESS", "STATE", "SLABS>", "LOST>", "DROPS>", "JOINED>")


@app.command(epilog="Example: dpd session start LAB00001")
def start(
    package: PackageArgument,
    source_version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Open a session before its first receiver joins, or again after it was stopped."""
    body = {"package_id": package, "source_version": source_version}
    _print_session(Client(socket).post("sessions", body=body), as_json)


@app.command("list", epilog="Example: dpd session list --json")
def list_sessions(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the sessions."""
    reply = Client(socket).get("sessions")
    if as_json:
        print_json(reply)
    else:
        print_sessions(reply["sessions"])


@app.command(epilog="Example: dpd session show 1a2b3c4d")
def show(session: SessionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show a session and each of its receivers."""
    _print_session(Client(socket).get("sessions", session), as_json)


@app.command(epilog="Example: dpd session stop 1a2b3c4d")
def stop(session: SessionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """End a session; joins are refused until it is started again."""
    last = Client(socket).delete("sessions", session)
    if as_json:
        print_json(last)
    else:
        print(f"session {last['session_id']} of {last['package_id']} version {last['source_version']}: stopped")


def print_sessions(sessions: list[dict[str, Any]]) -> None:
    """The table of sessions."""
    rows = (
        (
            s["session_id"],
            s["package_id"],
            s["source_version"],
            s["state"],
            f"{s['group']}:{s['port']}",
            s["pass_number"],
            f"{s['rate_mbit_s']:.0f}",
            size(s["bytes_sent"]),
            len(s["members"]),
        )
        for s in sessions
    )
    print_table(COLUMNS, rows, empty="No sessions; the first receiver that joins starts one, or `dpd session start`.")


def _print_session(session: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(session)
        return
    print_fields(
        [
            ("Session", f"{session['session_id']} ({session['state']})"),
            ("Package", f"{session['package_id']} version {session['source_version']}, {session['slabs']} slabs"),
            ("Group", f"{session['group']}:{session['port']}"),
            ("Rate", f"{session['rate_mbit_s']:.1f} Mbit/s, pass {session['pass_number']}"),
            ("Sent", f"{size(session['bytes_sent'])} in {session['datagrams_sent']} datagrams, {session['repairs_sent']} repairs"),
        ]
    )  # fmt: skip
    rows = (
        (
            m["member"],
            m["address"],
            m["state"],
            m["verified_slabs"],
            m["lost"],
            m["socket_drops"],
            f"{m['joined_s_ago']:.0f} s ago",
        )
        for m in session["members"]
    )
    print_table(MEMBER_COLUMNS, rows, empty="No receivers.")
