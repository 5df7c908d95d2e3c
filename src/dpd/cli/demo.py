# SPDX-License-Identifier: Apache-2.0
"""`dpd demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: dpd demo --image install.wim --receivers 8")(demo)


def demo(
    image: Annotated[
        Path | None, typer.Option(help="Your image instead of one made here.", exists=True, dir_okay=False)
    ] = None,
    receivers: Annotated[int, typer.Option(help="How many receive at once.", min=1, max=32)] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with everything in it.")] = False,
) -> None:
    """Show everything on this machine: publish an image, send it to several receivers, boot a client."""
    from dpd.cli.demo_run import run_demo

    run_demo(image, receivers, keep)
