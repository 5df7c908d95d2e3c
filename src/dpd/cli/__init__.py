# SPDX-License-Identifier: Apache-2.0
"""The `dpd` command. What a command needs is imported when it runs, so that each is there at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpd import __version__
from dpd.cli import aiming
from dpd.cli.client import AIM, SITE_SOCKET
from dpd.cli.parts import Front
from dpd.errors import DpdError, SettingsError

app = typer.Typer(
    name="dpd",
    cls=Front,
    help="An open distribution point: network boot and reliable multicast of operating-system images.",
    epilog="Example: dpd content publish install.wim --package LAB00001",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dpd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    dp: Annotated[
        str, typer.Option("--dp", metavar="NAME", help="Ask this distribution point, through the site server.")
    ] = "",
    group: Annotated[
        str,
        typer.Option("--group", metavar="NAME", help='Ask each distribution point of this group; "all" is every one.'),
    ] = "",
    site: Annotated[bool, typer.Option("--site", help="Ask the site server itself.")] = False,
    site_socket: Annotated[str, aiming.site_option()] = SITE_SOCKET,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    aiming.aim(context.invoked_subcommand or "", dp, group, site=site, site_socket=site_socket)


def main(arguments: list[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(given))


def _run(arguments: list[str]) -> int:
    """One run, for whomever it is aimed at; the exit code."""
    before = AIM.get()
    try:
        app(args=arguments, prog_name="dpd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except aiming.GroupAsked as asked:
        return _ask_group(asked, arguments)
    except SettingsError as error:
        return _tell(error, 2)
    except DpdError as error:
        return _tell(aiming.explain(error), 1)
    except BrokenPipeError:  # `dpd … | head`
        sys.stderr.close()
        return 1
    finally:
        AIM.set(before)
    return 0


def _ask_group(asked: aiming.GroupAsked, arguments: list[str]) -> int:
    try:
        return aiming.ask_group(asked, arguments, lambda: _run(arguments))
    except DpdError as error:
        return _tell(error, 1)


def _tell(error: DpdError, code: int) -> int:
    print(f"dpd: {error}", file=sys.stderr)
    return code
