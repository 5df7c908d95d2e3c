# SPDX-License-Identifier: Apache-2.0
"""`dpd computer variable …` and `dpd collection variable …`: what task sequences read at machines."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_json, print_table
from dpd.sequence.variables import HIDDEN
from dpd.site.records import ALL_COMPUTERS, COLLECTION_TARGET, UNKNOWN_COMPUTERS

ComputerArgument = Annotated[str, typer.Argument(metavar="COMPUTER", help="The computer's name.")]
CollectionArgument = Annotated[
    str,
    typer.Argument(metavar="COLLECTION", help='The collection\'s name; "all" known computers, or the "unknown" ones.'),
]
NameArgument = Annotated[str, typer.Argument(metavar="VARIABLE", help="The variable's name, in any case.")]
ValueArgument = Annotated[
    str | None, typer.Argument(metavar="[VALUE]", help="Without it, it is read from standard input, or asked for.")
]
SecretOption = Annotated[
    bool, typer.Option("--secret", help="Give it to machines over TLS alone, and show it to nobody.")
]

of_computer = typer.Typer(help="Variables of a computer: set, list, remove.", no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
of_collection = typer.Typer(
    help='Variables of a collection, or of "all" known or the "unknown" computers: set, list, remove.',
    no_args_is_help=True,
    rich_markup_mode=None,
)


@of_computer.command("set", epilog="Example: dpd computer variable set PC-017 AdminPassword --secret")
def set_of_computer(
    computer: ComputerArgument,
    name: NameArgument,
    value: ValueArgument = None,
    secret: SecretOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Set a variable of a computer; it stands before those of its collections."""
    _set(computer, name, value, secret, socket, as_json)


@of_collection.command("set", epilog="Example: dpd collection variable set lab TimeZone Europe/Berlin")
def set_of_collection(
    collection: CollectionArgument,
    name: NameArgument,
    value: ValueArgument = None,
    secret: SecretOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Set a variable of a collection's computers; one for "all" gives way to those of collections."""
    _set(_target_of(collection), name, value, secret, socket, as_json)


@of_computer.command("list", epilog="Example: dpd computer variable list PC-017")
def list_of_computer(
    computer: ComputerArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False
) -> None:
    """List what a computer's task sequence begins with, and from where each variable is."""
    _list(Client(socket).get("computers", computer, "variables"), computer, as_json)


@of_collection.command("list", epilog="Example: dpd collection variable list all")
def list_of_collection(
    collection: CollectionArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False
) -> None:
    """List the variables of a collection itself."""
    _list(Client(socket).get("variables", target=_target_of(collection)), collection, as_json)


@of_computer.command("remove", epilog="Example: dpd computer variable remove PC-017 AdminPassword")
def remove_of_computer(
    computer: ComputerArgument, name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False
) -> None:
    """Take a variable of a computer out; what its collections say of that name counts again."""
    _remove(computer, name, socket, as_json)


@of_collection.command("remove", epilog="Example: dpd collection variable remove lab TimeZone")
def remove_of_collection(
    collection: CollectionArgument,
    name: NameArgument,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Take a variable of a collection out."""
    _remove(_target_of(collection), name, socket, as_json)


def _target_of(collection: str) -> str:
    is_word = collection.lower() in (ALL_COMPUTERS, UNKNOWN_COMPUTERS)
    return collection.lower() if is_word else COLLECTION_TARGET + collection


def _set(target: str, name: str, value: str | None, secret: bool, socket: str, as_json: bool) -> None:
    body = {"target": target, "name": name, "value": _read_value(name) if value is None else value, "secret": secret}
    told = Client(socket).post("variables", body=body)
    if as_json:
        print_json(told)
    else:
        print(f"{told['name']} for {told['target']}: {HIDDEN if told['secret'] else told['value']}")


def _read_value(name: str) -> str:
    """Where nobody's command line shows it."""
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True, default="", show_default=False))
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def _list(reply: dict[str, list[dict[str, str]]], of: str, as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    rows = ((v["name"], HIDDEN if v["secret"] else v["value"], v["target"]) for v in reply["variables"])
    print_table(("NAME", "VALUE", "FROM"), rows, empty=f"No variables for {of}.")


def _remove(target: str, name: str, socket: str, as_json: bool) -> None:
    gone = Client(socket).delete("variables", target, name)
    if as_json:
        print_json(gone)
    else:
        print(f"{gone['name']} for {gone['target']}: removed")
