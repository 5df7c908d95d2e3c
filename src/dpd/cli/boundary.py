# SPDX-License-Identifier: Apache-2.0
"""`dpd boundary …`: from which distribution points a network's machines fetch content."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json, print_table

app = typer.Typer(
    help="Boundaries: a network and its distribution points, the best first.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help="Such as 10.1.0.0/16 or fd00:1::/64.")]


@app.command(epilog="Example: dpd boundary add 10.1.0.0/16 --point branch-1 --point hq")
def add(
    network: NetworkArgument,
    point: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A distribution point; given again, the next best.")
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="Where that is.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Say where a network's machines fetch content. The narrowest network that holds a machine goes first."""
    if not point:
        raise typer.BadParameter("expected --point NAME at least once, the best point first")
    body = {"network": network, "points": point, "description": description}
    _told(Client(socket).post("boundaries", body=body), as_json)


def _told(boundary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(boundary)
    else:
        print(f"boundary {boundary['network']}: {', '.join(boundary['points'])}")


@app.command("list", epilog="Example: dpd boundary list")
def list_boundaries(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the boundaries, by network."""
    reply = Client(socket).get("boundaries")
    if as_json:
        print_json(reply)
        return
    rows = ((each["network"], ", ".join(each["points"]), each["description"]) for each in reply["boundaries"])
    print_table(
        ("NETWORK", "POINTS", "DESCRIPTION"),
        rows,
        empty="There is no boundary; `dpd boundary add NETWORK --point NAME` makes one.",
    )


@app.command(epilog="Example: dpd boundary change 10.1.0.0/16 --point hq")
def change(
    network: NetworkArgument,
    point: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="In place of those there are; given again, the next best.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Where that is.")] = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Change the points of a network, or what is said of it."""
    body: dict[str, object] = {}
    if point:
        body["points"] = point
    if description is not None:
        body["description"] = description
    if not body:
        raise typer.BadParameter("expected --point NAME or --description TEXT")
    _told(Client(socket).patch("boundaries", body=body, network=network), as_json)


@app.command(epilog="Example: dpd boundary lookup 10.1.2.3")
def lookup(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A machine's IP address.")],
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Tell where a machine at this address is to fetch content, and why."""
    answer = Client(socket).get("boundaries", "lookup", address=address)
    if as_json:
        print_json(answer)
        return
    rows = ((place, point) for place, point in enumerate(answer["points"], 1))
    print_table(("#>", "POINT"), rows, empty="No point.")
    print(answer["reason"])


@app.command(epilog="Example: dpd boundary remove 10.1.0.0/16")
def remove(network: NetworkArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take the boundary of a network out."""
    boundary = Client(socket).delete("boundaries", network=network)
    if as_json:
        print_json(boundary)
    else:
        print(f"boundary {boundary['network']}: removed")
