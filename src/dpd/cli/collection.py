# SPDX-License-Identifier: Apache-2.0
"""`dpd collection …`: known computers that are spoken of as one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, ConfirmOption, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table
from dpd.cli.variable import of_collection

app = typer.Typer(
    help="Collections of computers: by name, by rule, of each other.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(of_collection, name="variable")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection's name.")]
ComputerOption = Annotated[
    list[str] | None, typer.Option("--computer", metavar="NAME", help="This computer; may be given again.")
]
PatternOption = Annotated[
    list[str] | None,
    typer.Option("--name-pattern", metavar="PATTERN", help='Computers of such names, "LAB-*"; may be given again.'),
]
PrefixOption = Annotated[
    list[str] | None,
    typer.Option("--mac-prefix", metavar="MAC", help="Computers whose MAC begins so; may be given again."),
]
GuidOption = Annotated[
    list[str] | None,
    typer.Option("--guid-pattern", metavar="PATTERN", help="Computers of such GUIDs; may be given again."),
]
IncludeOption = Annotated[
    list[str] | None, typer.Option("--include", metavar="COLLECTION", help="Also its members; may be given again.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="COLLECTION", help="Never its members; may be given again.")
]


@app.command(epilog='Example: dpd collection add room-12 --name-pattern "R12-*" --exclude teachers')
def add(
    name: NameArgument,
    computer: ComputerOption = None,
    name_pattern: PatternOption = None,
    mac_prefix: PrefixOption = None,
    guid_pattern: GuidOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Make a collection. Computers belong to it by name, by rule, or by another collection."""
    body = {
        "name": name,
        "computers": computer or [],
        "rules": _rules(name_pattern, mac_prefix, guid_pattern),
        "include": include or [],
        "exclude": exclude or [],
        "description": description,
    }
    _told(Client(socket).post("collections", body=body), as_json)


def _rules(names: list[str] | None, macs: list[str] | None, guids: list[str] | None) -> list[dict[str, str]]:
    given = (("name", names), ("mac_prefix", macs), ("guid", guids))
    return [{"kind": kind, "value": value} for kind, values in given for value in values or ()]


def _told(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
    else:
        count = status["members"]
        print(f"collection {status['collection']['name']}: {count} {'member' if count == 1 else 'members'}")


@app.command("list", epilog="Example: dpd collection list")
def list_collections(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the collections, by name."""
    reply = Client(socket).get("collections")
    if as_json:
        print_json(reply)
        return
    rows = (
        (c["name"], each["members"], _made_of(c), " ".join(map(str, each["deployments"])) or "-", c["description"])
        for each in reply["collections"]
        for c in [each["collection"]]
    )
    print_table(
        ("NAME", "MEMBERS>", "MADE OF", "DEPLOYMENTS", "DESCRIPTION"),
        rows,
        empty="There is no collection; `dpd collection add NAME --name-pattern PATTERN` makes one.",
    )


def _made_of(collection: dict[str, Any]) -> str:
    named = len(collection["computers"])
    parts = [f"{named} named"] if named else []
    parts += [f"{rule['kind']} {rule['value']}" for rule in collection["rules"]]
    parts += [f"+ {each}" for each in collection["include"]]
    parts += [f"- {each}" for each in collection["exclude"]]
    return ", ".join(parts) or "nothing"


@app.command(epilog="Example: dpd collection show room-12")
def show(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show what a collection is made of."""
    status = Client(socket).get("collections", name)
    if as_json:
        print_json(status)
        return
    collection = status["collection"]
    rules = ", ".join(f"{rule['kind']} {rule['value']}" for rule in collection["rules"])
    print_fields(
        [
            ("Name", collection["name"]),
            ("Description", collection["description"] or "-"),
            ("Members", status["members"]),
            ("Named", " ".join(collection["computers"]) or "-"),
            ("Rules", rules or "-"),
            ("Includes", " ".join(collection["include"]) or "-"),
            ("Excludes", " ".join(collection["exclude"]) or "-"),
            ("Deployments", " ".join(map(str, status["deployments"])) or "-"),
            ("Added", moment(collection["added_at"])),
        ]
    )


@app.command(epilog="Example: dpd collection members room-12")
def members(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the computers that belong to a collection now, and by what."""
    reply = Client(socket).get("collections", name, "members")
    if as_json:
        print_json(reply)
        return
    rows = ((c["name"], " ".join(c["macs"]), each["why"]) for each in reply["members"] for c in [each["computer"]])
    print_table(
        ("NAME", "MAC", "BY"),
        rows,
        empty=f"No computer belongs to it; `dpd collection show {name}` shows what it is made of.",
    )


@app.command(epilog="Example: dpd collection change room-12 --add PC-017 --remove PC-018")
def change(
    name: NameArgument,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="COMPUTER", help="Name it too; may be given again.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="COMPUTER", help="Name it no longer; may be given again.")
    ] = None,
    name_pattern: PatternOption = None,
    mac_prefix: PrefixOption = None,
    guid_pattern: GuidOption = None,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="Without rules.")] = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    no_links: Annotated[bool, typer.Option("--no-links", help="Without other collections.")] = False,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    confirm: ConfirmOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Change a collection: name computers or not; rules, or other collections, that are given stand in place of those there are."""
    rules = _rules(name_pattern, mac_prefix, guid_pattern)
    client, body = Client(socket), _changes(rules, include, exclude, no_rules=no_rules, no_links=no_links)
    if description is not None:
        body["description"] = description
    if not (body or add or remove):
        raise typer.BadParameter("expected something to change, such as --add COMPUTER; `dpd collection change --help`")
    confirmed: dict[str, Any] = {} if confirm is None else {"confirm": confirm}
    if body:
        status = client.patch("collections", name, body=body | confirmed)
    for computer in remove or ():
        status = client.delete("collections", name, "members", computer)
    if add:
        status = client.post("collections", name, "members", body={"computers": add} | confirmed)
    _told(status, as_json)


def _changes(
    rules: list[dict[str, str]], include: list[str] | None, exclude: list[str] | None, *, no_rules: bool, no_links: bool
) -> dict[str, Any]:
    """What is not given stays as it is."""
    if (no_rules and rules) or (no_links and (include or exclude)):
        raise typer.BadParameter("expected either --no-rules or rules, either --no-links or --include and --exclude")
    body: dict[str, Any] = {"rules": rules} if rules or no_rules else {}
    body |= {"include": include or []} if include or no_links else {}
    return body | ({"exclude": exclude or []} if exclude or no_links else {})


@app.command(epilog="Example: dpd collection remove room-12")
def remove(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take a collection out; its computers stay known. Its deployments go before it."""
    collection = Client(socket).delete("collections", name)
    if as_json:
        print_json(collection)
    else:
        print(f"collection {collection['name']}: removed")
