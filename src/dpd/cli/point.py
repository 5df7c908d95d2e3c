# SPDX-License-Identifier: Apache-2.0
"""`dpd point …`: the distribution points of a site."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from dpd.cli.aiming import ask_site
from dpd.cli.client import SITE_SOCKET
from dpd.cli.options import JsonOption
from dpd.cli.screen import moment, print_fields, print_json, print_table
from dpd.cli.site_serve import SiteSocketOption

app = typer.Typer(
    help="Distribution points of the site: list, show, add, change, remove. Asks the site server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The distribution point's name: its bus.point.")]
GroupsOption = Annotated[
    list[str] | None, typer.Option("--group", metavar="NAME", help="A group that it is in; may be given again.")
]
UrlOption = Annotated[
    str, typer.Option(metavar="URL", help="Where others fetch content from it, such as http://branch-1:8080.")
]
DescriptionOption = Annotated[str, typer.Option(metavar="TEXT", help="Whatever helps people.")]


@app.command("list", epilog="Example: dpd point list --group branches")
def list_points(
    group: Annotated[str, typer.Option("--group", metavar="NAME", help="Only the points of this group.")] = "all",
    socket: SiteSocketOption = SITE_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List the points: which are there, and how far each is behind the site's policy."""
    reply = ask_site(socket).get("points", group=group)
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            p["name"],
            " ".join(p["groups"]),
            p["state"],
            _seen(p),
            _policy(p),
            p["version"],
            p["pending"],
            p["sessions"],
            p["jobs"],
        )
        for p in reply["points"]
    )
    print_table(
        ("NAME", "GROUPS", "STATE", "LAST SEEN", "POLICY", "VERSION", "PENDING>", "SESSIONS>", "JOBS>"),
        rows,
        empty="No point has been heard or is declared; set bus.url at a distribution point, or `dpd point add NAME` says that one will come.",
    )
    for trouble in dict.fromkeys(p["trouble"] for p in reply["points"] if p["trouble"]):
        print(f"\nTrouble: {trouble}.")


@app.command(epilog="Example: dpd point show branch-1")
def show(name: NameArgument, socket: SiteSocketOption = SITE_SOCKET, as_json: JsonOption = False) -> None:
    """Show one point. `dpd --dp NAME status` asks the point itself."""
    point = ask_site(socket).get("points", name)
    if as_json:
        print_json(point)
        return
    print_fields(
        [
            ("Name", point["name"]),
            ("Description", point["description"] or "-"),
            ("Groups", " ".join(point["groups"]) or "-"),
            ("URL", point["url"] or "-"),
            ("State", f"{point['state']}{'' if point['declared'] else ', not declared'}"),
            ("Last seen", _seen(point)),
            ("dpd", f"{point['version']}, {point['daemon_state']}" if point["version"] else "-"),
            ("Policy", _policy(point)),
            ("Messages", f"{point['backlog']} yet to come"),
            ("Contents", point["contents"]),
            ("Sessions", point["sessions"]),
            ("Jobs", point["jobs"]),
            ("Machines", f"{point['machines']} seen, {point['pending']} wait for approval"),
            *([("Trouble", point["trouble"])] if point["trouble"] else []),
        ]
    )


@app.command(epilog="Example: dpd point add branch-1 --group branches --url http://branch-1:8080")
def add(
    name: NameArgument,
    group: GroupsOption = None,
    url: UrlOption = "",
    description: DescriptionOption = "",
    socket: SiteSocketOption = SITE_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Expect a point. One that is heard without is listed, too; in a group or a boundary is only who is declared."""
    body = {"name": name, "groups": group or [], "url": url, "description": description}
    reply = ask_site(socket).post("points", body=body)
    if as_json:
        print_json(reply)
    else:
        print(f"{name}: declared; `dpd point show {name}` tells when it was heard")


@app.command(epilog="Example: dpd point change branch-1 --group branches --group north")
def change(
    name: NameArgument,
    group: GroupsOption = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help='Where others fetch content from it; "" is nowhere.')
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Whatever helps people.")] = None,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="Take it out of every group.")] = False,
    socket: SiteSocketOption = SITE_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Say something else of a declared point; what is not given stays. Groups that are given take the place of all."""
    groups = [] if no_groups else group
    given = {"groups": groups, "url": url, "description": description}
    body = {key: value for key, value in given.items() if value is not None}
    reply = ask_site(socket).patch("points", name, body=body)
    if as_json:
        print_json(reply)
    else:
        print(f"{name}: changed")


@app.command(epilog="Example: dpd point remove branch-1")
def remove(name: NameArgument, socket: SiteSocketOption = SITE_SOCKET, as_json: JsonOption = False) -> None:
    """Expect a point no longer, and forget what it said. One that goes on talking is listed again."""
    reply = ask_site(socket).delete("points", name)
    if as_json:
        print_json(reply)
    else:
        print(f"{name}: removed; it keeps the last policy until `bus.url` is taken out there")


def _seen(point: dict[str, Any]) -> str:
    if not point["last_seen_at"]:
        return "never"
    if point["state"] == "present":
        return f"{max(0, time.time() - point['last_seen_at']):.0f} s ago"
    return moment(point["last_seen_at"])


def _policy(point: dict[str, Any]) -> str:
    if not point["policy_version"]:
        return "its own" if point["last_seen_at"] else "-"
    lag = point["policy_lag"]
    return f"{point['policy_version']}{f', {lag} behind' if lag else ''}"
