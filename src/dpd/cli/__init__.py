# SPDX-License-Identifier: Apache-2.0
"""The `dpd` command. Modules behind a command are imported when it runs, so that `dpd --help` is there at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpd import __version__
from dpd.cli import (
    aiming,
    boot_file,
    boot_image,
    boundary,
    bundle,
    bus,
    collection,
    computer,
    content,
    demo,
    deploy,
    deployment,
    distribution,
    events,
    job,
    maintenance,
    mc_test,
    point,
    policy,
    pxe,
    pxe_approval,
    receive,
    root,
    sequence,
    serve,
    session,
    site,
    source,
    status,
    token,
    validation,
    wim,
)
from dpd.cli.client import AIM, SITE_SOCKET
from dpd.errors import DpdError, SettingsError

app = typer.Typer(
    name="dpd",
    help="An open distribution point: network boot and reliable multicast of operating-system images.",
    epilog="Example: dpd content add install.wim --package LAB00001",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
serve.register(app)
receive.register(app)
mc_test.register(app)
app.add_typer(content.app, name="content")
distribution.register(content.app)
wim.register(content.app)
app.add_typer(root.app, name="root")
app.add_typer(source.app, name="source")
app.add_typer(bundle.app, name="bundle")
app.add_typer(validation.app, name="validation")
app.add_typer(job.app, name="job")
app.add_typer(maintenance.app, name="maintenance")
app.add_typer(sequence.app, name="sequence")
app.add_typer(boot_file.app, name="boot-file")
app.add_typer(boot_image.app, name="boot-image")
app.add_typer(session.app, name="session")
app.add_typer(pxe.app, name="pxe")
pxe_approval.register(pxe.app)
app.add_typer(computer.app, name="computer")
app.add_typer(deployment.app, name="deployment")
app.add_typer(deploy.app, name="deploy")
app.add_typer(collection.app, name="collection")
app.add_typer(boundary.app, name="boundary")
app.add_typer(policy.app, name="policy")
app.add_typer(site.app, name="site")
app.add_typer(point.app, name="point")
app.add_typer(bus.app, name="bus")
app.add_typer(token.app, name="token")
status.register(app)
events.register(app)
# A command with a front of its own (`receive`, `demo`) registers here, by `register(app)` in its module.
demo.register(app)


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
        return _tell(error, 1)
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
