# SPDX-License-Identifier: Apache-2.0
"""`dpd mc-test`: the target's network test under the name of the command; all of it lives in `dpd.target.network_test.mc_test`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command; its arguments and its help are the target's own."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("mc-test", context_settings=settings, add_help_option=False)(mc_test)


def mc_test(context: typer.Context) -> None:
    """Test whether the network is fit for multicast: dpd mc-test http://dp:8080"""
    from dpd.target.network_test.mc_test import main

    raise typer.Exit(main(context.args))
