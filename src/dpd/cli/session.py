# SPDX-License-Identifier: Apache-2.0
"""`dpd session …`: the multicast sessions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import print_fields, print_json, print_table, size
from dpd.cli.times import read_duration, read_moment

app = typer.Typer(help="Start, watch and stop multicast sessions.", no_args_is_help=True, rich_markup_mode=None)

SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Session ID, as `dpd session list` shows it.")]
MemberArgument = Annotated[str, typer.Argument(metavar="MEMBER", help="A receiver, as `dpd session members` shows it.")]
MegabitArgument = Annotated[float, typer.Argument(metavar="MBIT", min=0, help="Mbit/s on the wire; 0 is no ceiling.")]
ClientsOption = Annotated[
    int | None,
    typer.Option("--minimum-clients", metavar="N", min=0, help="Wait until so many receivers have joined."),
]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait", metavar="TIME", parser=read_duration, help="But no longer than this after the first, such as 10m."
    ),
]
AtOption = Annotated[
    float | None,
    typer.Option(
        "--at", metavar="MOMENT", parser=read_moment, help="And not before this, such as 2026-11-21T20:00 (local time)."
    ),
]
RateOption = Annotated[
    float | None, typer.Option("--rate", metavar="MBIT", min=0, help="Ceiling in Mbit/s on the wire; 0 is none.")
]
MaximumOption = Annotated[
    int | None, typer.Option("--maximum-clients", metavar="N", min=1, help="Receivers by multicast; others go by HTTP.")
]

COLUMNS = ("SESSION", "PACKAGE", "VERSION>", "STATE", "GROUP", "PASS>", "MBIT/S>", "SENT>", "RECEIVERS>")
STREAM_COLUMNS = ("CLASS>", "GROUP", "RECEIVERS>", "PASS>", "MBIT/S>", "SENT>", "REPAIRS>")
MEMBER_COLUMNS = ("RECEIVER", "HOST", "ADDRESS", "BY", "CLASS>", "STATE", "SLABS>", "LOST>", "DROPS>", "BLAME>", "KIB/S>", "RTT MS>", "HTTP>", "JOINED>")  # fmt: skip


@app.command(
    epilog="Example: dpd session start LAB00001 --minimum-clients 8 --wait 10m --at 2026-11-21T20:00 --rate 500"
)
def start(
    package: PackageArgument,
    source_version: VersionOption = None,
    minimum_clients: ClientsOption = None,
    wait: WaitOption = None,
    at: AtOption = None,
    rate: RateOption = None,
    maximum_clients: MaximumOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Open a session before its first receiver joins, or again after it was stopped.

    Without options it is an autocast: it sends as soon as receivers join. A scheduled cast sends nothing before --at. From
    then on it sends as soon as --minimum-clients have joined, or --wait has passed since the first of them did, whichever
    comes first. `dpd session now` starts it whatever it waits for. Who joins later gets what it missed in the next pass.
    """
    body = {
        "package_id": package,
        "source_version": source_version,
        "minimum_clients": minimum_clients,
        "wait_s": wait,
        "start_at": at,
        "rate_mbit_s": rate,
        "max_clients": maximum_clients,
    }
    _print_session(Client(socket).post("sessions", body=body), as_json)


@app.command(epilog="Example: dpd session now 1a2b3c4d")
def now(session: SessionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Send to the receivers that wait, whatever the session waits for."""
    _print_session(Client(socket).post("sessions", session, "start"), as_json)


@app.command(epilog="Example: dpd session rate 1a2b3c4d 500")
def rate(
    session: SessionArgument,
    mbit: MegabitArgument,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Change the ceiling of a running session at once."""
    _print_session(Client(socket).patch("sessions", session, body={"rate_mbit_s": mbit}), as_json)


@app.command(epilog="Example: dpd session uplink 2000")
def uplink(
    mbit: Annotated[float | None, typer.Argument(metavar="[MBIT]", min=0, help="A new one; 0 is none.")] = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show or change the ceiling that all sessions share fairly. A change holds until the setting is changed."""
    client = Client(socket)
    reply = client.get("multicast") if mbit is None else client.patch("multicast", body={"uplink_mbit_s": mbit})
    if as_json:
        print_json(reply)
    else:
        print(f"uplink: {_rate(reply['uplink_mbit_s'])}")


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


@app.command(epilog="Example: dpd session members 1a2b3c4d --json")
def members(session: SessionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show the receivers of a session, also those that are gone; --json has all that they count."""
    _print_members(Client(socket).get("sessions", session, "members"), as_json)


@app.command(epilog="Example: dpd session move 1a2b3c4d 5e6f7a8b --class 1")
def move(
    session: SessionArgument,
    member: MemberArgument,
    speed_class: Annotated[int, typer.Option("--class", metavar="N", min=0, max=2, help="0 is the fastest stream.")],
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Put a receiver into a slower or faster stream; it keeps what it has."""
    body = {"speed_class": speed_class}
    _print_members(Client(socket).post("sessions", session, "members", member, "move", body=body), as_json)


@app.command(epilog="Example: dpd session kick 1a2b3c4d 5e6f7a8b --no-fall-back")
def kick(
    session: SessionArgument,
    member: MemberArgument,
    fall_back: Annotated[
        bool, typer.Option("--fall-back/--no-fall-back", help="Whether it goes on by HTTP; else its transfer fails.")
    ] = True,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Take a receiver out of a session. Without fall-back it cannot join again until the session has ended."""
    body = {"fall_back": fall_back}
    _print_members(Client(socket).post("sessions", session, "members", member, "kick", body=body), as_json)


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
            _state(s),
            _endpoint(s),
            s["pass_number"],
            f"{s['rate_mbit_s']:.0f}",
            size(s["bytes_sent"]),
            len(s["members"]),
        )
        for s in sessions
    )
    print_table(COLUMNS, rows, empty="No sessions; the first receiver that joins starts one, or `dpd session start`.")


def _state(session: dict[str, Any]) -> str:
    return session["waiting"] or str(session["state"])


def _endpoint(stream: dict[str, Any]) -> str:
    group = f"[{stream['group']}]" if ":" in stream["group"] else stream["group"]
    return f"{group}:{stream['port']}"


def _rate(mbit_s: float) -> str:
    return f"at most {mbit_s:g} Mbit/s" if mbit_s else "no ceiling"


def _rates(session: dict[str, Any]) -> str:
    """The session's own ceiling, and its part of the uplink where that is another."""
    part = sum(stream["rate_mbit_s"] for stream in session["streams"])
    own = _rate(session["rate_mbit_s"])
    return own if abs(part - session["rate_mbit_s"]) < 1 else f"{own}, {part:g} Mbit/s of the uplink now"


def _print_session(session: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(session)
        return
    print_fields(
        [
            ("Session", f"{session['session_id']} ({_state(session)})"),
            ("Package", f"{session['package_id']} version {session['source_version']}, {session['slabs']} slabs"),
            ("Group", _endpoint(session) + (", encrypted" if session["is_encrypted"] else "")),
            ("Rate", f"{_rates(session)}, pass {session['pass_number']}"),
            ("Sent", f"{size(session['bytes_sent'])} in {session['datagrams_sent']} datagrams, {session['repairs_sent']} repairs"),
        ]
    )  # fmt: skip
    if len(session["streams"]) > 1:
        _print_streams(session["streams"])
    _print_members(session, as_json=False)


def _print_streams(streams: list[dict[str, Any]]) -> None:
    rows = (
        (
            s["speed_class"],
            _endpoint(s),
            s["members"],
            s["pass_number"],
            f"{s['rate_mbit_s']:.0f}",
            size(s["bytes_sent"]),
            s["repairs_sent"],
        )
        for s in streams
    )
    print_table(STREAM_COLUMNS, rows, empty="")


def _print_members(reply: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            m["member"],
            m["name"],
            m["address"],
            m["mode"],
            m["speed_class"],
            m["state"],
            m["verified_slabs"],
            m["lost"],
            m["socket_drops"],
            m["blame"],
            m["drain_kib_s"],
            f"{m['round_trip_ms']:.1f}",
            size(m["bytes_unicast"]),
            f"{m['joined_s_ago']:.0f} s ago",
        )
        for m in reply["members"]
    )
    print_table(MEMBER_COLUMNS, rows, empty="No receivers.")
