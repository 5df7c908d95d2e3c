# SPDX-License-Identifier: Apache-2.0
"""`dpd policy …`: boot policy at a glance, and whose it is."""

from __future__ import annotations

from typing import Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json

app = typer.Typer(help="Boot policy at a glance, and whose it is.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: dpd policy show")
def show(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show policy's version, what it holds, and the site that it comes from."""
    status = Client(socket).get("policy")
    if as_json:
        print_json(status)
        return
    parts = ("computers", "collections", "deployments", "boundaries", "points", "sequences")
    print_fields(
        [
            ("Policy", f"version {status['policy_version']}, {_whose(status['authority'])}"),
            ("Affinity mode", status["affinity_mode"]),
            ("Maintenance", status["maintenance"] or "off"),
            *((each.capitalize(), status[each]) for each in parts),
        ]
    )


def _whose(authority: dict[str, Any] | None) -> str:
    if authority is None:
        return "its own"
    return f"of site {authority['site']}: its version {authority['version']}, {moment(authority['at'])}"


@app.command(epilog="Example: dpd policy release")
def release(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Make the policy that a site said this point's own, to change it here. Take bus.url out of the settings before, or the
    site's next word replaces it again."""
    status = Client(socket).delete("policy", "authority")
    if as_json:
        print_json(status)
    else:
        print(f"policy is this point's own now: {status['computers']} computers, {status['deployments']} deployments")
