# SPDX-License-Identifier: Apache-2.0
"""`dpd bus …`: how this distribution point stands with its site."""

from __future__ import annotations

from typing import Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json

app = typer.Typer(help="Look at the connection to the site.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _bus() -> None:
    """Without this, typer would take the only command for the whole."""


@app.command(epilog="Example: dpd bus status")
def status(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show the connection, the site's policy that is held here, and what the site does not have yet."""
    reply = Client(socket).get("bus")
    if as_json:
        print_json(reply)
        return
    if reply["state"] == "off":
        print('No bus: this point steers itself; bus.url = "nats://SERVER:4222" in the settings joins it to a site.')
        return
    print_fields(
        [
            ("Point", f"{reply['point']} of site {reply['site']}"),
            ("Bus", _connection(reply)),
            ("Policy", _policy(reply)),
            ("Status messages", _messages(reply)),
            ("Desired content", _desired(reply)),
            ("Counted", " ".join(f"{name}={count}" for name, count in reply["counted"].items() if count) or "-"),
        ]
    )


def _connection(reply: dict[str, Any]) -> str:
    domain = f", leaf domain {reply['domain']}" if reply["domain"] else ""
    if reply["state"] == "connected":
        return f"connected to {reply['server']}{domain}, since {moment(reply['since'])}"
    since = f", since {moment(reply['since'])}" if reply["since"] else ""
    return f"not connected to {reply['url']}{domain}{since}: {reply['trouble']}"


def _policy(reply: dict[str, Any]) -> str:
    if not reply["policy_version"]:
        held = "none of the site yet; this point's own holds"
    else:
        held = f"version {reply['policy_version']}, heard to hold {_age(reply['policy_age_s'])} ago"
    return f"{held}; the last one was refused: {reply['policy_refusal']}" if reply["policy_refusal"] else held


def _messages(reply: dict[str, Any]) -> str:
    backlog = f"; {reply['status_backlog']} wait" if reply["status_backlog"] else ""
    return f"the site has {reply['status_confirmed']} of {reply['status_latest']}{backlog}"


def _desired(reply: dict[str, Any]) -> str:
    if not reply["desired_packages"]:
        return "nothing"
    missing = f", {reply['desired_missing']} still missing" if reply["desired_missing"] else ", all here"
    return f"{reply['desired_packages']} packages{missing}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
