# SPDX-License-Identifier: Apache-2.0
"""`dpd receive`: the target's receiver under the name of the command; all of it lives in `dpd.target.receiving.receive`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command; its arguments and its help are the target's own."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(context_settings=settings, add_help_option=False)(receive)


def receive(context: typer.Context) -> None:
    """Receive an image by multicast: dpd receive http://dp:8080 LAB00001 -o install.wim"""
    from dpd.target.receiving.receive import main

    raise typer.Exit(main(context.args))
