# SPDX-License-Identifier: Apache-2.0
"""`dpd source …`: where content is pulled from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_fields, print_json, print_table
from dpd.errors import DpdError

app = typer.Typer(
    help="Where content is pulled from: list, test, forget a key.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the settings call it.")]


class SourceUseless(DpdError):
    """A source of which nothing can be pulled as it is now."""


@app.command("list", epilog="Example: dpd source list --json")
def list_sources(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the sources: whether each answers, how fast, and whether its key is known."""
    reply = Client(socket).get("sources")
    if as_json:
        print_json(reply)
        return
    rows = (
        (source["name"], source["priority"], _reached(source), _latency(source), source["key_state"], source["url"])
        for source in reply["sources"]
    )
    print_table(
        ("NAME", "PRIORITY>", "ANSWERS", "LATENCY>", "KEY", "URL"),
        rows,
        empty="No source; add [[distribution.source]] with a name and a url to the settings.",
    )
    for source in reply["sources"]:
        if source["error"]:
            print(f"{source['name']}: {source['error']}")


@app.command("test", epilog="Example: dpd source test hq")
def look(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Ask one source who it is. Fails where nothing could be pulled from it now."""
    source = Client(socket).get("sources", name)
    if as_json:
        print_json(source)
    else:
        _print_source(source)
    if source["error"]:
        raise SourceUseless(f"{name}: {source['error']}")


@app.command(epilog="Example: dpd source forget hq")
def forget(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Forget the key that was pinned for a source: the next pull pins the one that it has now."""
    source = Client(socket).delete("sources", name, "key")
    if as_json:
        print_json(source)
        return
    offered = source["offered_key"] or "which cannot be asked now"
    print(f"{name}: the next pull pins its key, {offered}")


def _print_source(source: dict[str, Any]) -> None:
    print_fields(
        [
            ("URL", source["url"]),
            ("Priority", source["priority"]),
            ("Answers", _reached(source)),
            ("Latency", _latency(source)),
            ("Key", source["key"] or "pinned at the first pull"),
            ("Key is", source["key_state"]),
            ("Offers key", source["offered_key"] or "-"),
        ]
    )


def _reached(source: dict[str, Any]) -> str:
    return "yes" if source["is_reachable"] else "no"


def _latency(source: dict[str, Any]) -> str:
    return "-" if source["latency_ms"] is None else f"{source['latency_ms']:.1f} ms"
