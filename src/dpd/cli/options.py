# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, spelled once."""

from typing import Annotated

import typer

SocketOption = Annotated[
    str, typer.Option("--socket", envvar="DPD_SOCKET", metavar="PATH", help="The daemon's control socket.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PackageArgument = Annotated[str, typer.Argument(metavar="PACKAGE", help="Package ID, such as LAB00001.")]
VersionOption = Annotated[
    int | None, typer.Option("--source-version", metavar="N", help="This version instead of the newest.")
]
ConfirmOption = Annotated[
    int | None,
    typer.Option(
        "--confirm", metavar="N", help="How many known computers it reaches, where that is many and they are meant."
    ),
]

DEFAULT_SOCKET = "/run/dpd/control.sock"
