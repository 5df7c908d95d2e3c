# SPDX-License-Identifier: Apache-2.0
"""`dpd root …`: the folders that hold the library's blobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.distribution import NoWaitOption, follow
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json, print_table, size

app = typer.Typer(
    help="Folders that hold content: list, add, set, drain, remove.", no_args_is_help=True, rich_markup_mode=None
)

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d{1,15})(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)


def read_size(text: str) -> int:
    """Bytes: 500M, 20GiB, 1048576; units are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"{text[:40]!r}: expected a size such as 500M, 20GiB or 0")
    return int(found[1]) * _UNITS[(found[2] or "").upper()]


RootArgument = Annotated[int, typer.Argument(metavar="ROOT", min=0, help="The number that `dpd root list` shows.")]
ReserveOption = Annotated[
    int | None,
    typer.Option("--reserve", metavar="SIZE", parser=read_size, help="Leave this much free there, such as 20GiB."),
]


@app.command("list", epilog="Example: dpd root list --json")
def list_roots(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the folders that hold content, in the order in which they are filled."""
    reply = Client(socket).get("roots")
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            root["id"],
            root["state"],
            size(root["free_bytes"]),
            size(root["total_bytes"]),
            size(root["reserve_bytes"]),
            root["blobs"],
            size(root["blob_bytes"]),
            root["path"],
        )
        for root in reply["roots"]
    )
    print_table(("ID>", "STATE", "FREE>", "OF>", "RESERVE>", "BLOBS>", "HOLDS>", "PATH"), rows, empty="No roots.")
    for root in reply["roots"]:
        if root["problem"]:
            print(f"root {root['id']}: {root['problem']}")


@app.command(epilog="Example: dpd root add /mnt/disk2/dpd --reserve 20GiB")
def add(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="It is made if it is not there.")],
    reserve: ReserveOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Take another folder into use; new content goes there when those before it are full."""
    body = {"path": str(path.absolute()), "reserve_bytes": reserve or 0}
    _print_root(Client(socket).post("roots", body=body), as_json)


@app.command("set", epilog="Example: dpd root set 1 --reserve 20GiB")
def change(
    root: RootArgument,
    reserve: ReserveOption = None,
    active: Annotated[
        bool | None, typer.Option("--active/--no-new-content", help="Whether new content may go there.")
    ] = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Change how much of a root stays free, or whether it takes new content."""
    if reserve is None and active is None:
        raise typer.BadParameter("nothing to change; expected --reserve SIZE, --active or --no-new-content")
    given = {"reserve_bytes": reserve, "active": active}
    body = {name: value for name, value in given.items() if value is not None}
    _print_root(Client(socket).patch("roots", str(root), body=body), as_json)


@app.command(epilog="Example: dpd root drain 1")
def drain(
    root: RootArgument,
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Move what a root holds to the other roots, as a job. New content does not go there any more."""
    client = Client(socket)
    follow(client, client.post("roots", str(root), "drain"), no_wait=no_wait, as_json=as_json)


@app.command(epilog="Example: dpd root remove 1")
def remove(root: RootArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take a root out of use that `dpd root drain` has emptied. Its folder stays."""
    removed = Client(socket).delete("roots", str(root))
    if as_json:
        print_json(removed)
    else:
        print(f"root {removed['id']}: {removed['path']} is no root any more")


def _print_root(root: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(root)
    else:
        print(
            f"root {root['id']}: {root['path']} is {root['state']}, {size(root['free_bytes'])} of {size(root['total_bytes'])} free, {size(root['reserve_bytes'])} in reserve"
        )
