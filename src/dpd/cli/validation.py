# SPDX-License-Identifier: Apache-2.0
"""`dpd validation …`: when content was compared, and what was found. `dpd content validate` orders it."""

from __future__ import annotations

from typing import Annotated

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table, size

app = typer.Typer(help="Validation: when, and what was found.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: dpd validation status")
def status(
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many validations.")] = 10,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show when everything was compared, when it will be, and the last validations."""
    found = Client(socket).get("validation", limit=limit)
    if as_json:
        print_json(found)
        return
    damaged = f"{found['damaged']}; `dpd validation damage` names them" if found["damaged"] else "none"
    print_fields(
        [
            ("Everything compared", _moment(found["validated_at"])),
            ("Next", _moment(found["next_at"])),
            ("Damaged files", damaged),
        ]
    )
    rows = (
        (
            run["job_id"],
            run["package_id"] or "everything",
            run["state"],
            moment(run["started_at"]),
            _moment(run["ended_at"]),
            run["contents"],
            size(run["read_bytes"]),
        )
        for run in found["runs"]
    )
    print_table(
        ("JOB>", "OF", "STATE", "BEGAN", "ENDED", "VERSIONS>", "READ>"),
        rows,
        empty="Nothing has been validated yet; `dpd content validate` does it now.",
    )


@app.command(epilog="Example: dpd validation damage --json")
def damage(
    limit: Annotated[int, typer.Option(min=1, max=10000, help="At most so many files.")] = 100,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show the files that are damaged, then those that were, and what came of them."""
    found = Client(socket).get("validation", "damage", limit=limit)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            f"{each['package_id']} {each['source_version']}",
            each["state"],
            each["reason"],
            size(each["size_bytes"]),
            moment(each["found_at"]),
            each["sha256"][:16],
            each["note"],
        )
        for each in found["damage"]
    )
    print_table(
        ("CONTENT", "STATE", "WHAT", "SIZE>", "FOUND", "SHA-256", "NOTE"), rows, empty="No file was ever found damaged."
    )


def _moment(at: float) -> str:
    return moment(at) if at else "never"
