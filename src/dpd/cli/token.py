# SPDX-License-Identifier: Apache-2.0
"""`dpd token …`: who may ask over TCP. Works on the file of the settings, with or without a daemon that runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpd.cli.options import JsonOption
from dpd.cli.screen import print_json, print_table
from dpd.cli.serve import NAMED, load_named
from dpd.errors import SettingsError

if TYPE_CHECKING:
    from dpd.control.access.callers import Role as ControlRole
    from dpd.settings import Settings

app = typer.Typer(help="Tokens of the API on TCP: add, list, remove.", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """control.access.Role, which is not imported until a command runs."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is; the audit has this name.")]
ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help=f"Settings file; without it {NAMED}.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="The roles file, instead of control.roles_file.")
]


@app.command(epilog="Example: dpd token add site --role operator")
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What its bearer may do.")] = Role.VIEWER,
    config: ConfigOption = None,
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once: the file keeps its hash. A daemon that runs knows it at once."""
    from dpd.control.access.callers import Role as Known
    from dpd.control.access.roles_file import add_token

    path, group = _place(config, file)
    known: ControlRole = Known(role.value)
    token = add_token(path, name, known, group=group)
    if as_json:
        print_json({"name": name, "role": role.value, "token": token, "file": str(path)})
    else:
        print(token)
        print(f"{name} is {role.value} by this token; it is shown this once, {path} has its hash", file=sys.stderr)


@app.command("list", epilog="Example: dpd token list --json")
def list_tokens(config: ConfigOption = None, file: FileOption = None, as_json: JsonOption = False) -> None:
    """List who is known by a token or a certificate, and in which role. Tokens themselves are nowhere."""
    from dpd.control.access.roles_file import read_roles

    path, _ = _place(config, file)
    roles = read_roles(path)
    rows = [("token", each.name, str(each.role)) for each in roles.tokens]
    rows += [("certificate", each.name, str(each.role)) for each in roles.certificates]
    if as_json:
        print_json([{"kind": kind, "name": name, "role": role} for kind, name, role in rows])
    else:
        print_table(
            ("KIND", "NAME", "ROLE"), rows, empty=f"Nobody is known by {path}; `dpd token add NAME` makes a token."
        )


@app.command(epilog="Example: dpd token remove site")
def remove(
    name: NameArgument, config: ConfigOption = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """Take a token back: its next request is refused."""
    from dpd.control.access.roles_file import remove_token

    path, _ = _place(config, file)
    removed = remove_token(path, name)
    if as_json:
        print_json({"name": removed.name, "role": str(removed.role), "file": str(path)})
    else:
        print(f"{removed.name}: was {removed.role}, and is known no more")


def _place(config: Path | None, file: Path | None) -> tuple[Path, int | None]:
    """The roles file, and the group of the daemon, which is that of its state."""
    settings, _ = load_named(config)
    group = _group_of(settings)
    if file is not None:
        return file.absolute(), group
    if not settings.control.roles_file:
        raise SettingsError(
            f'{settings.path or "defaults"}: control.roles_file = "": expected the path of a file to write, such as "/etc/dpd/roles.toml"; set it there, or give --file'
        )
    return Path(settings.control.roles_file), group


def _group_of(settings: Settings) -> int | None:
    try:
        return Path(settings.daemon.state_dir).stat().st_gid
    except OSError:
        return None
