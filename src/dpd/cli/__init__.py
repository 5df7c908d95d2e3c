# SPDX-License-Identifier: Apache-2.0
"""The `dpd` command. Modules behind a command are imported when it runs, so that `dpd --help` is there at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpd import __version__
from dpd.cli import (
    boot_file,
    boot_image,
    bundle,
    computer,
    content,
    demo,
    deployment,
    distribution,
    events,
    job,
    maintenance,
    mc_test,
    pxe,
    pxe_approval,
    receive,
    root,
    serve,
    session,
    source,
    status,
    validation,
    wim,
)
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
app.add_typer(boot_file.app, name="boot-file")
app.add_typer(boot_image.app, name="boot-image")
app.add_typer(session.app, name="session")
app.add_typer(pxe.app, name="pxe")
pxe_approval.register(pxe.app)
app.add_typer(computer.app, name="computer")
app.add_typer(deployment.app, name="deployment")
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
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""
    try:
        app(args=arguments, prog_name="dpd")
    except SettingsError as error:
        _fail(error, 2)
    except DpdError as error:
        _fail(error, 1)
    except BrokenPipeError:  # `dpd … | head`
        sys.stderr.close()
        sys.exit(1)


def _fail(error: DpdError, code: int) -> None:
    print(f"dpd: {error}", file=sys.stderr)
    sys.exit(code)
